"""A refusal of a folder says what is wrong, in which file, and what is legal, in our words."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from foredraft.loading import checkpoint, loader
from foredraft.models.rotary import KINDS
from tests.folders import edit, refusal, write_folder

BANDS = {"original_max_position_embeddings": 64, "factor": 8.0}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_position_embeddings", 1024.0, ("an integer", "1024.0")),
        ("vocab_size", "300", ("an integer", "'300'")),
        ("hidden_act", "warp", ("'warp'", "silu")),
        ("rms_norm_eps", -1e-6, ("0 … 1",)),
        ("attention_dropout", 2.0, ("0 … 1",)),
        ("model_type", "warp", ("'warp'", "llama")),
        ("model_type", None, ("None", "llama")),
        ("torch_dtype", "warp", ("float32", "'warp'")),
        ("torch_dtype", "int8", ("float32", "'int8'")),
        ("is_encoder_decoder", True, ("llama", "encoder–decoder")),
        ("model_type", "vit", ("'vit'", "causal")),
        ("num_hidden_layers", 10**6, ("1 … 512", "1000000")),
        ("rope_theta", 0, ("above 0",)),
        ("rope_theta", "x", ("number", "'x'")),
        ("tie_word_embeddings", "yes", ("true or false",)),
        ("use_cache", 1, ("true or false",)),
    ],
)
def test_a_field_is_refused_with_what_is_legal(
    folder: Path, field: str, value: Any, words: tuple[str, ...]
) -> None:
    edit(folder / "config.json", lambda found: found.update({field: value}))
    said = refusal(folder, "config.json", field, *words)
    assert "failed with" not in said


@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ({"rope_type": "warp"}, ("rope_type", "'warp'", *KINDS)),
        ({"type": "warp", "factor": 2.0}, ("rope_type", "'warp'")),
        ({"rope_type": 3}, ("rope_type", "3")),
        ({"rope_type": "yarn", "factor": -2.0}, ("factor", "at least 1", "-2.0")),
        ({"rope_type": "linear", "factor": 0}, ("factor", "at least 1")),
        ({"rope_type": "linear", "factor": "2"}, ("factor", "number", "'2'")),
        ({"rope_type": "linear"}, ("factor is missing",)),
        ({"rope_type": "llama3", "factor": 8.0}, ("is missing", "llama3")),
        (
            {"rope_type": "llama3", "low_freq_factor": 4.0, "high_freq_factor": 4.0, **BANDS},
            ("low_freq_factor", "below"),
        ),
        ({"rope_type": "longrope"}, ("short_factor is missing",)),
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 0}, ("beta_fast", "above 0")),
        ({"rope_type": "default", "rope_theta": -1.0}, ("rope_theta", "above 0")),
        ({"full_attention": {"rope_type": "warp"}}, ("full_attention.rope_type", "'warp'")),
        ("yarn", ("object", "'yarn'")),
    ],
)
def test_rotary_settings_are_refused_with_what_is_legal(
    folder: Path, name: str, rope: Any, words: tuple[str, ...]
) -> None:
    edit(folder / "config.json", lambda found: found.pop("rope_parameters", None))
    edit(folder / "config.json", lambda found: found.update({name: rope}))
    said = refusal(folder, "config.json", name, *words)
    assert "failed with" not in said


@pytest.mark.parametrize(
    "error", [ValueError("warp"), KeyError("warp"), MemoryError(), RecursionError(), OSError(5)]
)
@pytest.mark.parametrize("step", ["AutoTokenizer", "check_loaded"])
def test_a_message_never_is_somebody_elses(
    folder: Path, step: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raising:
        @staticmethod
        def from_pretrained(*args: Any, **kwargs: Any) -> Any:
            raise error

    if step == "AutoTokenizer":
        monkeypatch.setattr(loader, step, Raising)
    else:
        monkeypatch.setattr(checkpoint, "read_tensor", Raising.from_pretrained)
    said = refusal(folder, str(folder), "failed with", type(error).__name__)
    assert said.startswith(("reading the", "setting up the network"))
