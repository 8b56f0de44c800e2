"""Rows → findings, from rows made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foredraft.bench.analysis import analyse, theoretical_speedup
from foredraft.bench.grid import Grid
from foredraft.bench.rows import FAILED, Row
from tests.bench.toy_grid import toy_grid


def rows_of(grid: Grid) -> list[Row]:
    """Every row of a grid: 100 tokens a second for Target AR, 20 more for each gamma."""
    return [
        Row(
            *(t.order, t.cell.id, t.cell.label, t.cell.condition, t.cell.method),
            *(t.item.id, t.item.kind, t.seed),
            throughput_tokens_per_second=100.0
            + (20 * t.cell.config.gamma if "gamma=" in t.cell.label else 0.0),
            drafted_by_position="4 2",
            kept_by_position="3 1",
            matches_baseline="yes",
        )
        for block in grid.blocks()
        for t in block.tasks
    ]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return toy_grid(tmp_path)


def test_cells_are_compared_with_target_ar_and_the_references(grid: Grid) -> None:
    found = {f.label: f for f in analyse(grid, rows_of(grid)).of(condition="sampler=greedy")}
    four = found["speculative gamma=4"]
    assert four.comparisons["target"].speedup.value == pytest.approx(1.8)
    assert four.comparisons["target"].difference.value == pytest.approx(80)
    assert four.comparisons["speculative gamma=2"].speedup.value == pytest.approx(180 / 140)
    assert "target" not in found["target"].comparisons
    assert four.acceptance_by_position == (3 / 4, 1 / 2)
    assert four.matches == {"yes": 4}


def test_failed_rows_count_for_nothing_but_are_counted(grid: Grid) -> None:
    rows = rows_of(grid)
    spoilt = [
        replace(row, status=FAILED, throughput_tokens_per_second=1e9, error="no memory")
        if row.label == "speculative gamma=4" and row.seed == 1
        else row
        for row in rows
    ]
    analysis = analyse(grid, spoilt)
    four = next(f for f in analysis.of() if f.label == "speculative gamma=4")
    assert (four.num_rows, four.num_failed) == (2, 2)
    assert four.throughput is not None
    assert four.throughput.value == pytest.approx(180)
    assert len(analysis.failures) == 4


def test_an_unfinished_run_can_be_analysed(grid: Grid) -> None:
    analysis = analyse(grid, rows_of(grid)[:3])
    assert sum(f.num_rows for f in analysis.of()) == 3
    assert analyse(grid, []).of()[0].throughput is None


def test_fixed_gammas_are_found_by_their_settings(grid: Grid) -> None:
    assert list(analyse(grid, rows_of(grid)).fixed_gammas("sampler=greedy")) == [2, 4]


@pytest.mark.parametrize(
    ("alpha", "gamma", "c", "expected"),
    [
        (0.8, 1, 0.0, 1.8),  # one draft, free: 1 + α
        (1.0, 4, 0.25, 2.5),  # five tokens for the price of two
        (0.0, 4, 0.25, 0.5),  # nothing is ever kept
        (0.5, 2, 0.5, 1.75 / 2),
    ],
)
def test_the_theoretical_curve(alpha: float, gamma: int, c: float, expected: float) -> None:
    assert theoretical_speedup(alpha, gamma, c) == pytest.approx(expected)


def test_the_best_speedups_of_the_paper_are_on_the_curve() -> None:
    # α = 0.8: 2.47 at c = 0.1 and 1.22 at c = 0.5, over all gammas.
    for c, best in ((0.1, 2.47), (0.5, 1.22)):
        found = max(theoretical_speedup(0.8, gamma, c) for gamma in range(1, 30))
        assert found == pytest.approx(best, abs=0.02)
