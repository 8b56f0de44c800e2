"""Real CUDA graphs: what eager passes say, for texts that are open at once."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch

from foredraft.native.graphs import StaticModel
from foredraft.native.network import KEYS, ROWS, NativeModel, prove_equal
from tests.native.test_native import FAMILY, network, random_tokens
from tests.tiny import assert_same_logits

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_gpu(member: str, dtype: torch.dtype = torch.float32) -> Any:
    import copy

    return copy.deepcopy(network(member)).to("cuda", dtype)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("member", FAMILY)
def test_gpu_graphs_say_what_eager_passes_say(member: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    ours, theirs = StaticModel(on_gpu(member)), NativeModel(on_gpu(member))
    prove_equal(ours, on_gpu(member))
    source = random.Random(member)
    for prompt_length in (1, 7, KEYS - 5):
        tokens = random_tokens(source, prompt_length)
        text, other = ours.open(tokens), theirs.open(tokens)
        for count in (prompt_length, 1, 3, 8, 2, 5, 1):
            new = tokens if count == prompt_length else random_tokens(source, count)
            kept = min(len(new), 8)
            assert_same_logits(text.extend(new, keep=kept), other.extend(new, keep=kept))
            length = max(1, text.length - count // 2)
            for each in (text, other):
                each.rollback_to(length)
        assert text.draft([5], 6).tokens == other.draft([5], 6).tokens


@pytest.mark.gpu
@needs_gpu
def test_gpu_texts_that_are_open_at_once_are_those_of_each_alone() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    ours, theirs = StaticModel(on_gpu("llama")), NativeModel(on_gpu("llama"))
    texts = [ours.open([3, 4, 5]), ours.open([6, 7])]
    others = [theirs.open(text.begin) for text in texts]
    for each in (*texts, *others):
        each.extend(each.begin)
    for tokens in ([8], [9, 10], [11]):
        for text, other in zip(texts, others, strict=True):
            assert_same_logits(text.extend(tokens), other.extend(tokens))
            assert text.draft([5], 3).tokens == other.draft([5], 3).tokens
    fork, other = texts[0].fork(), others[0].fork()
    for pair in ((fork, other), (texts[0], others[0]), (fork, other)):
        assert_same_logits(pair[0].extend([12]), pair[1].extend([12]))


@pytest.mark.gpu
@needs_gpu
def test_gpu_passes_are_really_captured() -> None:
    model = StaticModel(on_gpu("llama", torch.bfloat16))
    text = model.open([3, 4, 5])
    text.extend(text.begin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text.extend([6])
        text.extend([6, 7, 8], keep=3)
        text.draft([9, 8], 5)
    assert len(text.memory._recorded) == 3


@pytest.mark.gpu
@needs_gpu
def test_gpu_invariance_is_to_the_bit_in_bfloat16() -> None:
    model = StaticModel(on_gpu("llama", torch.bfloat16), invariant=True)
    tokens = random_tokens(random.Random(0), 60)
    text = model.open(tokens[:9])
    text.extend(text.begin)
    plain = torch.cat([text.extend([t]) for t in tokens[9:]])
    for count in (2, 5, ROWS):
        text.rollback_to(9)
        parts = torch.tensor(tokens[9:]).split(count)
        again = torch.cat([text.extend(part.tolist(), keep=len(part)) for part in parts])
        assert torch.equal(again, plain)
