"""Models behind a check: the same logits as the model itself, computed once or noted down."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from foredraft.checks import remembered
from foredraft.checks.remembered import Noted, Remembered
from foredraft.models import Context, DecoderOnlyModel, Network
from tests.doubles import CountingTable, random_table
from tests.tiny import assert_same_logits, build, full_logits

PROMPT = [5, 6, 7]


def counting() -> CountingTable:
    return CountingTable(random_table(8, seed=0))


def walk(model: Network) -> tuple[Context, list[torch.Tensor]]:
    """Return a text, and the logits of a few passes with rollbacks between them."""
    text = model.open(PROMPT)
    found = [text.extend([*text.begin, 1, 2], keep=3)]
    text.rollback_to(4)
    found.append(text.extend([3, 4], keep=2))
    text.rollback_to(3)
    found.append(text.extend([1]))
    return text, found


@pytest.mark.parametrize("wrapper", [Remembered, Noted])
def test_wrapped_models_give_the_logits_of_the_whole_prefix(
    wrapper: Callable[[Network], Network],
) -> None:
    model = wrapper(DecoderOnlyModel(build("llama")))
    for _ in range(2):
        text, (first, second, third) = walk(model)
        assert_same_logits(first, full_logits(build("llama"), [*PROMPT, 1, 2])[-3:])
        assert_same_logits(second, full_logits(build("llama"), [*PROMPT, 1, 3, 4])[-2:])
        assert_same_logits(third, full_logits(build("llama"), [*PROMPT, 1])[-1:])
        assert text.length == len(PROMPT) + 1


def test_each_prefix_is_computed_once_and_always_the_same() -> None:
    inner = counting()
    model = Remembered(inner)
    _, first = walk(model)
    inner.fed = []
    assert all(torch.equal(a, b) for a, b in zip(first, walk(model)[1], strict=True))
    assert inner.fed == []
    assert model.remembers(tuple(PROMPT), (*PROMPT, 1, 3))
    assert not model.remembers(tuple(PROMPT), (*PROMPT, 9))


def test_two_prompts_are_two_memories() -> None:
    model = Remembered(counting())
    model.open([1]).extend([1])
    model.open([1, 1])
    assert model.remembers((1,), (1,))
    assert not model.remembers((1, 1), (1,))


def test_a_full_memory_computes_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 3 * 8 * 8)  # three rows of eight float64
    inner = counting()
    model = Remembered(inner)
    _, first = walk(model)
    inner.fed = []
    assert all(torch.equal(a, b) for a, b in zip(first, walk(model)[1], strict=True))
    assert inner.fed != []
    assert model.remembers(tuple(PROMPT), (*PROMPT, 1, 2))
    assert not model.remembers(tuple(PROMPT), (*PROMPT, 1, 3))


def test_notes_are_the_passes_of_one_generation() -> None:
    model = Noted(counting())
    walk(model)
    walk(model)
    assert [note.tokens for note in model.notes] == [
        (*PROMPT, 1, 2),
        (*PROMPT, 1, 3, 4),
        (*PROMPT, 1),
    ]
    assert [len(note.logits) for note in model.notes] == [3, 2, 1]
