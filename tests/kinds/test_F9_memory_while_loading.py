"""Loading holds no whole copy of a model: the most held is at most 1.3 times what stays."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import loading
import pytest
import torch
from loading import NATIVE, THEIRS, TORCH, Variant
from safetensors.torch import load_file, save_file

from foredraft.errors import ModelError
from foredraft.loading import LoadOptions, load, runtime
from foredraft.loading.checkpoint import Checkpoint
from foredraft.loading.quantized import QUANTIZE_CHOICES
from foredraft.loading.runtime import Runtime, can_fuse
from foredraft.native.fused import FusedModel
from tests.native.test_native import FAMILY
from tests.texts import first_pass
from tests.tiny import TEXT_VOCAB, build, tokenizer

SHAPE = loading.SHAPE | {"num_hidden_layers": 8, "vocab_size": 12_288}
MOST = 1.3  # times what stays
NOISE = 60 * loading.MEGABYTE  # tokenizer, libraries loaded late, pieces the allocator keeps
PROMPT = [5, 9, 3, 7, 1, 30, 22, 8]
CPU = LoadOptions(device="cpu", threads=1)
needs_marks = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
VARIANTS = [
    Variant(NATIVE),
    *(
        pytest.param(variant, marks=pytest.mark.slow)  # each makes and loads a folder of its own
        for variant in (
            *(Variant(runtime) for runtime in (TORCH, THEIRS)),
            *(Variant(runtime, tied=False) for runtime in (NATIVE, TORCH, THEIRS)),
            *(Variant(runtime, sharded=True) for runtime in (NATIVE, TORCH)),
            *(Variant(NATIVE, dtype) for dtype in ("float16", "float32")),
            *(Variant(TORCH, dtype, tied=False) for dtype in ("float16", "float32")),
            *(Variant(NATIVE, quantize=quantize) for quantize in ("int8", "int4")),
            *(Variant(NATIVE, file=kind) for kind in ("int8", "int4")),
        )
    ),
]


def bytes_that_may_stay(variant: Variant, files: int) -> int:
    """Return what a runtime needs for the weights of files that large."""
    head = SHAPE["vocab_size"] * SHAPE["hidden_size"]
    if variant.file:
        return files
    wide = 2 if variant.dtype != "float32" else 4
    numbers = files // wide + (head if variant.tied else 0)
    narrow = variant.runtime == NATIVE and (variant.dtype == "bfloat16" and can_fuse())
    if variant.quantize != "none":
        return int(numbers * {"int8": 34, "int4": 20}[variant.quantize] / 32)
    return numbers * (2 if narrow else 4)


@needs_marks
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_most_held_while_loading_is_near_what_stays(variant: Variant, tmp_path: Path) -> None:
    source, files = loading.written(tmp_path, variant, SHAPE)
    assert files > 25 * loading.MEGABYTE
    found = loading.measured(source, variant)
    assert found["peak"] <= MOST * found["stays"], found
    assert found["stays"] <= 1.15 * bytes_that_may_stay(variant, files) + NOISE, found


# --- what is read is what transformers reads ------------------------------------------------------


def save(member: str, dtype: torch.dtype, folder: Path, **changes: Any) -> Any:
    """Write a tiny network of the family; return it."""
    name, own = FAMILY[member]
    network = copy.deepcopy(build(name, vocab_size=TEXT_VOCAB, **(own | changes))).to(dtype)
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return network


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("member", FAMILY)
def test_logits_are_to_the_bit_those_of_the_module(
    member: str, dtype: str, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(member, getattr(torch, dtype), tmp_path)
    if not compiled:
        monkeypatch.setattr(runtime, "can_fuse", lambda: False)
    theirs = LoadOptions(device="cpu", threads=1, runtime="transformers")
    given = Runtime("native").adapt(load(str(tmp_path), "target", theirs).model.model)  # type: ignore[attr-defined]
    read = load(str(tmp_path), "target", CPU).model
    assert type(read) is type(given)
    assert torch.equal(logits_of(read), logits_of(given))


def logits_of(model: Any) -> torch.Tensor:
    logits: torch.Tensor = first_pass(model, PROMPT, len(PROMPT))
    return logits


def refuse_modules(*_: Any, **__: Any) -> None:
    raise AssertionError("a module with all weights was made")


@pytest.mark.parametrize("quantize", QUANTIZE_CHOICES)
@pytest.mark.parametrize("member", FAMILY)
def test_no_module_is_made_for_the_native_runtime(
    member: str, quantize: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    save(member, torch.bfloat16, tmp_path)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse_modules)
    if quantize != "none" and not can_fuse():
        pytest.skip("no C compiler here")
    options = LoadOptions(device="cpu", threads=1, quantize=quantize)
    assert load(str(tmp_path), "target", options).model.vocab_size == TEXT_VOCAB


def test_a_check_of_the_runtime_makes_a_module_for_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("llama", torch.bfloat16, tmp_path)
    proved = []
    monkeypatch.setattr(runtime, "prove_equal", lambda model, network: proved.append(network))
    load(str(tmp_path), "target", LoadOptions(device="cpu", threads=1, check_runtime=True))
    assert len(proved) == 1
    assert not isinstance(proved[0], Checkpoint)
    assert proved[0].get_input_embeddings().weight.device.type == "cpu"


def test_a_tied_head_is_the_embedding_itself(tmp_path: Path) -> None:
    if not can_fuse():
        pytest.skip("no C compiler here")
    save("llama_tied", torch.bfloat16, tmp_path)
    model = load(str(tmp_path), "target", CPU).model
    assert isinstance(model, FusedModel)
    structure = model._passes.laid.structure
    assert structure.embedding.data == structure.head.data


@pytest.mark.parametrize("same", [True, False])
def test_a_head_beside_a_tied_embedding_counts_if_its_numbers_differ(
    same: bool, tmp_path: Path
) -> None:
    network = save("llama_tied", torch.bfloat16, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    head = network.lm_head.weight.detach().clone()
    weights["lm_head.weight"] = head if same else head * 2
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = load(str(tmp_path), "target", LoadOptions(device="cpu", runtime="transformers")).model
    ours = load(str(tmp_path), "target", CPU).model
    torch.testing.assert_close(logits_of(ours), logits_of(theirs), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["transformers", "native"])
def test_a_file_cut_short_after_it_was_checked_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foredraft.loading import checkpoint

    save("llama", torch.bfloat16, tmp_path)
    file = tmp_path / "model.safetensors"
    headers = checkpoint.stored_tensors

    def cut(*arguments: Any) -> Any:
        found = headers(*arguments)
        file.write_bytes(file.read_bytes()[:-700])
        return found

    monkeypatch.setattr(checkpoint, "stored_tensors", cut)
    with pytest.raises(ModelError, match=r"model\.safetensors.* ends inside '.*'.*fetch the model"):
        load(str(tmp_path), "target", LoadOptions(device="cpu", threads=1, runtime=name))


@pytest.mark.parametrize("name", ["transformers", "native"])
def test_the_file_is_not_held_after_loading(name: str, tmp_path: Path) -> None:
    save("llama", torch.float32, tmp_path)
    loaded = load(str(tmp_path), "target", LoadOptions(device="cpu", threads=1, runtime=name))
    before = logits_of(loaded.model)
    file = tmp_path / "model.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as opened:  # in place: whoever maps the file would see it
        opened.write(bytes(size))
    assert torch.equal(logits_of(loaded.model), before)
    maps = Path("/proc/self/maps")
    assert not maps.is_file() or str(file) not in maps.read_text()
