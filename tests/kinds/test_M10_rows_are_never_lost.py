"""A reader never changes a file, and a disk that is full is said and costs no row."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foredraft import files
from foredraft.bench.analysis import analyse
from foredraft.bench.folder import RunFolder
from foredraft.bench.report import write_report
from foredraft.bench.rows import RowFile, read_rows, to_line
from foredraft.bench.run import run_grid
from foredraft.cli.main import main
from foredraft.errors import ConfigError
from tests.bench.test_rows import FAILED, ROW
from tests.bench.toy_grid import run_toy, toy_crew, toy_grid

FULL = OSError(28, "No space left on device")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- readers --------------------------------------------------------------------------------------


def rows_of(folder: Path) -> int:
    return len(RunFolder(folder, toy_grid(folder.parent), resume=True).rows)


READERS: dict[str, Callable[[Path], object]] = {
    "RunFolder": rows_of,
    "RowFile": lambda folder: RowFile(folder / "runs.csv").rows(),
    "read_rows": lambda folder: read_rows(folder / "runs.csv"),
    "done": lambda folder: RunFolder(folder, toy_grid(folder.parent), resume=True).done,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("torn", [b"39,half of a ro", b"39,\xc3", b'39,"open'])
def test_a_reader_changes_nothing_whatever_the_writer_is_at(
    tmp_path: Path, reader: str, torn: bytes
) -> None:
    grid = toy_grid(tmp_path)
    run_toy(tmp_path / "run", grid)
    whole = READERS[reader](tmp_path / "run")
    with (tmp_path / "run" / "runs.csv").open("ab") as file:
        file.write(torn)
    before = snapshot(tmp_path)
    assert READERS[reader](tmp_path / "run") == whole
    assert snapshot(tmp_path) == before


def test_a_report_beside_a_writer_cuts_no_row(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "runs.csv")
    file.add(ROW)
    half, rest = to_line(FAILED)[:30], to_line(FAILED)[30:]
    with (tmp_path / "runs.csv").open("a") as out:
        out.write(half)
        out.flush()
        assert RowFile(tmp_path / "runs.csv").rows() == [ROW]
        out.write(rest)
    assert RowFile(tmp_path / "runs.csv").rows() == [ROW, FAILED]


# --- a full disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KB of one's own, where the system allows to make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_is_named_and_the_rest_follows_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    grid, folder = toy_grid(tmp_path), small_disk / "run"
    ballast = small_disk / "ballast"
    opened = RunFolder(folder, grid, resume=False)
    crew = toy_crew(grid)

    def fill(done: int, total: int) -> None:
        if done == 3:
            ballast.write_bytes(b"")
            with ballast.open("ab", buffering=0) as out:
                try:
                    while True:
                        out.write(b"x" * 512)
                except OSError:
                    pass

    with pytest.raises(ConfigError, match=r"No space left on device; .*--resume") as refusal:
        run_grid(opened, crew, fill)
    assert str(folder / "runs.csv") in str(refusal.value)
    kept = rows_of_grid(folder, tmp_path)
    assert 3 <= kept < grid.num_rows
    ballast.unlink()
    assert run_toy(folder, grid, resume=True).num_new == grid.num_rows - kept
    keys = [row.key for row in RunFolder(folder, grid, resume=True).rows]
    assert len(keys) == len(set(keys)) == grid.num_rows


def rows_of_grid(folder: Path, beside: Path) -> int:
    return len(RunFolder(folder, toy_grid(beside), resume=True).rows)


@pytest.mark.parametrize("at", range(6))
def test_whichever_write_fails_it_is_a_sentence_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    grid, folder, count = toy_grid(tmp_path), tmp_path / "run", [0]

    def counted(write: Callable[..., None]) -> Callable[..., None]:
        def failing(*args: object) -> None:
            count[0] += 1
            if count[0] > at:
                raise FULL
            write(*args)

        return failing

    for module in ("rows", "folder"):
        for name in ("write_whole", "append_whole"):
            where = f"foredraft.bench.{module}.{name}"
            monkeypatch.setattr(where, counted(getattr(files, name)), raising=False)
    with pytest.raises(ConfigError, match=r"cannot write .*No space left on device; "):
        run_grid(RunFolder(folder, grid, resume=False), toy_crew(grid))
    monkeypatch.undo()
    begun = (folder / "manifest.json").exists()
    kept = rows_of_grid(folder, tmp_path) if begun else 0
    assert kept == max(0, at - 3)
    assert run_toy(folder, grid, resume=begun).num_new == grid.num_rows - kept


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a Unix")
def test_a_row_that_was_written_in_part_is_taken_back(tmp_path: Path) -> None:
    import resource

    rows = RowFile(tmp_path / "runs.csv")
    rows.add(ROW)
    size = rows.file.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        with pytest.raises(OSError, match=r".") as refused:
            rows.add(FAILED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.errno == errno.EFBIG
    assert rows.file.stat().st_size == size, "nothing of it stays"
    rows.add(FAILED)
    assert len(rows.rows()) == 2


def test_the_command_says_where_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(number: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as left:
        main(["ablate", "--quick", "--out", str(tmp_path / "run")])
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert f"error: cannot write '{tmp_path / 'run' / 'manifest.json'}': No space left" in told
    assert "Traceback" not in told


def test_a_report_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write .*report\.html': .*; make room"):
        write_report(analyse(toy_grid(tmp_path), []), {}, tmp_path)
