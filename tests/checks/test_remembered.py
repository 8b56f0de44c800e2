"""Models behind a check: the same logits as the model itself, computed once or noted down."""

from __future__ import annotations

import pytest
import torch

from foredraft.checks import remembered
from foredraft.checks.remembered import Noted, Remembered, Wrapped
from foredraft.models import DecoderOnlyModel
from tests.doubles import CountingTable, random_table
from tests.tiny import assert_same_logits, build, full_logits

PROMPT = [5, 6, 7]


def counting() -> CountingTable:
    return CountingTable(random_table(8, seed=0))


def walk(model: Wrapped) -> list[torch.Tensor]:
    """Return the logits of a few passes with rollbacks between them."""
    begin = model.start(PROMPT)
    found = [model.extend([*begin, 1, 2], keep=3)]
    model.rollback_to(4)
    found.append(model.extend([3, 4], keep=2))
    model.rollback_to(3)
    found.append(model.extend([1], keep=1))
    return found


@pytest.mark.parametrize("wrapper", [Remembered, Noted])
def test_wrapped_models_give_the_logits_of_the_whole_prefix(wrapper: type[Wrapped]) -> None:
    model = wrapper(DecoderOnlyModel(build("llama")))
    for _ in range(2):
        first, second, third = walk(model)
        assert_same_logits(first, full_logits(build("llama"), [*PROMPT, 1, 2])[-3:])
        assert_same_logits(second, full_logits(build("llama"), [*PROMPT, 1, 3, 4])[-2:])
        assert_same_logits(third, full_logits(build("llama"), [*PROMPT, 1])[-1:])
        assert model.length == len(PROMPT) + 1


def test_each_prefix_is_computed_once_and_always_the_same() -> None:
    inner = counting()
    model = Remembered(inner)
    first = walk(model)
    inner.fed = []
    assert all(torch.equal(a, b) for a, b in zip(first, walk(model), strict=True))
    assert inner.fed == []
    assert model.remembers((*PROMPT, 1, 3))
    assert not model.remembers((*PROMPT, 9))


def test_two_prompts_are_two_memories() -> None:
    model = Remembered(counting())
    model.start([1])
    model.extend([1], keep=1)
    model.start([1, 1])
    assert not model.remembers((1,))


def test_a_full_memory_computes_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 3 * 8 * 8)  # three rows of eight float64
    inner = counting()
    model = Remembered(inner)
    first = walk(model)
    inner.fed = []
    assert all(torch.equal(a, b) for a, b in zip(first, walk(model), strict=True))
    assert inner.fed != []
    assert model.remembers((*PROMPT, 1, 2))
    assert not model.remembers((*PROMPT, 1, 3))


def test_notes_are_the_passes_of_one_generation() -> None:
    model = Noted(counting())
    walk(model)
    walk(model)
    assert [tokens for tokens, _ in model.notes] == [
        (*PROMPT, 1, 2),
        (*PROMPT, 1, 3, 4),
        (*PROMPT, 1),
    ]
    assert [len(logits) for _, logits in model.notes] == [3, 2, 1]
