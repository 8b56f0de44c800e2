"""A stand-in for CUDA graphs on a CPU: what is recorded is repeated without a line of Python."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from foredraft.native.graphs import Compute, Made

ASKING = ("_local_scalar_dense", "nonzero", "is_nonzero")  # the host waits for a number
TELLING = ("lift_fresh",)  # the device is sent one


class Tape(TorchDispatchMode):
    """Records operations with the very tensors they read; refuses what a graph cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ASKING + TELLING, f"{name} inside a graph"
        result = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """Do it all again; results land where they were the first time, as with a graph."""
        new: dict[int, Tensor] = {}

        def current(tensor: Tensor) -> Tensor:
            return new.get(id(tensor), tensor)

        for func, args, kwargs, result in self.steps:
            args, kwargs = tree_map_only(Tensor, current, (args, kwargs))
            again = func(*args, **kwargs)
            flat = result if isinstance(result, list | tuple) else [result]
            flat_again = again if isinstance(again, list | tuple) else [again]
            for old, fresh in zip(flat, flat_again, strict=True):
                if isinstance(old, Tensor) and id(old) not in new:
                    new[id(old)] = fresh
        self.newest = new


def record(compute: Compute) -> Compute:
    """Return a replay of a function, as `foredraft.native.graphs.GraphCapture` does."""
    with Tape() as tape:
        result = compute()

    @torch.inference_mode()
    def replay() -> Made:
        tape.replay()
        for part in result:
            if part is not None:
                part.copy_(tape.newest[id(part)])  # overwritten by the next replay
        return result

    return replay
