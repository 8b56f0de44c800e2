"""Every architecture and every kind of number of a GGUF file, against transformers and gguf."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from foredraft.errors import ConfigError, ModelError
from foredraft.loading import LoadOptions, load, runtime
from foredraft.loading.gguf_config import read_config
from foredraft.loading.gguf_families import PARTS
from foredraft.loading.gguf_header import PLAIN, read_gguf_header
from foredraft.loading.gguf_weights import GgufWeights, dequantised
from foredraft.native.blocks import KINDS, Blocks
from tests.gguf_files import ARCHITECTURES, SIZES, network, write
from tests.native.test_fused import needs_a_compiler
from tests.texts import first_pass

IDS = torch.tensor([[2, 7, 30, 41, 5, 9, 200, 11, 3, 17, 4, 8]])
SILENT = {"initializer_range", "head_dim", "architectures", "dtype", "_sliding_window_pattern"}


def opened(path: Path, dtype: torch.dtype = torch.float32) -> GgufWeights:
    header = read_gguf_header(path)
    return GgufWeights(header, read_config(header)[1], dtype)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_file_is_the_network_that_was_written(name: str, tied: bool, tmp_path: Path) -> None:
    model = network(name, tie_word_embeddings=tied)
    write(tmp_path / "m.gguf", name, model=model)
    source = opened(tmp_path / "m.gguf")
    theirs, ours = model.config.to_dict(), source.config.to_dict()
    assert {k: v for k, v in ours.items() if k not in SILENT} == {
        **{k: v for k, v in theirs.items() if k not in SILENT},
        "rms_norm_eps": pytest.approx(1e-5),
    }
    for known, tensor in model.state_dict().items():
        if not (tied and known == "lm_head.weight"):
            found = source.plain(known)
            assert found is not None
            torch.testing.assert_close(found, tensor, rtol=0, atol=1e-6)
    with torch.inference_mode():
        logits, reference = source.whole()(IDS).logits, model(IDS).logits
    torch.testing.assert_close(logits, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_what_gguf_makes_of_it(kind: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
    write(tmp_path / "m.gguf", "llama", kind, model=network("llama", **changes))
    source = opened(tmp_path / "m.gguf")
    reader = {one.name: one for one in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    for known, known_as in (
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"),
        ("model.embed_tokens.weight", "token_embd.weight"),
    ):
        tensor = reader[known_as]
        assert tensor.tensor_type.name == kind
        found = source.find(known)
        assert isinstance(found, Blocks) == (kind not in PLAIN)
        reference = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        numbers = dequantised(found) if isinstance(found, Blocks) else found.float()
        assert torch.equal(numbers, reference)
        assert source.dtype_of(known) == (found.dtype if kind in PLAIN else torch.float32)
        if isinstance(found, Blocks):
            assert found.kind == kind
            assert found.shape == tuple(reference.shape)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma3", "phi3"])
@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_transformers_reads_the_same_numbers(name: str, kind: str, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", name, kind)
    source = opened(tmp_path / "m.gguf")
    read = load_gguf_checkpoint(str(tmp_path / "m.gguf"), return_tensors=True, model_to_load=model)
    assert len(read["tensors"]) >= 27
    for known, tensor in read["tensors"].items():
        found = source.plain(known)
        assert found is not None
        torch.testing.assert_close(found, tensor, rtol=0, atol=0)


def test_what_lies_in_the_file_is_not_copied(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", "llama", "Q8_0")
    source = opened(tmp_path / "m.gguf")
    for known in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        one, other = source.find(known), source.find(known)
        pointers = [(x.rows if isinstance(x, Blocks) else x).data_ptr() for x in (one, other)]
        assert pointers[0] == pointers[1]
    assert source.find("model.layers.1.mlp.nothing.weight") is None
    assert source.find("model.layers.1.mlp.up_proj.bias") is None
    assert source.find("nothing") is None
    assert source.find("model.rotary_emb.inv_freq") is None


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_the_parts_of_joined_matrices_are_found(kind: str, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", "phi3", kind)
    source = opened(tmp_path / "m.gguf")
    for joined, parts in PARTS.items():
        whole = model.state_dict()[f"model.layers.2.{joined}.weight"]
        found = [source.find(f"model.layers.2.{part}.weight") for part in parts]
        if kind == "F32":
            assert torch.equal(torch.cat(found), whole)
        else:
            held = source.find(f"model.layers.2.{joined}.weight")
            assert torch.equal(torch.cat([one.rows for one in found]), held.rows)
        assert [len(one.rows if kind != "F32" else one) for one in found] == (
            [64, 32, 32] if len(parts) == 3 else [96, 96]
        )


def test_the_conventions_are_said(tmp_path: Path) -> None:
    said = {}
    for name in ARCHITECTURES:
        write(tmp_path / "m.gguf", name)
        source = opened(tmp_path / "m.gguf")
        said[name] = (source.neighbours, source.gains_hold_one)
    assert said == dict.fromkeys(ARCHITECTURES, (False, False)) | {
        **{"llama": (True, False), "smollm3": (True, False), "gemma3": (False, True)}
    }


def rope(kind: str, **values: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10_000.0, **values}}


def test_linear_and_yarn_scaling_are_transformers_own(tmp_path: Path) -> None:
    def linear(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    def yarn(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(32)

    for add, values in (
        (linear, rope("linear", factor=4.0)),
        (yarn, rope("yarn", factor=4.0, original_max_position_embeddings=32)),
    ):
        for name in ("llama", "qwen3"):
            model = build(name, values)
            write(tmp_path / "m.gguf", name, add=add, model=model)
            with torch.inference_mode():
                logits = opened(tmp_path / "m.gguf").whole()(IDS).logits
                torch.testing.assert_close(logits, model(IDS).logits, rtol=1e-4, atol=1e-4)


def build(name: str, values: dict[str, Any]) -> Any:
    """Return the network of an architecture with other rotations."""
    model = network(name)
    config = copy.deepcopy(model.config)
    config.rope_parameters = dict(values["rope_parameters"])
    made = type(model)(config).eval()
    made.load_state_dict(model.state_dict())
    return made


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def llama3_factors() -> torch.Tensor:
    """Return what llama.cpp's converter writes for heads of 16."""
    frequencies = 1 / 10_000.0 ** (torch.arange(0, 16, 2) / 16)
    found = []
    for frequency in frequencies.tolist():
        wavelength = 2 * torch.pi / frequency
        if wavelength < 8192 / 4:
            found.append(1.0)
        elif wavelength > 8192:
            found.append(8.0)
        else:
            smooth = (8192 / wavelength - 1) / 3
            found.append(1 / ((1 - smooth) / 8 + smooth))
    return torch.tensor(found)


def test_llama_3s_factors_are_known_again_and_others_refused(tmp_path: Path) -> None:
    factors = llama3_factors()
    assert len(factors.unique()) > 2, "one is between"

    def add(values: torch.Tensor) -> Any:
        return lambda writer: writer.add_tensor("rope_freqs.weight", values.numpy())

    model = build("llama", rope("llama3", **LLAMA3))
    write(tmp_path / "m.gguf", "llama", add=add(factors), model=model)
    source = opened(tmp_path / "m.gguf")
    assert source.config.rope_parameters == model.config.rope_parameters
    with torch.inference_mode():
        logits = source.whole()(IDS).logits
    torch.testing.assert_close(logits, model(IDS).logits, rtol=1e-4, atol=1e-4)
    write(tmp_path / "m.gguf", "llama", add=add(factors + 1))
    with pytest.raises(ModelError, match=r"rope_freqs.weight holds other factors"):
        opened(tmp_path / "m.gguf")


def test_biases_are_found_where_they_are(tmp_path: Path) -> None:
    model = network("llama", attention_bias=True, mlp_bias=True)
    write(tmp_path / "m.gguf", "llama", model=model)
    source = opened(tmp_path / "m.gguf")
    assert source.config.attention_bias
    assert source.config.mlp_bias
    with torch.inference_mode():
        logits = source.whole()(IDS).logits
    torch.testing.assert_close(logits, model(IDS).logits, rtol=1e-4, atol=1e-4)


def test_part_of_a_head_rotates_in_phi(tmp_path: Path) -> None:
    values = rope("default", partial_rotary_factor=0.5)
    model = build("phi3", values)
    write(tmp_path / "m.gguf", "phi3", add=lambda w: w.add_rope_dimension_count(8), model=model)
    with torch.inference_mode():
        logits = opened(tmp_path / "m.gguf").whole()(IDS).logits
    torch.testing.assert_close(logits, model(IDS).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", ["transformers", "auto"])
def test_a_loaded_file_speaks_as_the_network(runtime: str, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", "llama")
    loaded = load(str(tmp_path / "m.gguf"), "target", LoadOptions(device="cpu", runtime=runtime))
    assert loaded.eos_token_ids == (1,)
    assert loaded.model.max_length == SIZES["max_position_embeddings"]
    text = loaded.model.open(IDS[0, :1].tolist())
    logits = text.extend(IDS[0].tolist(), keep=len(IDS[0]))
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(IDS).logits[0], rtol=1e-4, atol=1e-4)


BLOCKED = {"hidden_size": 256, "intermediate_size": 256}
EVERY = [(name, "Q8_0") for name in ARCHITECTURES] + [("llama", kind) for kind in KINDS]


@needs_a_compiler
@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_a_file_is_computed_as_transformers_does(name: str, kind: str, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", name, kind, model=network(name, **BLOCKED))
    path, tokens = str(tmp_path / "m.gguf"), IDS[0].tolist()
    exact, rounded, theirs = (
        first_pass(load(path, "target", LoadOptions(device="cpu", **how)).model, tokens, keep=12)
        for how in ({"activations": "float32"}, {}, {"runtime": "transformers"})
    )
    assert (exact - theirs).norm() <= 1e-5 * theirs.norm()
    # A network of random bits makes much of a rounded activation: how much is for real ones to say.
    assert torch.equal(rounded, exact) == (kind in PLAIN)


@needs_a_compiler
@pytest.mark.parametrize("kind", ["F32", "Q4_K"])
def test_a_check_compares_what_can_be_compared(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "m.gguf", "llama", kind, model=network("llama", **BLOCKED))
    path = str(tmp_path / "m.gguf")
    proved = []
    monkeypatch.setattr(runtime, "prove_equal", lambda *pair: proved.append(pair))
    loaded = load(path, "target", LoadOptions(device="cpu", check_runtime=True))
    [(ours, theirs)] = proved
    assert not ours.rounds
    assert (ours is loaded.model) == (kind == "F32")
    assert type(theirs).__name__ == "LlamaForCausalLM"
    if kind == "F32":
        with pytest.raises(ConfigError, match=r"--check-runtime .* or --quantize"):
            load(path, "target", LoadOptions(device="cpu", check_runtime=True, quantize="int4"))
