"""TableModel: the public test double keeps the contract of a network."""

from __future__ import annotations

import random

import pytest
import torch

from foredraft.errors import ConfigError, ContextOverflow
from foredraft.models import Feed, Recomputing, TableModel
from tests.doubles import random_table
from tests.texts import first_pass

BACK_OFF = {(): (0.5, 0.5, 0.0), (1,): (0.2, 0.3, 0.5), (2, 1): (0.0, 0.0, 1.0)}


@pytest.mark.parametrize(
    ("tokens", "row"),
    [((), ()), ((0,), ()), ((1,), (1,)), ((0, 1), (1,)), ((2, 1), (2, 1)), ((0, 2, 1), (2, 1))],
)
def test_the_longest_known_suffix_answers(tokens: tuple[int, ...], row: tuple[int, ...]) -> None:
    assert TableModel(BACK_OFF).next_probs(tokens) == BACK_OFF[row]


def test_a_table_without_a_default_row_names_the_unknown_prefix() -> None:
    with pytest.raises(ConfigError, match=r"no row for \(\) and no default row"):
        TableModel({(0,): (1.0, 0.0)})


def test_softmax_of_the_logits_is_the_row() -> None:
    model = TableModel(BACK_OFF)
    logits = first_pass(model, [0, 2, 1], keep=3)  # [time, vocab]
    assert logits.dtype == torch.float64
    expected = torch.tensor([BACK_OFF[()], BACK_OFF[()], BACK_OFF[2, 1]], dtype=torch.float64)
    torch.testing.assert_close(logits.softmax(-1), expected)


def test_extend_and_rollback_equal_a_fresh_start() -> None:
    source, table = random.Random(0), random_table(5, seed=0)
    text, held = TableModel(table).open([1]), list[int]()
    for _ in range(60):
        new = [source.randrange(5) for _ in range(source.randint(1, 4))]
        keep = source.randint(1, len(new))
        held += new
        logits = text.extend(new, keep)
        assert torch.equal(logits, first_pass(TableModel(table), held, keep))
        if source.random() < 0.5:
            del held[source.randint(0, len(held)) :]
            text.rollback_to(len(held))
        assert text.length == len(held)


@pytest.mark.parametrize("recomputing", [False, True])
def test_forks_continue_their_parents(recomputing: bool) -> None:
    table = random_table(4, seed=1)
    model = Recomputing(TableModel(table)) if recomputing else TableModel(table)
    first = model.open([3])
    first.extend([3])
    second = first.fork()
    model.forward([Feed(first, [1]), Feed(second, [2])])
    third = second.fork()
    outputs = model.forward([Feed(second, [0]), Feed(third, [3]), Feed(first, [2])])
    logits = torch.cat([output.logits for output in outputs])
    expected = torch.tensor([table((3, 2, 0)), table((3, 2, 3)), table((3, 1, 2))])
    torch.testing.assert_close(logits.softmax(-1).float(), expected)


def test_a_new_text_knows_nothing_of_those_before() -> None:
    table = random_table(4, seed=1)
    model = TableModel(table)
    texts = [model.open([3])]
    texts[0].extend([3])
    texts.append(texts[0].fork())
    model.forward([Feed(text, [token]) for text, token in zip(texts, (1, 2), strict=True)])
    for text in texts:
        text.close()
    text = model.open([2, 2])
    assert text.begin == [2, 2]
    assert text.length == 0
    text.extend([2, 2])
    expected = torch.tensor([table((2, 2, 1))], dtype=torch.float64)
    torch.testing.assert_close(text.fork().extend([1]).softmax(-1), expected)


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    model = TableModel(BACK_OFF, max_length=4)
    assert model.open([0, 0, 0]).begin == [0, 0, 0]
    with pytest.raises(ContextOverflow, match="4 positions"):
        model.open([0, 0, 0, 0])
