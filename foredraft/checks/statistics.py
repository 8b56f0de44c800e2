"""Chi-square: p-values, and the smallest bias that a test would have found.

Pure numbers; knows no model. All functions work in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

POWER = 0.99  # probability with which the smallest detectable bias is found
HALVINGS = 200  # bisection steps: more than float64 can tell apart


def chi_square(observed: Sequence[int], expected: Sequence[float]) -> float:
    """Return Pearson's Σ (O − E)² / E over cells of equal index."""
    return math.fsum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))


def p_value(statistic: float, dof: int) -> float:
    """Return P(χ² ≥ statistic) with `dof` degrees of freedom."""
    return float(torch.special.gammaincc(_double(dof / 2), _double(statistic / 2)))


def critical_value(level: float, dof: int) -> float:
    """Return the statistic that is reached with probability `level`, in (0, 1)."""
    return _solve(lambda x: p_value(x, dof) <= level)


def power(noncentrality: float, dof: int, critical: float) -> float:
    """Return P(χ² ≥ critical) when the statistic is noncentral: a Poisson mixture of central ones.

    The mixture is cut where what is left out weighs less than 1e-12.
    """
    mean = noncentrality / 2
    spread = 8 * math.sqrt(mean) + 40
    count = torch.arange(max(0.0, math.floor(mean - spread)), mean + spread, dtype=torch.float64)
    log_weights = count * math.log(max(mean, 1e-300)) - mean - torch.lgamma(count + 1)
    tails = torch.special.gammaincc(dof / 2 + count, torch.full_like(count, critical / 2))
    return float((log_weights.exp() * tails).sum())


def detectable_total_variation(samples: int, dof: int, level: float) -> float | None:
    """Return the smallest total variation that a test finds with probability `POWER`.

    A bias of total variation δ moves the statistic of n samples by at least 4·n·δ², whichever cells
    it moves mass between (the least if each side holds half of the mass).

    Args:
        samples: n, ≥ 1.
        dof: degrees of freedom; 0 means that there is nothing to test.
        level: probability of a false alarm, in (0, 1).

    Returns:
        δ < 1, or None where no bias at all would be found.
    """
    if dof < 1:
        return None
    critical = critical_value(level, dof)
    needed = _solve(lambda x: power(x, dof, critical) >= POWER)
    smallest = math.sqrt(needed / (4 * samples))
    return smallest if smallest < 1 else None


def _solve(reached: Callable[[float], bool]) -> float:
    """Return the smallest x ≥ 0 that satisfies a condition which, once true, stays true."""
    low, high = 0.0, 1.0
    while not reached(high):
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)
