"""Whether the texts that may run at once fit into memory: said at the start, not too late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from foredraft.errors import ConfigError
from foredraft.models import Network

ROOT = Path("/")
SHARE = 0.9  # of what is free that contexts may take


def check_fits(networks: list[Network], max_parallel: int, free: int | None = None) -> None:
    """Raise unless every text has room for all positions of its contexts.

    Args:
        networks: each with a context a text.
        max_parallel: texts at once.
        free: bytes that may be taken; None: what the system says, if it does.

    Raises:
        ConfigError: with the numbers, and how many texts fit.
    """
    each = sum(network.max_length * (network.position_bytes or 0) for network in networks)
    free = free_bytes() if free is None else free
    if not each or free is None:
        return
    fits = int(SHARE * free / each)
    if fits < max_parallel:
        raise ConfigError(
            f"{max_parallel} texts of {networks[0].max_length} positions need "
            f"{_gigabytes(max_parallel * each)} GB, and {_gigabytes(int(SHARE * free))} GB are "
            f"free; set --max-parallel to {max(fits, 1)} or less"
        )


def free_bytes(root: Path = ROOT) -> int | None:
    """Return the memory that this process may still take; None where the system does not say."""
    return min(_every_limit(root), default=None)


def _every_limit(root: Path) -> Iterator[int]:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        folder = root / "sys/fs/cgroup"
        try:
            yield max(0, int((folder / most).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f}"
