"""`foredraft ablate`: a grid of settings, run, kept and reported by `foredraft.bench`.

Exit code 0: every row is there. 130: interrupted; what was finished is kept for `--resume`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from foredraft.bench.analysis import analyse
from foredraft.bench.cluster import Cluster
from foredraft.bench.conclusions import conclusions
from foredraft.bench.folder import REPORT, RUNS, RunFolder
from foredraft.bench.grid import Grid
from foredraft.bench.grid_file import load_grid, shipped_grids
from foredraft.bench.pictures import MISSING, can_draw
from foredraft.bench.prompt_sets import SETS
from foredraft.bench.report import write_report
from foredraft.bench.run import Alone, Crew, Outcome, blocks_left, run_grid
from foredraft.bench.run import Progress as Report
from foredraft.bench.worker import Pair, Worker
from foredraft.cli.arguments import add_model_flags, drafter_name, load_options
from foredraft.cli.parser import Number
from foredraft.errors import ConfigError
from foredraft.escape import for_line
from foredraft.files import plain_name
from foredraft.plugins import placed
from foredraft.ranges import Count

LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft ablate`."""
    add = parser.add_argument
    names = ", ".join(shipped_grids())
    add("grid", nargs="?", metavar="GRID", help=f"a TOML file, or one of: {names} [documented]")
    add("--quick", action="store_true", help="the grid `quick`")
    add("--out", type=Path, metavar="DIR", help="folder of the run [runs/ablation-<grid>]")
    add("--resume", action="store_true", help="continue the run that is in the folder")
    add("--report", action="store_true", help="write the report of the run in the folder anew")
    add("--dry-run", action="store_true", help="check the grid, list its cells, and leave")
    sets = ", ".join(SETS)
    add("--prompts", action="append", metavar="SET", help=f"{sets} or a .jsonl file; repeatable")
    shown = "spread over a Ray cluster: `local`, an address, or none for the running one"
    add("--ray", nargs="?", const="auto", metavar="ADDRESS", help=shown)
    add("--ray-workers", type=Number(Count), metavar="N", help="workers [one a device]")
    add_model_flags(parser)
    parser.set_defaults(run=_ablate)


def _ablate(args: argparse.Namespace) -> None:
    if args.quick and args.grid:
        raise ConfigError(f"--quick is a grid of its own; leave out {args.grid!r} or --quick")
    if args.ray_workers is not None and args.ray is None:
        raise ConfigError("--ray-workers needs --ray")
    grid = load_grid("quick" if args.quick else args.grid or "documented", args.prompts or ())
    if args.dry_run:
        _list(grid)
        return
    if not can_draw():
        print(MISSING, file=sys.stderr)
    out: Path = args.out or Path("runs") / plain_name(f"ablation-{grid.name}", "--out")
    folder = RunFolder(out, grid, resume=args.resume or args.report)
    left = blocks_left(folder)
    if args.report or not left:
        if not left:
            print(f"nothing left to do: all {grid.num_rows} rows are in {_shown(out / RUNS)}")
        if args.report or not (out / REPORT).exists():
            _report(folder)
        return
    with folder.writing():  # before hours of work, and before models are loaded for it
        crew = _crew(args, grid)
        with _progress() as show:
            outcome = run_grid(folder, crew, show)
    _close(folder, outcome)


def _shown(path: Path) -> str:
    return for_line(str(path))


def _list(grid: Grid) -> None:
    for cell in grid.cells:
        print(for_line(cell.id))
    print(
        f"{len(grid.cells)} cells × {len(grid.prompts)} prompts × {len(grid.seeds)} seeds "
        f"= {grid.num_rows} generations"
    )


def _crew(args: argparse.Namespace, grid: Grid) -> Crew:
    options, drafter_options = load_options(args)
    needed = any(cell.method in ("speculative", "drafter") for cell in grid.cells)
    drafter = drafter_name(args, is_needed=needed) if needed else None
    imports = tuple(map(placed, args.imports))  # for workers in other folders
    pair = Pair(args.target, drafter, options, drafter_options, imports)
    if args.ray is not None:
        return Cluster(pair, grid.cells, address=args.ray, num_workers=args.ray_workers)
    return Alone(Worker(pair.load, grid.cells, options=drafter_options))


def _close(folder: RunFolder, outcome: Outcome) -> None:
    if outcome.num_left:
        print(
            f"interrupted: {len(folder.rows)} of {folder.grid.num_rows} rows are in "
            f"{_shown(folder.path / RUNS)}; continue with --resume"
        )
        raise SystemExit(130)
    _report(folder)


def _report(folder: RunFolder) -> None:
    analysis = analyse(folder.grid, folder.rows)
    page = write_report(analysis, folder.manifest, folder.path)
    for sentence in conclusions(analysis):
        print(for_line(sentence))
    if analysis.failures:
        print(f"{len(analysis.failures)} rows failed; the report says which and why")
    print(f"rows: {_shown(folder.path / RUNS)}\nreport: {_shown(page)}")


@contextmanager
def _progress() -> Iterator[Report]:
    """Show progress on standard error: a bar with the time left, or now and then a line."""
    if not sys.stderr.isatty():
        yield _line_writer()
        return
    done, left = (BarColumn(), MofNCompleteColumn()), (TextColumn("left"), TimeRemainingColumn())
    with Progress(*done, TimeElapsedColumn(), *left, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _line_writer() -> Report:
    begin = time.monotonic()
    last = [begin - LINE_SECONDS]

    def line(done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] < LINE_SECONDS and done < total:
            return
        last[0] = now
        left = f", about {(now - begin) / done * (total - done):.0f} s left" if done else ""
        print(f"{done} of {total} rows{left}", file=sys.stderr, flush=True)

    return line
