"""The memory law: whatever was fed and forgotten, logits equal those of a fresh full pass."""

from __future__ import annotations

import random

import pytest
import torch

from foredraft.errors import RollbackUnsupported
from foredraft.models import Feed, Network, Recomputing
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


def adapter(name: str, cached: bool = True, seed: int = 0) -> Network:
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
        text = model.open(prompt)
        assert text.begin == prompt
        assert text.length == 0
        text.extend(prompt, keep=prompt_length)
        walk(text, source, 12)
        longest = max(longest, *map(len, model.fed))
    assert longest > 4 * WINDOW


@every_architecture
def test_rollback_to_nothing_and_to_everything_are_legal(name: str) -> None:
    text = Witness(build(name)).open([3, 4, 5, 6])
    text.extend(text.begin)
    text.rollback_to(4)
    text.extend([7])
    text.rollback_to(0)
    assert text.length == 0
    text.extend([9, 8], keep=2)


@with_and_without_cache
@every_architecture
def test_rollback_to_less_than_nothing_or_more_than_is_held_is_refused(
    name: str, cached: bool
) -> None:
    text = Witness(build(name), adapter(name, cached)).open([3, 4])
    text.extend(text.begin)
    for length in (-1, 3):
        with pytest.raises(RollbackUnsupported, match=f"back to {length} tokens; legal: 0 … 2"):
            text.rollback_to(length)
    assert text.length == 2
    text.extend([5])


@pytest.mark.parametrize("name", ["llama", "llama:native", "mistral_sliding", "gemma3", "gpt2"])
def test_logits_stay_right_while_the_buffers_grow(name: str) -> None:
    source = random.Random(f"{name} growth")
    text = Witness(build(name)).open(random_tokens(source, BLOCK - 2))
    text.extend(text.begin)
    text.extend(random_tokens(source, 2), keep=2)  # exactly full
    text.extend(random_tokens(source, 1))  # first growth
    text.rollback_to(BLOCK - 3)  # back across the border
    text.extend(random_tokens(source, 5), keep=5)
    text.extend(random_tokens(source, MAX_LENGTH - text.length))  # second, in one go
    assert text.length == MAX_LENGTH > 2 * BLOCK


@with_and_without_cache
@every_architecture
def test_forks_equal_independent_full_passes(name: str, cached: bool) -> None:
    source = random.Random(f"{name} beams")
    reference, model = build(name), adapter(name, cached)
    prompt = random_tokens(source, WINDOW + 2)
    texts, held = [model.open(prompt)], [prompt]
    texts[0].extend(prompt)
    for width in (3, 4, 4, 2, 3, 1, 2):  # branches, reorders, narrows and widens
        parents = [source.randrange(len(held)) for _ in range(width)]
        tokens = random_tokens(source, width)
        texts = [texts[p].fork() for p in parents]
        held = [[*held[p], t] for p, t in zip(parents, tokens, strict=True)]
        outputs = model.forward([Feed(c, [t]) for c, t in zip(texts, tokens, strict=True)])
        logits = torch.cat([output.logits for output in outputs])
        assert logits.shape == (width, VOCAB)
        assert_same(logits, torch.stack([full_logits(reference, tokens)[-1] for tokens in held]))


@with_and_without_cache
@every_architecture
def test_a_fork_and_its_parent_go_their_own_ways(name: str, cached: bool) -> None:
    source = random.Random(f"{name} fork")
    model = Witness(build(name), adapter(name, cached))
    parent = model.open(random_tokens(source, WINDOW))
    parent.extend(parent.begin)
    fork = parent.fork()
    for _ in range(3):
        for text in (parent, fork):  # forks below what the other holds, and above it
            walk(text, source, 2)
    parent.rollback_to(0)
    walk(fork, source, 2)
    parent.close()
    model.open([5]).extend([5])  # in the memory that the parent gave back
    walk(fork, source, 2)


@with_and_without_cache
@pytest.mark.parametrize("last_width", [1, 3])
def test_a_new_text_knows_nothing_of_the_forks_before(last_width: int, cached: bool) -> None:
    model = Witness(build("llama"), adapter("llama", cached))
    text = model.open([5, 6, 7])
    text.extend(text.begin)
    texts = [text.fork() for _ in range(3)]
    model.forward([Feed(fork, [token]) for fork, token in zip(texts, (1, 2, 3), strict=True)])
    last = [texts[2].fork() for _ in range(last_width)]
    model.forward([Feed(fork, [token]) for token, fork in enumerate(last)])
    for fork in (text, *texts, *last):
        fork.close()
    del text, texts, last, fork  # a memory behind the witness is given back now at the latest
    new = model.open([9, 8, 7, 6])
    new.extend(new.begin, keep=4)
    walk(new, random.Random(0), 6)


def test_growing_forks_keep_their_own_past() -> None:
    reference, model = build("llama"), adapter("llama")
    prompt = random_tokens(random.Random(1), BLOCK - 1)
    text = model.open(prompt)
    text.extend(prompt)
    texts, held = [text.fork(), text.fork()], [[*prompt, t] for t in (4, 5)]
    model.forward([Feed(texts[0], [4]), Feed(texts[1], [5])])  # fills the block
    for parents, tokens in (([1, 0], [6, 7]), ([0, 0], [8, 9])):  # grows with two forks
        texts = [texts[p].fork() for p in parents]
        held = [[*held[p], t] for p, t in zip(parents, tokens, strict=True)]
        outputs = model.forward([Feed(c, [t]) for c, t in zip(texts, tokens, strict=True)])
        logits = torch.cat([output.logits for output in outputs])
        assert_same(logits, torch.stack([full_logits(reference, tokens)[-1] for tokens in held]))


def test_two_adapters_of_one_module_do_not_share_memory() -> None:
    first, second = (Witness(build("llama")).open(prompt) for prompt in ([5, 6, 7], [9, 9]))
    first.extend(first.begin)
    second.extend(second.begin)
    first.extend([8])
    assert (first.length, second.length) == (4, 2)


def test_a_forgotten_token_leaves_no_trace() -> None:
    text = adapter("llama").open([5, 6, 7])
    text.extend(text.begin)
    plain = text.extend([8])
    text.rollback_to(3)
    text.extend([40, 41, 42])
    text.rollback_to(3)
    assert torch.equal(text.extend([8]), plain)
