"""What a run allows to say: from rows made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from foredraft.bench.analysis import Analysis, analyse
from foredraft.bench.conclusions import by_speedup, conclusions
from foredraft.bench.grid import Grid
from foredraft.bench.report import html
from foredraft.bench.rows import Row
from tests.bench.toy_grid import toy_grid

GREEDY, KINDS = "sampler=greedy", ("stories", "letters")
Speed = Callable[[str, str, int], float]  # label, kind, number of the prompt → tokens a second


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    files = [tmp_path / f"{kind}.jsonl" for kind in KINDS]
    for file in files:
        file.write_text(f'{{"prompt": "{file.stem}", "length": 12}}')
    return toy_grid(tmp_path, prompts=[str(file) for file in files])


def analysed(grid: Grid, speed: Speed, prompts: int = 8) -> Analysis:
    """Return the analysis of a run with so many prompts of each kind."""
    rows = [
        Row(
            *(
                0,
                cell.id,
                cell.label,
                cell.condition,
                cell.method,
                f"{item.kind}{number}",
                item.kind,
                0,
            ),
            throughput_tokens_per_second=speed(cell.label, item.kind, number),
            latency_seconds=1.0,
        )
        for cell in grid.cells
        for item in grid.prompts
        for number in range(prompts)
    ]
    return analyse(grid, rows)


def quick_four(label: str, kind: str, number: int) -> float:
    """γ = 4 is twice as quick as all others."""
    return 200.0 if label == "speculative gamma=4" else 100.0


def test_the_quickest_is_what_to_use(grid: Grid) -> None:
    first = next(iter(conclusions(analysed(grid, quick_four))))
    assert first.startswith(f"{GREEDY}: use speculative gamma=4, 2.00× [2.00, 2.00] Target AR")
    assert "1 faster" in first
    assert "luckiest" in first


def test_where_nothing_is_faster_it_says_so(grid: Grid) -> None:
    def uneven(label: str, kind: str, number: int) -> float:
        return 100.0 if label == "target" else 50.0 + 100 * (number % 2)

    first = next(iter(conclusions(analysed(grid, uneven))))
    assert "stay with Target AR" in first
    assert "use " not in first


def test_few_prompts_allow_no_advice(grid: Grid) -> None:
    first = next(iter(conclusions(analysed(grid, quick_four, prompts=1))))
    assert "too few prompts to say" in first


def test_a_kind_with_another_winner_is_named(grid: Grid) -> None:
    def by_kind(label: str, kind: str, number: int) -> float:
        if kind == KINDS[0]:
            return 1000.0 if label == "speculative gamma=4" else 100.0
        return 200.0 if label == "speculative gamma=2" else 100.0

    told = " ".join(conclusions(analysed(grid, by_kind)))
    assert f"{KINDS[1]} speculative gamma=2, 2.00×" in told


def test_a_reference_is_compared_in_one_sentence(grid: Grid) -> None:
    told = [s for s in conclusions(analysed(grid, quick_four)) if s.startswith("Beside")]
    per_condition = len(grid.references)
    assert len(told) == per_condition * len({cell.condition for cell in grid.cells})
    assert "the quickest is speculative gamma=4, 2.00× [2.00, 2.00] (faster)" in told[0]


def test_the_page_has_few_sentences_one_sorted_table_and_the_rest_in_folds(grid: Grid) -> None:
    analysis = analysed(grid, quick_four)
    page = html(analysis, {}, [])
    before, _, after = page.partition("<details>")
    assert before.count("<li>") <= 3 * len(analysis.conditions)
    assert before.count("<table>") == 1
    assert after.count("<table>") == len(analysis.conditions) * (1 + len(analysis.kinds))
    assert page.count("<details>") == page.count("</details>") == 2


def test_the_table_is_sorted_by_its_ratio(grid: Grid) -> None:
    ranked = by_speedup(analysed(grid, quick_four).of())
    ratios = [finding.comparisons["target"].speedup.value for finding in ranked]
    assert ratios == sorted(ratios, reverse=True)


def test_an_empty_run_has_no_conclusions(grid: Grid) -> None:
    assert list(conclusions(analyse(grid, []))) == []
