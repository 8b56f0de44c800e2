"""`foredraft ablate` in process: what it writes, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foredraft.bench import folder as folder_module
from foredraft.cli import ablate
from tests.cli.conftest import Run

GRID = """
name = "small"
prompts = ["{prompts}"]
references = ["speculative gamma=2"]
[[experiment]]
method = "speculative"
axes = {{ gamma = [2, 4] }}
"""

pytestmark = pytest.mark.usefixtures("loaded")


@pytest.fixture
def grid(tmp_path: Path) -> str:
    prompts = tmp_path / "own.jsonl"
    prompts.write_text('{"prompt": "Once upon a time", "length": 9}\n{"prompt": "Sing"}\n')
    file = tmp_path / "small.toml"
    file.write_text(GRID.format(prompts=prompts))
    return str(file)


def test_a_run_writes_rows_manifest_figures_and_report(run: Run, grid: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, errors = run("ablate", grid, "--out", str(out))
    assert code == 0
    assert "there are too few prompts to say; speculative gamma=" in printed
    assert "6 of 6 rows" in errors
    assert {p.name for p in out.iterdir()} == {
        *("runs.csv", "manifest.json", "figures", "report.html", "summary.json", ".lock"),
    }
    assert json.loads((out / "manifest.json").read_text())["rows"] == 6


def test_resuming_a_finished_run_does_nothing_and_says_so(
    run: Run, grid: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run("ablate", grid, "--out", str(out))
    before = {p: p.read_bytes() for p in out.iterdir() if p.is_file()}
    code, printed, _ = run("ablate", grid, "--out", str(out), "--resume")
    assert code == 0
    assert printed == f"nothing left to do: all 6 rows are in {out / 'runs.csv'}\n"
    assert {p: p.read_bytes() for p in before} == before


def test_a_second_run_with_the_same_output_is_refused(run: Run, grid: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    run("ablate", grid, "--out", out)
    code, _, errors = run("ablate", grid, "--out", out)
    assert (code, errors.count("\n")) == (2, 1)
    assert "--resume" in errors
    for flags in ((), ("--resume",)):
        code, _, errors = run("ablate", "--quick", "--out", out, *flags)
        assert code == 2
        assert "holds the run of another grid" in errors


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(
    run: Run, grid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = folder_module.RunFolder.add
    count = []

    def impatient(self: folder_module.RunFolder, row: object) -> None:
        add(self, row)  # type: ignore[arg-type]
        count.append(row)
        if len(count) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(folder_module.RunFolder, "add", impatient)
    code, printed, _ = run("ablate", grid, "--out", str(tmp_path / "out"))
    assert code == 130
    assert "4 of 6 rows" in printed
    assert "--resume" in printed
    code, printed, errors = run("ablate", grid, "--out", str(tmp_path / "out"), "--resume")
    assert code == 0
    assert "2 of 2 rows" in errors


def test_the_report_can_be_written_anew(run: Run, grid: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("ablate", grid, "--out", str(out))
    (out / "report.html").unlink()
    code, printed, _ = run("ablate", grid, "--out", str(out), "--report")
    assert code == 0
    assert "report:" in printed
    assert (out / "report.html").exists()


def test_a_dry_run_lists_the_cells_and_leaves(run: Run, tmp_path: Path) -> None:
    code, printed, _ = run("ablate", "--dry-run", "--out", str(tmp_path / "out"))
    assert code == 0
    assert "40 cells × 70 prompts × 3 seeds = 8400 generations" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--quick", "documented"), "--quick is a grid of its own"),
        (("--ray-workers", "2"), "--ray-workers needs --ray"),
        (("nothing.toml",), "cannot read the grid"),
        (("--prompts", "poems"), "unknown prompt set 'poems'"),
    ],
)
def test_bad_flags_are_one_sentence(run: Run, flags: tuple[str, ...], words: str) -> None:
    code, _, errors = run("ablate", *flags)
    assert (code, errors.count("\n")) == (2, 1)
    assert words in errors


def test_the_time_left_is_said_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(ablate.time, "monotonic", lambda: now[0])
    line = ablate._line_writer()
    for done in range(5):
        line(done, 100)
        now[0] += 6
    assert capsys.readouterr().err.splitlines() == [
        "0 of 100 rows",
        "2 of 100 rows, about 588 s left",
        "4 of 100 rows, about 576 s left",
    ]
