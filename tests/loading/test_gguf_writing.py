"""`foredraft models quantize`: what it rounds, what it writes and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from foredraft.cli.main import main
from foredraft.cli.models import ROUNDED
from foredraft.errors import ConfigError, ForedraftError, ModelError
from foredraft.loading import load
from foredraft.loading.checkpoint import Checkpoint, open_checkpoint
from foredraft.loading.folder import read_folder
from foredraft.loading.gguf_config import read_config
from foredraft.loading.gguf_header import read_gguf_header
from foredraft.loading.gguf_tokenizer import read_tokenizer
from foredraft.loading.gguf_weights import GgufWeights, dequantised
from foredraft.loading.gguf_writing import quantize_to
from foredraft.loading.quantising import Quantised
from foredraft.loading.quantized import QUANTIZE_CHOICES
from foredraft.native.blocks import NUMBERS_AT_ONCE, Blocks, quantised
from tests.folders import CPU, edit, write_folder
from tests.gguf_files import ARCHITECTURES, SIZES, network, write
from tests.tiny import LINES, TEXT_VOCAB, tokenizer

IDS = torch.tensor([[2, 7, 30, 41, 5, 9, 200, 11, 3, 17, 4, 8]])
KINDS = ("Q8_0", "Q4_1")


def unread() -> Any:
    raise AssertionError("no module is made")


def quiet(done: int, total: int) -> None:
    """Show nothing."""


def opened(path: Path) -> GgufWeights:
    header = read_gguf_header(path)
    return GgufWeights(header, read_config(header)[1], torch.float32)


def folder_of(path: Path, name: str, **changes: Any) -> Path:
    network(name, **changes).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def odd_matrices() -> list[Tensor]:
    torch.manual_seed(0)
    return [
        torch.randn(70, 64),
        torch.randn(7, 32).bfloat16(),
        torch.randn(5, 96).half() / 1000,
        torch.zeros(3, 64),
        torch.full((2, 32), 1.5),
        torch.round(torch.randn(50, 64) * 4) / 2,  # halves are rounded away from zero
        torch.randn(3, 64) * 1e-40,
        torch.randn(2, 3 * NUMBERS_AT_ONCE // 4),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_those_of_gguf_to_the_bit(kind: str) -> None:
    for weight in odd_matrices():
        with np.errstate(all="ignore"):
            wanted = gguf.quants.quantize(weight.float().numpy(), gguf.GGMLQuantizationType[kind])
        found = quantised(weight, kind)
        assert np.array_equal(found.rows.numpy(), wanted)
        assert (found.kind, found.shape) == (kind, tuple(weight.shape))


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_rounded_is_refused(kind: str) -> None:
    with pytest.raises(ModelError, match="rows of 40 cannot be rounded"):
        quantised(torch.zeros(2, 40), kind)
    for odd in (float("nan"), float("inf"), 1e30):
        weight = torch.zeros(2, 32)
        weight[1, 3] = odd
        with pytest.raises(ModelError, match="not finite, or is larger"):
            quantised(weight, kind)


@pytest.mark.parametrize(("quantize", "kind"), [("int8", "Q8_0"), ("int4", "Q4_1")])
def test_a_source_rounds_matrices_and_leaves_the_rest(
    quantize: str, kind: str, tmp_path: Path
) -> None:
    model = network("qwen2", intermediate_size=80)
    model.save_pretrained(tmp_path)
    folder = read_folder(tmp_path, trusted=False)
    plain = open_checkpoint(folder, torch.float32, unread)
    assert isinstance(plain, Checkpoint)
    source = Quantised(plain, quantize)
    kinds = {
        name: found.kind if isinstance(found, Blocks) else None
        for name in model.state_dict()
        if (found := source.find(name)) is not None
    }
    assert kinds["model.embed_tokens.weight"] == kinds["lm_head.weight"] == "Q8_0"
    layer = {name.split(".", 3)[3]: one for name, one in kinds.items() if ".layers.1." in name}
    assert {name for name, one in layer.items() if one == kind} == {
        *(f"self_attn.{part}_proj.weight" for part in "qkvo"),
        *(f"mlp.{part}_proj.weight" for part in ("gate", "up")),
    }
    assert layer["mlp.down_proj.weight"] is None, "its rows are no whole blocks"
    assert source.find("nothing") is None


def test_the_choices_are_the_same_everywhere() -> None:
    assert ("none", *ROUNDED) == QUANTIZE_CHOICES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_becomes_a_file_of_the_same_network(name: str, tmp_path: Path) -> None:
    model = network(name)
    folder, out = folder_of(tmp_path / "folder", name), tmp_path / "m.gguf"
    quantize_to(str(folder), "int8", out, quiet)
    source = opened(out)
    for known, tensor in model.state_dict().items():
        if known == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        found = source.plain(known)
        assert found is not None
        wanted = dequantised(quantised(tensor, "Q8_0")) if tensor.ndim > 1 else tensor
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    theirs = read_tokenizer(source.header, TEXT_VOCAB)
    assert [theirs.encode(line) for line in LINES] == [tokenizer().encode(line) for line in LINES]
    assert theirs.chat_template == tokenizer().chat_template
    assert load(str(out), "target", CPU).eos_token_ids == (1,)
    assert list(tmp_path.iterdir()) in ([folder, out], [out, folder]), "and nothing is left over"


def test_llama_3s_rotations_are_written(tmp_path: Path) -> None:
    rope = {
        **{"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0},
        **{"high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    }
    folder = folder_of(tmp_path / "folder", "llama")
    edit(folder / "config.json", lambda fields: fields.update(rope_parameters=rope))
    quantize_to(str(folder), "int4", tmp_path / "m.gguf", quiet)
    assert opened(tmp_path / "m.gguf").config.rope_parameters == rope
    edit(folder / "config.json", lambda fields: fields["rope_parameters"].update(low_freq_factor=2))
    with pytest.raises(ModelError, match="differ from Llama 3's"):
        quantize_to(str(folder), "int4", tmp_path / "n.gguf", quiet)


def test_a_file_keeps_its_metadata(tmp_path: Path) -> None:
    source, out = tmp_path / "m.gguf", tmp_path / "out.gguf"
    write(source, "gemma3", "F16", add=lambda w: w.add_array("general.tags", ["a", "b"]))
    quantize_to(str(source), "int4", out, quiet)
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(out)
    changed = {"general.file_type", "general.quantization_version", "GGUF.kv_count"}
    for name, field in before.fields.items():
        if name not in changed:
            assert after.fields[name].contents() == field.contents()
            assert after.fields[name].types == field.types
    kinds = {one.name: one.tensor_type.name for one in after.tensors}
    assert kinds["token_embd.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_down.weight"] == kinds["blk.1.attn_q.weight"] == "Q4_1"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    held = {one.name: one for one in before.tensors}
    for one in after.tensors:
        given = held[one.name].data.astype(np.float32)
        wanted = (
            given if one.tensor_type.name == "F32" else gguf.quants.quantize(given, one.tensor_type)
        )
        assert np.array_equal(one.data, wanted)


def test_what_is_quantised_is_not_rounded_again(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", "llama", "Q8_0")
    with pytest.raises(ModelError, match=r"quantised already.*rounding twice loses twice"):
        quantize_to(str(tmp_path / "m.gguf"), "int4", tmp_path / "out.gguf", quiet)
    assert [one.name for one in tmp_path.iterdir()] == ["m.gguf"]


def test_nothing_is_written_over_unsaid(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    write(tmp_path / "m.gguf", "llama")
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there already; to write over it, say --overwrite"):
        quantize_to(str(tmp_path / "m.gguf"), "int4", out, quiet)
    assert out.read_text() == "mine"
    quantize_to(str(tmp_path / "m.gguf"), "int4", out, quiet, overwrite=True)
    assert opened(out).config.vocab_size == SIZES["vocab_size"]
    for odd, said in (("out.bin", "must end in .gguf"), ("no/out.gguf", "there is no folder")):
        with pytest.raises(ConfigError, match=said):
            quantize_to(str(tmp_path / "m.gguf"), "int4", tmp_path / odd, quiet)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ({"model_type": "gpt_neox"}, "model_type 'gpt_neox' is not written here"),
    ],
)
def test_what_no_file_can_say_is_refused(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path / "folder", "llama"), tmp_path / "m.gguf"
    edit(folder / "config.json", lambda found: found.update(fields))
    with pytest.raises(ForedraftError, match=said):
        quantize_to(str(folder), "int8", out, quiet)
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_tokenizer_without_a_name_there_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", "llama")
    edit(folder / "tokenizer.json", lambda found: found.update(pre_tokenizer=None))
    with pytest.raises(ModelError, match=r"has no name in a GGUF file.*convert_hf_to_gguf.py"):
        quantize_to(str(folder), "int8", tmp_path / "m.gguf", quiet)


def test_the_command_writes_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_folder(tmp_path / "folder"), tmp_path / "m.gguf"
    main(["models", "quantize", str(folder), "--kind", "int4", "--out", str(out)])
    assert f"{out.stat().st_size:,} bytes" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["models", "quantize", str(folder), "--kind", "int4", "--out", str(out)])
    assert "say --overwrite" in capsys.readouterr().err
