"""A run over two Ray workers of which one is killed at work, beside the run without Ray."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from foredraft.bench.cluster import Cluster
from foredraft.bench.folder import RunFolder
from foredraft.bench.grid import Block
from foredraft.bench.grid_file import read_grid
from foredraft.bench.rows import TIMINGS, Row
from foredraft.bench.run import Alone, run_grid
from foredraft.bench.worker import Pair, Worker
from foredraft.loading import LoadOptions

CPU = LoadOptions(device="cpu")
PAIR = Pair("bundled", "bundled", CPU, CPU)


class Murderous(Cluster):
    """A cluster that kills a worker when the first rows have come back."""

    killed = False

    def rows(self, blocks: list[Block]) -> Iterator[Row]:
        victim = self._ray.get(self.actors[0].process.remote())
        for row in super().rows(blocks):
            if not self.killed:
                os.kill(victim, signal.SIGKILL)
                self.killed = True
            yield row


def key_and_rest(row: Row) -> tuple[object, ...]:
    """All of a row but its timings."""
    names = [name for name in Row.__dataclass_fields__ if name not in TIMINGS]
    return tuple(getattr(row, name) for name in names)


def main(out: Path) -> None:
    """Run both, and print what came of it as JSON."""
    grid = read_grid(
        {
            "prompts": ["dialogue"],
            "max_prompts": 6,
            "max_length": 16,
            "experiment": [{"method": "speculative", "axes": {"gamma": [2, 4]}}],
        }
    )
    cluster = Murderous(PAIR, grid.cells, address="local", num_workers=2)
    spread = RunFolder(out / "ray", grid, resume=False)
    run_grid(spread, cluster)
    alone = RunFolder(out / "alone", grid, resume=False)
    run_grid(alone, Alone(Worker(PAIR.load, grid.cells, options=CPU)))
    found = {
        "killed": cluster.killed,
        "rows": len(spread.rows),
        "planned": grid.num_rows,
        "same_as_without_ray": [*map(key_and_rest, spread.rows)]
        == [*map(key_and_rest, alone.rows)],
        "shared": sorted({row.shared_device for row in spread.rows}),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
