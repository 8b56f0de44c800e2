"""A small grid on the toy engine, run whole, interrupted, or in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foredraft.bench.folder import RunFolder
from foredraft.bench.grid import Block, Grid
from foredraft.bench.grid_file import read_grid
from foredraft.bench.rows import Row
from foredraft.bench.run import Alone, Outcome, run_grid
from foredraft.bench.worker import Worker
from foredraft.engine import Engine
from tests.toy_engine import PROMPT, RETOLD, toy_engine

TABLE: dict[str, Any] = {
    "name": "toy",
    "seeds": [1, 2],
    "references": ["speculative gamma=2"],
    "axes": {"sampler": ["greedy", "nucleus(temperature=0.8, top_p=0.9)"]},
    "experiment": [
        {"method": "speculative", "axes": {"gamma": [2, 4]}},
        {"name": "EGAG", "method": "speculative", "settings": {"egag": True}},
        {"name": "NASD", "method": "ngram"},
    ],
}


def toy_table(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the TOML table of the grid; its prompts are written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "toy.jsonl"
    lines = [f'{{"prompt": "{text}", "length": 12}}' for text in (PROMPT, RETOLD)]
    file.write_text("\n".join(lines))
    return {**TABLE, "prompts": [str(file)], **changes}


def toy_grid(folder: Path, **changes: Any) -> Grid:
    """Return the grid: ten cells, two prompts, two seeds."""
    return read_grid(toy_table(folder, **changes))


def toy_crew(grid: Grid, engine: Engine | None = None) -> Alone:
    """Return one worker with the toy engine."""
    return Alone(Worker(lambda: engine or toy_engine(), grid.cells))


class Interrupted(Alone):
    """A crew whose user loses patience after some rows.

    Args:
        crew: who works.
        num_rows: rows before Ctrl-C.
    """

    def __init__(self, crew: Alone, num_rows: int) -> None:
        super().__init__(crew._worker)
        self._num_rows = num_rows

    def rows(self, blocks: list[Block]) -> Iterator[Row]:
        for number, row in enumerate(super().rows(blocks)):
            if number == self._num_rows:
                raise KeyboardInterrupt
            yield row


def run_toy(folder: Path, grid: Grid, *, resume: bool = False) -> Outcome:
    """Run the grid to its end."""
    return run_grid(RunFolder(folder, grid, resume=resume), toy_crew(grid))


if __name__ == "__main__":  # a run that a test kills: it says when a row is on disk
    out = Path(sys.argv[1])
    toy = toy_grid(out.parent)
    run_grid(
        RunFolder(out, toy, resume=False),
        toy_crew(toy),
        lambda done, total: print(done, flush=True) if done == 0 else input(),
    )
