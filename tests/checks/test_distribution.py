"""Cells: a partition of all texts whose probabilities are those of the target."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from foredraft.checks.distribution import CELLS, LEAST_EXPECTED, Law, in_cells
from foredraft.checks.remembered import Remembered, Tokens
from foredraft.models import TableModel
from foredraft.sampling import SAMPLERS
from tests.doubles import Table, random_table

BEGIN = (0, 1)
PEAKED: Table = lambda tokens: [0.97, 0.01, 0.01, 0.01]  # noqa: E731
TABLES: dict[str, Table] = {
    "random": random_table(5, seed=0),
    "zeros": random_table(6, seed=1, zeros=3),
    "flat": lambda tokens: [1 / 30] * 30,
    "peaked": PEAKED,
    "certain": lambda tokens: [0.0, 1.0, 0.0],
}


def law(table: Table, sampler: str = "multinomial") -> tuple[Law, TableModel]:
    model = TableModel(table)
    target = Remembered(model)
    target.open(BEGIN)
    return Law(target, SAMPLERS.create(sampler), BEGIN), model


def texts(model: TableModel, length: int) -> dict[Tokens, float]:
    found: dict[Tokens, float] = {}
    for text in itertools.product(range(model.vocab_size), repeat=length):
        chance = 1.0
        for i, token in enumerate(text):
            chance *= model.next_probs((*BEGIN, *text[:i]))[token]
        found[text] = chance
    return found


@pytest.mark.parametrize("samples", [60, 400, 5000, 100_000])
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("name", TABLES)
def test_cells_are_a_partition_with_the_targets_probabilities(
    name: str, length: int, samples: int
) -> None:
    rule, model = law(TABLES[name])
    cells = rule.cells(BEGIN, length, samples)
    assert 1 <= len(cells) <= CELLS
    assert sum(cells.values()) == pytest.approx(1)
    true = dict.fromkeys(cells, 0.0)
    for text, chance in texts(model, length).items():
        name_of_it = next(text[:end] for end in range(length, -1, -1) if text[:end] in cells)
        true[name_of_it] += chance
    assert cells == pytest.approx(true, abs=1e-9)
    assert min(cells.values()) * samples >= LEAST_EXPECTED - 1e-6


def test_the_more_samples_the_more_cells() -> None:
    rule, _ = law(TABLES["random"])
    sizes = [len(rule.cells(BEGIN, 3, samples)) for samples in (50, 150, 400, 5000)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, CELLS)


def test_a_flat_law_is_cut_by_first_tokens_and_a_peaked_one_along_its_peak() -> None:
    flat = law(TABLES["flat"])[0].cells(BEGIN, 3, 5000)
    assert sorted(map(len, flat)) == [0] + [1] * (CELLS - 1)
    peaked = law(PEAKED)[0].cells(BEGIN, 3, 5000)
    assert (0, 0, 0) in peaked
    assert any(len(name) == 1 and name != (0,) for name in peaked)


def test_a_law_of_one_text_is_one_cell() -> None:
    assert law(TABLES["certain"])[0].cells(BEGIN, 3, 100_000) == {(): 1.0}


def test_counts_fall_into_the_longest_name() -> None:
    cells = {(): 0.25, (1,): 0.25, (1, 2): 0.5}
    counted = Counter({(0, 0): 1, (1, 0): 2, (1, 2): 4, (2, 1): 8})
    assert in_cells(counted, cells) == ([9, 2, 4], [3.75, 3.75, 7.5])


def test_impossible_texts_are_counted_where_the_logits_are_remembered() -> None:
    rule, _ = law(lambda tokens: [0.5, 0.5, 0.0])
    counted = Counter({(0, 1): 5, (0, 2): 3, (2, 2): 1})
    assert rule.impossible(BEGIN, counted) == 0  # nothing is remembered yet
    rule.cells(BEGIN, 2, 1000)  # asks for the rows after BEGIN and after its likely tokens
    assert rule.impossible(BEGIN, counted) == 4
