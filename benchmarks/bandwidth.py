"""What this machine's memory can read, and how a call is timed on its device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

MEGABYTE = 1_000_000
SIZES = tuple(MEGABYTE * 2**k for k in range(2, 10))  # 4 MB … 512 MB
MOST_BYTES = 2_000 * MEGABYTE  # of an array; larger weights are measured with this


def seconds(run: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Return the time of each of several calls, after a warm-up; by events on CUDA."""
    for _ in range(3):
        run()
    if device.type == "cuda":
        return [_event_seconds(run) for _ in range(repeats)]
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return found


def _event_seconds(run: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def bandwidth(sizes: Sequence[int], repeats: int, device: torch.device) -> dict[int, float]:
    """Return the best rate, in bytes a second, of a sum and a copy over arrays of some sizes.

    A sum reads its array once; a copy reads and writes, so it moves twice its size.
    """
    rates = {}
    for size in sizes:
        array = torch.ones(size // 4, device=device)
        other = torch.empty_like(array)
        summed = min(seconds(array.sum, repeats, device))
        copied = min(seconds(lambda a=array, b=other: b.copy_(a), repeats, device))
        rates[size] = max(size / summed, 2 * size / copied)
    return rates


def rate_for(num_bytes: int, rates: dict[int, float]) -> float:
    """Return the best rate over arrays no smaller than this, or than the largest measured."""
    smallest = min(num_bytes, max(rates))
    return max(rate for size, rate in rates.items() if size >= smallest)
