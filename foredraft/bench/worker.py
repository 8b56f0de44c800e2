"""A worker: one pair of models on one device, and the blocks it runs.

The same class works here and inside an actor of a cluster; it knows neither files nor progress.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from foredraft.bench.cells import Cell
from foredraft.bench.grid import Block
from foredraft.bench.machine import Model, describe_model, device_name
from foredraft.bench.measure import Place, References, measure, warm_up
from foredraft.bench.rows import Row
from foredraft.engine import Engine
from foredraft.loading import LoadOptions, load_drafter
from foredraft.loading.loader import silence_transformers
from foredraft.plugins import load_plugins
from foredraft.threads import fit_threads


@dataclass(frozen=True)
class Pair:
    """Which models to load; travels to other machines."""

    target: str  # name, folder or `bundled`
    drafter: str | None  # the same; None where no cell needs a draft model
    options: LoadOptions  # of the target
    drafter_options: LoadOptions  # of the draft model
    imports: tuple[str, ...] = ()  # modules with components of the user's own

    def load(self) -> Engine:
        """Load them, in a process that is theirs; errors as for `Engine.load`."""
        load_plugins(self.imports)
        silence_transformers()
        engine = Engine.load(
            self.target,
            self.drafter,
            options=self.options,
            drafter_options=self.drafter_options,
        )
        fit_threads(engine.target.threads)
        return engine


class Worker:
    """One pair of models on one device, and the draft models that the cells name besides."""

    def __init__(
        self,
        load: Callable[[], Engine],
        cells: Iterable[Cell],
        *,
        options: LoadOptions | None = None,
        shared: bool = False,
    ) -> None:
        engine = load()
        self._engines: dict[str | None, Engine] = {None: engine}
        for cell in cells:
            name = cell.draft_model
            if name not in self._engines:
                assert name is not None
                drafter = load_drafter(name, engine.target, options or LoadOptions())
                self._engines[name] = Engine(engine.target, drafter)
        self._place = Place(device_name(engine), shared)
        self._warm: set[str] = set()

    def describe(self) -> list[Model]:
        """Return what the manifest says of the models: the target first."""
        engines = list(self._engines.values())
        drafters = [engine.drafter for engine in engines if engine.drafter is not None]
        return [describe_model(model) for model in (engines[0].target, *drafters)]

    def run(self, block: Block) -> Iterator[Row]:
        """Yield a row for each task of a block, as soon as it is measured."""
        self._warm_up(block)
        references = References()
        for task in block.tasks:
            yield measure(self._engines[task.cell.draft_model], task, self._place, references)

    def _warm_up(self, block: Block) -> None:
        for task in block.tasks:
            if task.cell.id not in self._warm:
                self._warm.add(task.cell.id)
                with contextlib.suppress(Exception):  # what is wrong will be the row's error
                    warm_up(self._engines[task.cell.draft_model], task.cell, block.item)
