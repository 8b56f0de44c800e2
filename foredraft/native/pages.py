"""Memory for weights, keys and values, in huge pages where the system has them.

A pass reads every weight once. In pages of four kilobytes it also looks thousands of addresses up,
which on a machine of the cloud took a quarter of its time.
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress

import torch
from torch import Tensor

MAPPING = 1 << 25  # bytes that are mapped at once; what nobody writes to takes no memory
HUGE_PAGE = 1 << 21
LINE = 64  # of a cache


class Arena:
    """Hands out memory that lies side by side; all of it goes when the last tensor does."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def empty(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return a tensor `[count]` at the beginning of a cache line."""
        size = count * dtype.itemsize
        room = -(-size // LINE) * LINE
        if room > len(self._free):
            self._free = _mapped(max(room, MAPPING))
        taken, self._free = self._free[:size], self._free[room:]
        return taken.view(dtype)

    def copy(self, tensor: Tensor) -> Tensor:
        """Return the same numbers in memory of its own."""
        return self.empty(tensor.numel(), tensor.dtype).view(tensor.shape).copy_(tensor)


def zeros(*shape: int, like: Tensor) -> Tensor:
    """Return zeros as `like` is; where they are many on a CPU, in huge pages of their own."""
    count = math.prod(shape)
    if like.device.type != "cpu" or count * like.itemsize < HUGE_PAGE:
        return like.new_zeros(shape)
    return _mapped(count * like.itemsize)[: count * like.itemsize].view(like.dtype).view(shape)


def _mapped(size: int) -> Tensor:
    """Return zeros that begin with a huge page, `[≥ size]` bytes."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(size, dtype=torch.uint8)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # what is shared never gets huge pages
    memory = mmap.mmap(-1, size + HUGE_PAGE, flags=private)
    with suppress(AttributeError, OSError):  # a system without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    block = torch.frombuffer(memory, dtype=torch.uint8)
    return block[-block.data_ptr() % HUGE_PAGE :][:size]
