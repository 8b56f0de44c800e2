"""Paired differences with bootstrap intervals, and the words they allow.

The unit is the prompt: repeats of a prompt are averaged first, then prompts are drawn with
replacement (Efron and Tibshirani, 1993, chapter 13: the percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 6  # prompts: five that agree in sign do so by chance once in sixteen times
SEED = 0  # of the resampling: the same rows give the same intervals
FASTER, SLOWER, NO_DIFFERENCE = "faster", "slower", "no difference found"
TOO_FEW = "too few prompts"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; fewer than `FEWEST` prompts have none."""

    value: float
    low: float | None
    high: float | None


def bootstrap(values: Floats, statistic: Callable[..., Any] = np.mean) -> Interval:
    """Return numpy's mean or median of one value a prompt, shape `[prompts]`, with its interval."""
    value = float(statistic(values))
    if len(values) < FEWEST:
        return Interval(value, None, None)
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    resampled = statistic(values[drawn], axis=1)  # [resamples]
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """A cell beside another one, on the prompts that both have."""

    prompts: int  # how many
    difference: Interval  # ours − theirs, tokens a second, mean over prompts
    speedup: Interval  # ours / theirs, geometric mean over prompts
    # faster, slower or no difference found: where the interval of the paired differences of log
    # throughput, that is of the speedup, leaves no difference out
    word: str


def compare(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Comparison | None:
    """Compare throughputs by prompt id; None where no prompt has a speed in both."""
    speeds = (ours, theirs)
    shared = sorted(
        key
        for key in ours.keys() & theirs.keys()
        if all(0 < speed[key] < math.inf for speed in speeds)
    )
    if not shared:
        return None
    a = np.array([ours[key] for key in shared])
    b = np.array([theirs[key] for key in shared])
    difference = bootstrap(a - b)
    logs = bootstrap(np.log(a / b))
    ends = [None if v is None else float(np.exp(v)) for v in (logs.low, logs.high)]
    speedup = Interval(float(np.exp(logs.value)), *ends)
    return Comparison(len(shared), difference, speedup, word_for(logs))


def word_for(logs: Interval) -> str:
    """Return what an interval of a difference of logarithms allows to say."""
    if logs.low is None or logs.high is None:
        return TOO_FEW
    if logs.low > 0:
        return FASTER
    return SLOWER if logs.high < 0 else NO_DIFFERENCE
