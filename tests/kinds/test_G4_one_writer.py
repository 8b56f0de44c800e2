"""A folder that commands write has one writer at a time, and its lock dies with its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foredraft.bench.folder import RunFolder
from foredraft.bench.run import run_grid
from foredraft.cli.main import main
from foredraft.errors import ConfigError
from foredraft.files import only_writer
from tests.bench.toy_grid import run_toy, toy_crew, toy_grid
from tests.cli.conftest import Run, loaded, run
from tests.zoo.tiny_recipe import make_run

__all__ = ["loaded", "run"]  # fixtures

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys; from pathlib import Path; from foredraft.files import only_writer\n"
    "with only_writer(Path(sys.argv[1]), 'this run'): print('held', flush=True); input()"
)


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold a folder in another process."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def everything_in(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.fixture
def grid(tmp_path: Path) -> str:
    prompts = tmp_path / "own.jsonl"
    prompts.write_text('{"prompt": "Sing", "length": 4}\n')
    file = tmp_path / "own.toml"
    file.write_text(f'name = "own"\nprompts = ["{prompts}"]\n[[experiment]]\nmethod = "ngram"\n')
    return str(file)


@pytest.mark.parametrize(
    ("flags", "other"),
    [((), False), (("--resume",), False), ((), True)],
    ids=["begun", "resumed", "another grid"],
)
def test_a_second_ablation_is_refused_before_models_are_loaded(
    run: Run, loaded: list[object], grid: str, tmp_path: Path, flags: tuple[str, ...], other: bool
) -> None:
    out = tmp_path / "out"
    if flags and not other:
        run("ablate", grid, "--out", str(out))
        header, first, _ = (out / "runs.csv").read_text().split("\n")[:3]
        (out / "runs.csv").write_text(f"{header}\n{first}\n9,half a row, as the other writes it")
    before = everything_in(out) if out.exists() else {}
    loaded.clear()
    with another_process(out):
        target = ("--quick",) if other else (grid,)
        code, _, errors = run("ablate", *target, "--out", str(out), *flags)
    assert (code, errors.count("error:")) == (2, 1)
    assert "another process is writing this run in" in errors
    assert loaded == []
    assert {n: t for n, t in everything_in(out).items() if n != ".lock"} == {
        n: t for n, t in before.items() if n != ".lock"
    }


def test_whoever_comes_second_in_the_same_moment_is_refused(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path)
    first, second = (RunFolder(tmp_path / "run", grid, resume=False) for _ in range(2))
    with first.writing(), pytest.raises(ConfigError, match="another process is writing this run"):
        run_grid(second, toy_crew(grid))
    run_grid(first, toy_crew(grid))
    with pytest.raises(ConfigError, match="continue it with --resume"):
        run_grid(second, toy_crew(grid))  # it has looked before the first one wrote
    other = RunFolder(tmp_path / "other", toy_grid(tmp_path, seeds=[5]), resume=False)
    run_toy(tmp_path / "other", grid)
    with pytest.raises(ConfigError, match="holds the run of another grid"):
        run_grid(other, toy_crew(grid))


def test_a_writer_that_is_killed_lets_go(run: Run, grid: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with another_process(out) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with only_writer(out, "this run"):
        pass
    assert run("ablate", grid, "--out", str(out))[0] == 0


def test_a_reader_reads_beside_a_writer(run: Run, grid: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("ablate", grid, "--out", str(out))
    with another_process(out):
        assert run("ablate", grid, "--out", str(out), "--report")[0] == 0


def test_a_second_training_of_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    flags = ["--run-dir", str(run.run_dir), "--device", "cpu", "--data", str(run.data_dir)]
    with another_process(run.run_dir), pytest.raises(SystemExit) as left:
        main(["train", str(run.recipe_path), "--no-compile", *flags])
    assert left.value.code == 2
    assert "another process is writing this run in" in capsys.readouterr().err
    assert sorted(p.name for p in run.run_dir.iterdir()) == [".lock"]


def test_the_manifest_of_a_finished_run_counts_its_rows(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path)
    run_toy(tmp_path / "run", grid)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["rows"], len(manifest["sittings"])) == (grid.num_rows, 1)
