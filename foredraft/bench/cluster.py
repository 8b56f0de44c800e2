"""A crew of workers on a Ray cluster: one actor a device, each with its own pair of models.

A block goes to one actor whole, so what is compared is measured on one device. The rows are those
of a run without Ray but for their timings. Needs Ray (extra `cluster`), here and on every machine.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from foredraft.bench.cells import Cell
from foredraft.bench.grid import Block
from foredraft.bench.machine import Model
from foredraft.bench.measure import failed
from foredraft.bench.rows import Row
from foredraft.bench.worker import Pair, Worker
from foredraft.errors import ConfigError, quoted
from foredraft.files import Json
from foredraft.ranges import Count, checked

ATTEMPTS = 3  # a block that kills its worker so often is recorded as failed
SWITCHES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers use this environment, not a copy of it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def import_ray() -> ModuleType:
    """Return the module `ray`.

    Raises:
        ConfigError: it is not installed.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "--ray needs Ray, which is not installed; install the extra `cluster` "
            "(uv sync --extra cluster)"
        ) from error


class Member:
    """What runs inside an actor: a worker whose blocks come back whole."""

    def __init__(self, pair: Pair, cells: Sequence[Cell], threads: int) -> None:
        # An actor that reserves no core would be told by Ray to use a single thread.
        torch.set_num_threads(threads)
        self._worker = Worker(pair.load, cells, options=pair.drafter_options)

    def describe(self) -> list[Model]:
        """Return what the manifest says of the models."""
        return self._worker.describe()

    def process(self) -> int:
        """Return the process id, by which a test can end it."""
        return os.getpid()

    def run(self, block: Block) -> list[Row]:
        """Return the rows of a block."""
        return list(self._worker.run(block))


@dataclass(frozen=True)
class Seat:
    """A device that an actor gets."""

    node: str  # id of its machine
    gpu: int | None  # number of the GPU on its machine; None for the machine's processor
    shared: bool = False  # whether another seat is on the same device


def seats_of(nodes: Sequence[dict[str, Json]], *, on_cpu: bool, count: int | None) -> list[Seat]:
    """Return a seat for each device of the living nodes: every GPU, or else every processor.

    Args:
        nodes: as `ray.nodes()` gives them.
        on_cpu: use processors even where there are GPUs.
        count: seats wanted; more than there are devices share them, and say so.

    Raises:
        ConfigError: no device, or an illegal count.
    """
    alive = [node for node in nodes if node["Alive"]]
    gpus = [
        Seat(node["NodeID"], number)
        for node in alive
        for number in range(0 if on_cpu else int(node["Resources"].get("GPU", 0)))
    ]
    devices = gpus or [Seat(n["NodeID"], None) for n in alive if n["Resources"].get("CPU", 0) >= 1]
    if not devices:
        raise ConfigError("the Ray cluster has no machine with a free processor; add one")
    if count is None:
        return devices
    count = checked("--ray-workers", count, Count)
    if gpus and count > len(gpus):
        raise ConfigError(
            f"--ray-workers must lie in [1, {len(gpus)}], one a GPU, not {count}; add GPUs"
        )
    used = [devices[i % len(devices)] for i in range(count)]
    times = Counter(used)
    return [replace(seat, shared=times[seat] > 1) for seat in used]


class Cluster:
    """A crew of actors, `num_workers` of them or one a device; each runs the pair's models.

    The address `local` starts Ray here; `auto` or another joins a cluster that runs.

    Raises:
        ConfigError: Ray is missing, the cluster cannot be reached, or it has no device.
        ModelError: a model does not load.
    """

    def __init__(
        self,
        pair: Pair,
        cells: Sequence[Cell],
        *,
        address: str = "auto",
        num_workers: int | None = None,
    ) -> None:
        self._ray = import_ray()
        self._pair, self._cells = pair, cells
        self._join(address)
        on_cpu = pair.options.device == "cpu"
        self.seats = seats_of(self._ray.nodes(), on_cpu=on_cpu, count=num_workers)
        self.actors = {number: self._actor(seat) for number, seat in enumerate(self.seats)}
        shared = sum(seat.shared for seat in self.seats)
        self.how = f"Ray, {len(self.seats)} workers" + (f", {shared} sharing" if shared else "")

    def _join(self, address: str) -> None:
        if self._ray.is_initialized():
            return
        here = {"include_dashboard": False} if address == "local" else {}
        try:
            self._ray.init(address=address, log_to_driver=False, **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).split("\n")[0]
            raise ConfigError(
                f"cannot join the Ray cluster {quoted(address)}: {reason}; "
                "start one with `ray start --head`, or use --ray local"
            ) from error

    def _actor(self, seat: Seat) -> Any:
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(node_id=seat.node, soft=False)
        remote = self._ray.remote(Member).options(
            num_cpus=0, num_gpus=0 if seat.gpu is None else 1, scheduling_strategy=here
        )
        return remote.remote(self._pair, self._cells, self._threads(seat))

    def _threads(self, seat: Seat) -> int:
        """Return a seat's part of its machine's cores."""
        found = [n["Resources"] for n in self._ray.nodes() if n["NodeID"] == seat.node]
        cores = int(found[0].get("CPU", 1)) if found else 1
        return max(cores // sum(other.node == seat.node for other in self.seats), 1)

    def describe(self) -> list[Model]:
        """Return what the manifest says of the models.

        Raises:
            ConfigError: two actors hold different weights, or a model does not load.
        """
        errors = self._ray.exceptions
        try:
            found = self._ray.get([actor.describe.remote() for actor in self.actors.values()])
        except (errors.RayActorError, errors.RayTaskError) as error:
            reason = str(error).strip().split("\n")[-1]
            raise ConfigError(f"a worker could not load its models: {reason}") from error
        if any(models != found[0] for models in found):
            raise ConfigError("the workers hold different weights; give all the same models")
        return list(found[0])

    def rows(self, blocks: list[Block]) -> Iterator[Row]:
        """Yield the rows of every block as blocks come back; a dead worker's block is redone."""
        waiting = deque((block, 1) for block in blocks)
        running: dict[object, tuple[int, Block, int]] = {}
        idle = deque(self.actors)
        while waiting or running:
            while waiting and idle:
                number, (block, attempt) = idle.popleft(), waiting.popleft()
                running[self.actors[number].run.remote(block)] = (number, block, attempt)
            for ready in self._ray.wait(list(running))[0]:
                number, block, attempt = running.pop(ready)
                rows = self._result(ready, number)
                idle.append(number)
                if rows is not None:
                    yield from (replace(r, shared_device=self.seats[number].shared) for r in rows)
                elif attempt < ATTEMPTS:
                    waiting.appendleft((block, attempt + 1))
                else:
                    reason = f"its worker died {ATTEMPTS} times"
                    yield from (failed(task, self.how, reason) for task in block.tasks)

    def _result(self, ready: object, number: int) -> list[Row] | None:
        """Return a block's rows; None where its actor has died, and another takes its seat."""
        errors = self._ray.exceptions
        try:
            return list(self._ray.get(ready))
        except errors.RayActorError:
            self.actors[number] = self._actor(self.seats[number])
            return None
