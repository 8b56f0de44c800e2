"""No cell of a CSV file that we write is a formula, wherever its text came from."""

from __future__ import annotations

import csv
import random
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from foredraft.bench.rows import Row, RowFile
from foredraft.bench.shell_runs import SHELL_COLUMNS, write_csv

FORMULAS = (
    *("=1+1", '=HYPERLINK("http://x","y")', "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"),
    *("=cmd|' /C calc'!A0", "＝1+1", "＋1", "－1", "＠x", "'=1", "''=1", "-", "=", "+-1", "-1e"),
)
BEGINS = tuple("=+-@\t\r\n＝＋－＠")
HINTS = get_type_hints(Row)
TEXTS = [f.name for f in fields(Row) if str in (get_args(HINTS[f.name]) or (HINTS[f.name],))]


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet computes the cell; a number it reads is none."""
    try:
        float(cell)
    except ValueError:
        return cell.startswith(BEGINS)
    return False


def cells_of(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8") as opened:
        return [cell for line in csv.reader(opened) for cell in line]


@pytest.mark.parametrize("column", TEXTS)
def test_no_column_of_the_rows_is_a_formula_and_each_comes_back(
    tmp_path: Path, column: str
) -> None:
    rng = random.Random(column)
    made = tuple("".join(rng.choices("'=+-@\t 1ae", k=4)) for _ in range(200))
    usual: dict[str, Any] = dict(
        zip(
            [f.name for f in fields(Row)][:8], (0, "c", "c", "", "target", "p", "k", 1), strict=True
        )
    )
    rows = [Row(**{**usual, column: text}) for text in FORMULAS + made]
    file = RowFile(tmp_path / "runs.csv")
    for row in rows:
        file.add(row)
    assert [cell for cell in cells_of(file.file) if is_formula(cell)] == []
    assert file.rows() == rows


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "runs.csv")
    file.add(Row(0, "c", "c", "", "target", "p", "k", 1, target_logprob_per_token=-1.5))
    assert "-1.5" in cells_of(file.file)


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_prompt_of_the_shell_runs_is_a_formula(tmp_path: Path, formula: str) -> None:
    row = {
        **dict.fromkeys(SHELL_COLUMNS),
        "method": formula,
        "prompt": formula,
        "text_hash": formula,
    }
    write_csv([row], tmp_path / "out.csv")
    assert [cell for cell in cells_of(tmp_path / "out.csv") if is_formula(cell)] == []
