"""Quantised matrices in the compiled pass: what they hold, their products, bit-equal passes."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foredraft.native.blocks import KINDS, Blocks
from foredraft.native.fused import FusedModel
from foredraft.native.passes import PASS_ROWS
from foredraft.native.weights import Source, Weight
from tests.native.test_fused import LACKS, check_bits, needs_a_compiler, processor
from tests.texts import first_pass
from tests.tiny import assert_same_logits, build, full_logits, random_tokens

__all__ = ["processor"]
QUANTISED = KINDS[3:]
SUPER = 256  # weights of the blocks whose kinds end in K


def scales(source: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Return floats of 16 bits as bytes, some of them tiny, some negative, `[count, 2]`."""
    numbers = source.normal(size=count) * source.choice([1e-2, 1e-2, 1e-6], size=count)
    return numbers.astype(np.float16).view(np.uint8).reshape(count, 2)


# Which bytes of a block are floats; all others may be anything.
FLOATS = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}


def random_blocks(kind: str, rows: int, columns: int, seed: int, *, largest: bool) -> Blocks:
    """Return a matrix of random bits, or of the largest integers."""
    size, count = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    source = np.random.default_rng(seed)
    blocks = source.integers(0, 256, size=(rows * columns // size, count), dtype=np.uint8)
    if largest:
        blocks[:] = 127 if kind == "Q8_0" else 255
    for place in FLOATS.get(kind, (0,)):
        blocks[:, place : place + 2] = scales(source, len(blocks))
    return Blocks(kind, columns, torch.from_numpy(blocks.reshape(rows, -1)))


def numbers_of(blocks: Blocks) -> Tensor:
    """Return the matrix as gguf computes it, float32."""
    kind = gguf.GGMLQuantizationType[blocks.kind]
    return torch.from_numpy(gguf.quants.dequantize(blocks.rows.numpy(), kind))


class Quantised(Source):
    """A network some of whose matrices are blocks; the module gets what they stand for."""

    def __init__(
        self, network: Any, kind_of: Callable[[str], str | None], *, largest: bool = False
    ) -> None:
        self.outline, self.config = copy.deepcopy(network).eval(), network.config
        self.dtype, self.device = torch.float32, network.device
        self._blocks: dict[str, Blocks] = {}
        for seed, (name, weight) in enumerate(self.outline.named_parameters()):
            kind = kind_of(name) if weight.dim() == 2 else None
            if kind:
                self._blocks[name] = random_blocks(kind, *weight.shape, seed, largest=largest)
                weight.data = numbers_of(self._blocks[name])

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.outline.parameters()

    def find(self, name: str) -> Weight | None:
        if name in self._blocks:
            return self._blocks[name]
        found = self.outline.state_dict().get(name)
        tied = name == "lm_head.weight" and self.config.tie_word_embeddings
        return None if tied else found


def network(**changes: Any) -> Any:
    """Return a network whose rows are multiples of 256, and nothing else is one of anything."""
    sizes = {"hidden_size": SUPER, "intermediate_size": SUPER, "head_dim": 32, "vocab_size": 77}
    sizes |= {"num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": True}
    return build("qwen3", **sizes | changes)


def gap(ours: Tensor, expected: Tensor) -> float:
    """Return how far logits are off, as a share of them."""
    return float((ours - expected).norm() / expected.norm())


# Every kind on this processor, and a network of all kinds on those that it stands for.
EACH = [("nothing", kind) for kind in QUANTISED] + [(name, "mixed") for name in LACKS]
each_kind = pytest.mark.parametrize(("processor", "kind"), EACH, indirect=["processor"])


def source_of(kind: str) -> Quantised:
    """Return a network whose matrices are of a kind, or each of another one."""
    kinds = itertools.cycle([*QUANTISED, None])
    return Quantised(network(), lambda name: next(kinds) if kind == "mixed" else kind)


def unanimous(kind: str) -> Quantised:
    """Return a network whose layer adds nothing: ±1 go to a matrix of the largest integers."""
    given = copy.deepcopy(network(tie_word_embeddings=False, num_hidden_layers=1))
    with torch.no_grad():
        given.model.norm.weight.fill_(1)
        given.model.layers[0].self_attn.o_proj.weight.zero_()
        given.model.layers[0].mlp.down_proj.weight.zero_()
        given.model.embed_tokens.weight[0::2] = 1
        given.model.embed_tokens.weight[1::2] = -1
    return Quantised(given, lambda name: kind if name == "lm_head.weight" else None, largest=True)


@needs_a_compiler
@each_kind
def test_activations_in_float32_give_the_logits_of_the_numbers(kind: str, processor: str) -> None:
    source = source_of(kind)
    tokens = random_tokens(random.Random(kind), 30)
    expected = full_logits(source.outline, tokens)
    exact = FusedModel(source, single=True)
    assert gap(first_pass(exact, tokens, keep=30), expected) < 1e-5
    # 8 bits are no 24
    assert 1e-4 < gap(first_pass(FusedModel(source), tokens, keep=30), expected) < 0.06


@needs_a_compiler
@pytest.mark.parametrize("kind", QUANTISED)
def test_the_largest_integers_add_up(kind: str, processor: str) -> None:
    """Some processors add products in 16 bits, and only as many as cannot leave them."""
    source = unanimous(kind)
    tokens = list(range(12))
    expected = full_logits(source.outline, tokens)
    assert gap(first_pass(FusedModel(source), tokens, keep=12), expected) < 1e-4


@needs_a_compiler
@pytest.mark.parametrize("single", [False, True])
@each_kind
def test_a_tokens_logits_are_the_same_to_the_bit_whoever_shares_its_pass(
    kind: str, single: bool, processor: str
) -> None:
    check_bits(FusedModel(source_of(kind), single=single), random.Random(kind), 90)


@needs_a_compiler
@pytest.mark.parametrize("kind", ["F16", "F32", "BF16"])
def test_floats_of_16_bits_are_computed_as_they_are(kind: str, processor: str) -> None:
    reference = copy.deepcopy(network())
    dtype = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}[kind]
    for weight in reference.parameters():
        weight.data = weight.data.to(dtype).float()

    class Given(Quantised):
        def find(self, name: str) -> Weight | None:
            found = super().find(name)
            return found.to(dtype) if isinstance(found, Tensor) else found

    model = FusedModel(Given(reference, lambda name: None))
    assert KINDS[model._passes.laid.structure.head.kind] == kind
    tokens = random_tokens(random.Random(kind), PASS_ROWS + 9)
    expected = full_logits(reference, tokens)
    assert_same_logits(first_pass(model, tokens, keep=len(tokens)), expected)
