"""Running a grid: what is left of the schedule, row by row into its folder; interrupts are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from foredraft.bench.folder import RunFolder
from foredraft.bench.grid import Block
from foredraft.bench.machine import Model
from foredraft.bench.rows import Row
from foredraft.bench.worker import Worker
from foredraft.errors import ForedraftError

Progress = Callable[[int, int], None]  # rows done in this sitting, rows to do in it


class Crew(Protocol):
    """Whoever runs the blocks: one worker here, or many elsewhere."""

    how: str

    def describe(self) -> list[Model]:
        """Return what the manifest says of the models."""

    def rows(self, blocks: list[Block]) -> Iterator[Row]:
        """Yield the row of every task of every block, in any order."""


class Alone:
    """One worker in this process, which runs the blocks in order."""

    how = "one worker"

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def describe(self) -> list[Model]:
        return self._worker.describe()

    def rows(self, blocks: list[Block]) -> Iterator[Row]:
        for block in blocks:
            yield from self._worker.run(block)


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended."""

    num_new: int  # rows that it added
    num_left: int  # rows that are still missing
    interrupted: bool  # whether Ctrl-C ended it


def blocks_left(folder: RunFolder) -> list[Block]:
    """Return what of the schedule has no row yet, in its order."""
    done = folder.done
    rest = [block.without(done) for block in folder.grid.blocks()]
    return [block for block in rest if block.tasks]


def run_grid(
    folder: RunFolder, crew: Crew, progress: Progress = lambda done, total: None
) -> Outcome:
    """Run what is left of a grid; each row goes into the folder as soon as it is there.

    Raises:
        ConfigError: earlier rows came from other models, another process is writing, or a row
            cannot be written; those before it stay.
    """
    with folder.writing():
        folder.begin(crew.describe(), crew.how)
        blocks = blocks_left(folder)
        total = sum(len(block.tasks) for block in blocks)
        done, interrupted = 0, True
        try:
            progress(done, total)
            for row in crew.rows(blocks):
                folder.add(row)
                done += 1
                progress(done, total)
            interrupted = False
        except KeyboardInterrupt:
            pass  # what is finished is kept
        except BaseException:
            with suppress(ForedraftError):  # what was raised first is what is said
                folder.end(interrupted=True)
            raise
        folder.end(interrupted=interrupted)
    return Outcome(done, total - done, interrupted)
