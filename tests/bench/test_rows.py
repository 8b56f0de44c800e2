"""The CSV of rows: nothing is lost on the way, and a torn line costs one row."""

from __future__ import annotations

from pathlib import Path

import pytest

from foredraft.bench.rows import COLUMNS, Row, RowFile, read_rows, to_line
from foredraft.errors import ConfigError

ROW = Row(
    order=3,
    cell="a, b | sampler=nucleus(temperature=0.8, top_p=0.9)",
    label="a, b",
    condition="sampler=nucleus(temperature=0.8, top_p=0.9)",
    method="speculative",
    prompt_id="x-1",
    kind="x",
    seed=42,
    throughput_tokens_per_second=0.1234567,
    num_steps=7,
    drafted_by_position="3 2 1",
    shared_device=True,
)
FAILED = Row(4, "c", "c", "", "ngram", "x-1", "x", 42, status="failed", error='say "no", twice')


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "runs.csv")
    for row in (ROW, FAILED):
        file.add(row)
    assert file.rows() == [ROW, FAILED]
    assert (tmp_path / "runs.csv").read_text().split("\n")[0] == ",".join(COLUMNS)


def test_a_row_is_one_line_whatever_the_error_says() -> None:
    row = Row(0, "c", "c", "", "ngram", "x", "x", 1, error="first\nsecond\r\nthird")
    assert to_line(row).count("\n") == 1
    assert "first\\nsecond\\r\\nthird" in to_line(row)


def test_a_torn_last_line_is_cut_off_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    file = RowFile(path)
    file.add(ROW)
    with path.open("a") as out:
        out.write(to_line(FAILED)[:20])
    again = RowFile(path)
    assert again.rows() == [ROW]
    again.add(FAILED)
    assert again.rows() == [ROW, FAILED]


def test_sorting_puts_rows_into_the_order_of_the_schedule(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "runs.csv")
    for row in (FAILED, ROW):
        file.add(row)
    file.sort()
    assert file.rows() == [ROW, FAILED]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\n1,2\n"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_rows(path)
