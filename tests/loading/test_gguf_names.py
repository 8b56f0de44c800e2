"""Where a GGUF file may be named: a path, a folder, a short name, a place on the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from foredraft.errors import ConfigError, ModelError
from foredraft.loading import LoadOptions, load, load_pair
from foredraft.loading import named as names
from foredraft.loading.named import MODELS, REAL_MODELS, file_of, models_folder, resolve_name
from tests.folders import CPU, write_folder
from tests.gguf_files import network, write


def refusal(name: str) -> str:
    with pytest.raises(ModelError) as refused:
        resolve_name(name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv(MODELS, str(folder))
    return folder


def test_a_path_and_a_folder_with_one_file(tmp_path: Path) -> None:
    file = tmp_path / "Model.GGUF"
    file.write_bytes(b"")
    assert resolve_name(str(file)) == resolve_name(str(tmp_path)) == str(file)
    assert file_of(str(file)) == file


def test_a_folder_with_several_files_lists_them(tmp_path: Path) -> None:
    assert "config.json is missing, and so is any .gguf file" in refusal(str(tmp_path))
    for name in ("b.gguf", "a.gguf"):
        (tmp_path / name).write_bytes(b"")
    assert "holds several models; name one of a.gguf, b.gguf" in refusal(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert resolve_name(str(tmp_path)) == str(tmp_path)
    assert file_of(str(tmp_path)) is None


@pytest.mark.parametrize("name", REAL_MODELS)
def test_a_short_name_is_found_where_models_lie(name: str, models: Path) -> None:
    assert f"get it with: python scripts/real_models.py {name}" in refusal(name)
    (models / name).mkdir()
    assert "holds no model" in refusal(name)
    (models / name / "of-any-name.gguf").write_bytes(b"")
    assert resolve_name(name) == str(models / name / "of-any-name.gguf")
    (models / f"{name}.gguf").write_bytes(b"")
    assert resolve_name(name) == str(models / f"{name}.gguf")


def test_other_short_names_are_the_hubs_unless_they_are_here(models: Path) -> None:
    assert resolve_name("gpt2") == "gpt2"
    (models / "gpt2.gguf").write_bytes(b"")
    assert resolve_name("gpt2") == str(models / "gpt2.gguf")


def test_models_lie_in_the_cache_where_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(MODELS, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "foredraft" / "models"


def test_a_file_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def fetched(name: str, file: str) -> Path:
        asked.append((name, file))
        return tmp_path

    monkeypatch.setattr(names, "fetched_file", fetched)
    for name in ("owner/model-GGUF:model.Q4_1.gguf", "owner/m:q4/model Q4.gguf"):
        assert file_of(resolve_name(name)) == tmp_path
    assert asked == [("owner/model-GGUF", "model.Q4_1.gguf"), ("owner/m", "q4/model Q4.gguf")]
    assert file_of("owner/model") is None
    with pytest.raises(ModelError, match=r"names no .gguf file"):
        file_of("owner/model:model.safetensors")
    for name in ("owner/m:../x.gguf", "owner/m:/etc/x.gguf", "../m:x.gguf", "a:b:c.gguf"):
        assert "no model folder" in refusal(name)


@pytest.mark.network
def test_a_file_that_the_hub_does_not_have() -> None:
    with pytest.raises(ModelError, match=r"cannot fetch 'x.gguf'"):
        file_of("foredraft-nobody/nothing:x.gguf")


def test_target_and_drafter_may_both_be_files(tmp_path: Path) -> None:
    write(tmp_path / "t.gguf", "qwen3")
    write(tmp_path / "d.gguf", "llama", "Q8_0")
    folder = write_folder(tmp_path / "folder")
    target, drafter = load_pair(str(tmp_path / "t.gguf"), str(tmp_path / "d.gguf"), CPU)
    assert target.model.vocab_size == drafter.model.vocab_size
    load_pair(str(folder), str(tmp_path / "d.gguf"), CPU)
    target, drafter = load_pair("bundled", str(tmp_path / "d.gguf"), CPU)  # another tokenizer
    assert drafter.model.vocab_size < target.model.vocab_size


def test_what_is_quantised_is_not_rounded_again(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", "llama", "Q4_1", model=network("llama", num_hidden_layers=1))
    for kind in ("int8", "int4"):
        with pytest.raises(ConfigError, match=r"is quantised already \(Q4_1\); leave it out"):
            load(str(tmp_path / "m.gguf"), "target", LoadOptions(device="cpu", quantize=kind))
    with pytest.raises(ConfigError, match="unknown quantization 'int3'"):
        load(str(tmp_path / "m.gguf"), "target", LoadOptions(device="cpu", quantize="int3"))


def test_int4_is_refused_where_nothing_computes_it(tmp_path: Path) -> None:
    options = LoadOptions(device="cpu", quantize="int4", runtime="transformers")
    write(tmp_path / "m.gguf", "llama")
    for name in ("bundled", str(tmp_path / "m.gguf")):
        with pytest.raises(ConfigError, match=r"--quantize int4.*native runtime on a CPU only"):
            load(name, "target", options)
