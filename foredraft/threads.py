"""How many threads this process may use, whatever the machine has.

A container's share and a pinned process know better than the machine: threads beyond them wait for
each other at every product, and a pass takes many times as long.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch

from foredraft.errors import ModelError
from foredraft.ownership import anything_owned

ROOT = Path("/")
BYTES_A_THREAD = 4_000_000  # of weights
_all_threads = torch.get_num_threads()  # what torch would use
_forked = False


def usable_threads() -> int:
    """Return how many threads this process may use at once, ≥ 1.

    The processors it is pinned to, but no more than its share of them; one alone in a process that
    was forked from one which had a model, since OpenMP's threads do not survive that.
    """
    if _forked:
        return 1
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, int(min(processors, _quota())))


class Weighty(Protocol):
    """A module, or what stands for one."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield every weight."""


def threads_for(network: Weighty) -> int:
    """Return how many threads of a CPU a network's weights are worth, ≥ 1.

    Every product wakes all threads, which costs microseconds each; one thread reads
    `BYTES_A_THREAD` of weights in about the time that the wakings of a whole pass take.
    """
    num_bytes: int = sum(p.numel() * p.element_size() for p in network.parameters())
    return max(1, -(-num_bytes // BYTES_A_THREAD))


def fit_threads(worth: int) -> None:
    """Give torch as many threads as a loaded model is worth, but no more than it has of itself.

    For programs: the number is the whole process's, so that loading a model does not set it.

    Args:
        worth: `LoadedModel.threads`; 0 changes nothing.
    """
    if worth and _all_threads > 1:
        use_threads(min(_all_threads, worth), were_asked_for=False)


def use_threads(wanted: int, *, were_asked_for: bool) -> None:
    """Give torch so many threads of a CPU, but never more than this process may use.

    Args:
        wanted: how many, ≥ 1.
        were_asked_for: by the user, who gets a warning if there are fewer.
    """
    usable = usable_threads()
    if wanted > usable and were_asked_for:
        warnings.warn(
            f"threads is {wanted} but this process may use {usable}, so it uses {usable}; more "
            f"would wait for each other: leave it out, or set it to 1 … {usable}",
            RuntimeWarning,
            stacklevel=3,
        )
    torch.set_num_threads(min(wanted, usable))


@functools.cache
def _quota() -> float:
    """Return the processors' time that the control group may use, in processors."""
    return min(quotas(ROOT), default=float("inf"))


def quotas(root: Path) -> Iterator[float]:
    """Yield the quota of every group that this process is in, of cgroup versions 1 and 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").split("\n")
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, place = rest.partition(":")
        if rest and (kinds == "" or "cpu" in kinds.split(",")):
            mounts = ("",) if kinds == "" else (kinds, "cpu", "cpu,cpuacct")
            for mount in mounts:
                yield from _quotas_along(root / "sys/fs/cgroup" / mount, place)


def _quotas_along(mount: Path, place: str) -> Iterator[float]:
    """Yield the quotas of a group and those above; a container may see its own as the root."""
    group = mount / place.strip("/")
    for folder in (group, *group.parents):
        if folder.is_relative_to(mount):
            quota = _quota_of(folder)
            if quota is not None:
                yield quota


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            used, period = (folder / "cpu.max").read_text().split()
        else:
            used = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        quota = int(used) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # none, "max", or nothing that we know
        return None
    return quota if quota > 0 else None  # −1: as much as there is


def check_device_survives(device: torch.device) -> None:
    """Raise `ModelError` in a forked process that has inherited a model on a GPU."""
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise ModelError(
            f"a model on {device} cannot be used in a forked process; start it with spawn: "
            "multiprocessing.get_context('spawn')"
        )


def _after_fork() -> None:
    global _forked
    if anything_owned():
        _forked = True
        torch.set_num_threads(1)  # else the next product waits for threads that are gone


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
