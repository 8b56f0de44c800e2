"""Whole generations of somebody else's, judged by their texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from examples import verifiers
from foredraft.checks.generated import Trial, tiny_pair
from foredraft.errors import ConfigError


def honest(prompt_ids: list[int], max_new_tokens: int, seed: int, target: Any) -> list[int]:
    torch.manual_seed(seed)
    tokens = list(prompt_ids)
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            logits = target(torch.tensor([tokens])).logits[0, -1]
        tokens.append(int(torch.multinomial(torch.softmax(logits, -1), 1)))
    return tokens[len(prompt_ids) :]


def test_whole_generations_are_judged_by_their_texts() -> None:
    right = Trial(samples=1200, length=2).judge(honest, "honest")
    assert right.passed
    assert right.figures["detectable_total_variation"] < 0.2
    assert Trial(samples=1200, length=2).judge(verifiers.impatient, "wrong").passed is False


def test_assisted_generation_of_transformers_is_an_example() -> None:
    assert Trial(samples=300, length=2).judge(verifiers.assisted, "assisted").passed is not False


def test_the_tiny_pair_is_always_the_same() -> None:
    one, other = tiny_pair(), tiny_pair()
    for a, b in zip(one, other, strict=True):
        assert all(map(torch.equal, a.parameters(), b.parameters()))


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda prompt: prompt, "it is called as generate"),
        (lambda prompt_ids, max_new_tokens, seed, target, more: 1, "it is called as generate"),
        (lambda prompt_ids, max_new_tokens, seed, target: [1], "returned"),
        (lambda prompt_ids, max_new_tokens, seed, target: [99] * 4, "integers of 0"),
        (
            lambda prompt_ids, max_new_tokens, seed, target: [*prompt_ids, 1, 1, 1, 1],
            "leave the prompt out",
        ),
        (lambda prompt_ids, max_new_tokens, seed, target: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_no_generation_is_refused(function: Callable[..., object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Trial(samples=10).judge(function, "subject")
