"""The memory law: whatever was fed and forgotten, logits equal those of a fresh full pass."""

from __future__ import annotations

import random

import pytest
import torch

from foredraft.models import LanguageModel, Recomputing
from foredraft.models.cache import BLOCK
from tests.tiny import (
    ARCHITECTURES,
    MAX_LENGTH,
    VOCAB,
    WINDOW,
    Witness,
    adapt,
    build,
    full_logits,
    random_tokens,
    walk,
)
from tests.tiny import assert_same_logits as assert_same

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
with_and_without_cache = pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])


def adapter(name: str, cached: bool = True, seed: int = 0) -> LanguageModel:
    model = adapt(build(name, seed))
    return model if cached else Recomputing(model)


@with_and_without_cache
@every_architecture
def test_logits_equal_a_fresh_pass_after_any_extend_and_rollback(name: str, cached: bool) -> None:
    source = random.Random(f"{name} walk")
    model = Witness(build(name), adapter(name, cached))
    longest = 0
    for prompt_length in (1, WINDOW - 1, WINDOW, 3 * WINDOW):
        prompt = random_tokens(source, prompt_length)
        assert model.start(prompt) == prompt
        assert model.length == 0
        model.extend(prompt, keep=prompt_length)
        walk(model, source, 12)
        longest = max(longest, *map(len, model.fed))
    assert longest > 4 * WINDOW


@every_architecture
def test_rollback_to_nothing_and_to_everything_are_legal(name: str) -> None:
    model = Witness(build(name))
    model.extend(model.start([3, 4, 5, 6]), keep=1)
    model.rollback_to(4)
    model.extend([7], keep=1)
    model.rollback_to(0)
    assert model.length == 0
    model.extend([9, 8], keep=2)


@pytest.mark.parametrize("name", ["llama", "llama:native", "mistral_sliding", "gemma3", "gpt2"])
def test_logits_stay_right_while_the_buffers_grow(name: str) -> None:
    source = random.Random(f"{name} growth")
    model = Witness(build(name))
    model.extend(model.start(random_tokens(source, BLOCK - 2)), keep=1)
    model.extend(random_tokens(source, 2), keep=2)  # exactly full
    model.extend(random_tokens(source, 1), keep=1)  # first growth
    model.rollback_to(BLOCK - 3)  # back across the border
    model.extend(random_tokens(source, 5), keep=5)
    model.extend(random_tokens(source, MAX_LENGTH - model.length), keep=1)  # second, in one go
    assert model.length == MAX_LENGTH > 2 * BLOCK


@with_and_without_cache
@every_architecture
def test_beams_equal_independent_full_passes(name: str, cached: bool) -> None:
    source = random.Random(f"{name} beams")
    reference, model = build(name), adapter(name, cached)
    prompt = random_tokens(source, WINDOW + 2)
    model.extend(model.start(prompt), keep=1)
    beams = [prompt]
    for width in (3, 4, 4, 2, 3, 1, 2):  # branches, reorders, narrows and widens
        parents = [source.randrange(len(beams)) for _ in range(width)]
        tokens = random_tokens(source, width)
        beams = [[*beams[p], t] for p, t in zip(parents, tokens, strict=True)]
        logits = model.extend_beams(parents, tokens)
        assert logits.shape == (width, VOCAB)
        assert_same(logits, torch.stack([full_logits(reference, beam)[-1] for beam in beams]))


@with_and_without_cache
@pytest.mark.parametrize("last_width", [1, 3])
def test_start_ends_the_beams(last_width: int, cached: bool) -> None:
    model = Witness(build("llama"), adapter("llama", cached))
    model.extend(model.start([5, 6, 7]), keep=1)
    model.extend_beams([0, 0, 0], [1, 2, 3])
    model.extend_beams([2] * last_width, list(range(last_width)))
    model.extend(model.start([9, 8, 7, 6]), keep=4)
    walk(model, random.Random(0), 6)


def test_growing_beams_keep_their_own_past() -> None:
    reference, model = build("llama"), adapter("llama")
    prompt = random_tokens(random.Random(1), BLOCK - 1)
    model.extend(model.start(prompt), keep=1)
    beams = [[*prompt, t] for t in (4, 5)]
    model.extend_beams([0, 0], [4, 5])  # fills the block
    for parents, tokens in (([1, 0], [6, 7]), ([0, 0], [8, 9])):  # grows with two beams
        beams = [[*beams[p], t] for p, t in zip(parents, tokens, strict=True)]
        logits = model.extend_beams(parents, tokens)
        assert_same(logits, torch.stack([full_logits(reference, beam)[-1] for beam in beams]))


def test_two_adapters_of_one_module_do_not_share_memory() -> None:
    first, second = Witness(build("llama")), Witness(build("llama"))
    first.extend(first.start([5, 6, 7]), keep=1)
    second.extend(second.start([9, 9]), keep=1)
    first.extend([8], keep=1)
    assert (first.length, second.length) == (4, 2)


def test_a_forgotten_token_leaves_no_trace() -> None:
    model = adapter("llama")
    model.extend(model.start([5, 6, 7]), keep=1)
    plain = model.extend([8], keep=1)
    model.rollback_to(3)
    model.extend([40, 41, 42], keep=1)
    model.rollback_to(3)
    assert torch.equal(model.extend([8], keep=1), plain)
