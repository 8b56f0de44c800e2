"""Running a grid: every row once, whatever interrupts it, and never two grids in one folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foredraft.bench.folder import RunFolder
from foredraft.bench.grid import Grid
from foredraft.bench.rows import TIMINGS, Row
from foredraft.bench.run import blocks_left, run_grid
from foredraft.errors import ConfigError
from tests.bench.toy_grid import Interrupted, run_toy, toy_crew, toy_grid

ROOT = Path(__file__).parents[2]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return toy_grid(tmp_path)


def texts(rows: list[Row]) -> dict[tuple[str, str, int], tuple[object, ...]]:
    """Key → all that two runs must have in common."""
    names = [name for name in Row.__dataclass_fields__ if name not in TIMINGS]
    return {row.key: tuple(getattr(row, name) for name in names) for row in rows}


def test_every_row_of_the_grid_is_there_once_and_in_order(tmp_path: Path, grid: Grid) -> None:
    outcome = run_toy(tmp_path / "run", grid)
    rows = RunFolder(tmp_path / "run", grid, resume=True).rows
    assert (outcome.num_new, outcome.num_left, outcome.interrupted) == (grid.num_rows, 0, False)
    assert [row.order for row in rows] == list(range(grid.num_rows))
    assert [row.key for row in rows] == [t.key for b in grid.blocks() for t in b.tasks]
    assert all(row.status == "ok" for row in rows)
    assert {row.matches_baseline for row in rows if "greedy" in row.condition} == {"yes"}


def test_ctrl_c_keeps_what_is_finished_and_resuming_adds_the_rest(
    tmp_path: Path, grid: Grid
) -> None:
    run_toy(tmp_path / "whole", grid)
    folder = RunFolder(tmp_path / "run", grid, resume=False)
    first = run_grid(folder, Interrupted(toy_crew(grid), 7))
    assert (first.num_new, first.num_left, first.interrupted) == (7, grid.num_rows - 7, True)
    assert len(folder.rows) == 7
    second = run_toy(tmp_path / "run", grid, resume=True)
    assert second.num_new == grid.num_rows - 7
    again = RunFolder(tmp_path / "run", grid, resume=True)
    whole = RunFolder(tmp_path / "whole", grid, resume=True)
    assert len(again.rows) == grid.num_rows
    assert texts(again.rows) == texts(whole.rows)
    assert blocks_left(again) == []


def test_a_process_that_is_killed_leaves_its_rows_and_resuming_adds_the_rest(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.bench.toy_grid", str(tmp_path / "run")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"  # it has begun, and waits after every row
        for _ in range(5):
            process.stdin.write("\n")
            process.stdin.flush()
        file = tmp_path / "run" / "runs.csv"
        while len(file.read_text().splitlines()) < 1 + 3:  # the header and some rows
            time.sleep(0.02)
        process.kill()
    grid = toy_grid(tmp_path)
    with file.open("a") as out:
        out.write("9,torn")  # as a write that was cut off would leave it
    kept = len(RunFolder(tmp_path / "run", grid, resume=True).rows)
    assert 3 <= kept < grid.num_rows
    assert run_toy(tmp_path / "run", grid, resume=True).num_new == grid.num_rows - kept
    keys = [row.key for row in RunFolder(tmp_path / "run", grid, resume=True).rows]
    assert len(keys) == len(set(keys)) == grid.num_rows


def test_two_runs_of_a_grid_differ_in_timings_only(tmp_path: Path, grid: Grid) -> None:
    for name in ("one", "other"):
        run_toy(tmp_path / name, grid)
    one, other = (RunFolder(tmp_path / n, grid, resume=True).rows for n in ("one", "other"))
    assert texts(one) == texts(other)


def test_a_folder_never_mixes_grids(tmp_path: Path, grid: Grid) -> None:
    run_toy(tmp_path / "run", grid)
    other = toy_grid(tmp_path, seeds=[3])
    for resume in (True, False):
        with pytest.raises(ConfigError, match="holds the run of another grid"):
            RunFolder(tmp_path / "run", other, resume=resume)
    with pytest.raises(ConfigError, match="continue it with --resume"):
        RunFolder(tmp_path / "run", grid, resume=False)


def test_a_folder_never_mixes_models(tmp_path: Path, grid: Grid) -> None:
    run_toy(tmp_path / "run", grid)
    file = tmp_path / "run" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["models"][0]["sha256"] = "0" * 64
    file.write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="came from other models"):
        run_toy(tmp_path / "run", grid, resume=True)


def test_two_processes_never_write_to_one_folder(tmp_path: Path, grid: Grid) -> None:
    pytest.importorskip("fcntl", reason="this system has no flock")
    first = RunFolder(tmp_path / "run", grid, resume=False)
    first.begin([], "one")
    with pytest.raises(ConfigError, match="another process is writing"):
        RunFolder(tmp_path / "run", grid, resume=True).begin([], "other")
    first.end(interrupted=True)
    second = RunFolder(tmp_path / "run", grid, resume=True)
    second.begin([], "other")
    second.end(interrupted=True)


def test_there_must_be_something_to_resume(tmp_path: Path, grid: Grid) -> None:
    with pytest.raises(ConfigError, match="holds no run to resume"):
        RunFolder(tmp_path / "none", grid, resume=True)
    (tmp_path / "runs.csv").write_text("")
    with pytest.raises(ConfigError, match=r"without its manifest\.json"):
        RunFolder(tmp_path, grid, resume=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run", grid, resume=False)


def test_the_manifest_says_what_when_and_where(tmp_path: Path, grid: Grid) -> None:
    run_toy(tmp_path / "run", grid)
    manifest = RunFolder(tmp_path / "run", grid, resume=True).manifest
    assert manifest["fingerprint"] == grid.fingerprint
    assert manifest["grid"] == grid.to_dict()
    assert [m["name"] for m in manifest["models"]] == ["toy-target", "toy-drafter"]
    assert (manifest["rows"], manifest["failed"]) == (grid.num_rows, 0)
    (sitting,) = manifest["sittings"]
    assert sitting["machine"]["versions"]["torch"]
    assert sitting["started"] <= sitting["ended"]
