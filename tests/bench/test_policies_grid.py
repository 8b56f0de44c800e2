"""The grid of policies and drafters, and what `benchmarks/policies.py` makes of its rows."""

from __future__ import annotations

import dataclasses

import policies
import pytest

from foredraft.bench.analysis import ALL, analyse
from foredraft.bench.grid_file import load_grid
from foredraft.bench.rows import Row


def test_policies_are_compared_with_the_best_fixed_gamma_and_the_better_part() -> None:
    grid = load_grid(str(policies.GRID))
    chosen = grid.prompts[:6]
    labels = tuple(dict.fromkeys(cell.label for cell in grid.cells))
    grid = dataclasses.replace(grid, prompts=chosen, references=labels)
    rows = [
        Row(
            *(task.order, task.cell.id, task.cell.label, task.cell.condition, task.cell.method),
            *(task.item.id, task.item.kind, task.seed),
            throughput_tokens_per_second=200.0 if "gamma=6" in task.cell.label else 100.0,
        )
        for block in grid.blocks()
        for task in block.tasks
    ]
    analysis = analyse(grid, rows)
    claims = policies.claims_of(analysis)
    first = next(c for c in claims if c["kind"] == ALL)
    assert (first["method"], first["against"]) == (policies.COST_AWARE, "fixed gamma=6")
    assert (first["ratio"], first["interval"]) == (pytest.approx(0.5), pytest.approx([0.5, 0.5]))
    assert {c["sampler"] for c in claims} == {"greedy", "nucleus"}
    shown = policies.rows_of(analysis.of(condition=analysis.conditions[0]))
    ratios = sorted({row["ratio_to_target_ar"] for row in shown})
    assert ratios == pytest.approx([1.0, 2.0])
