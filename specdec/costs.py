"""What a draft call and a verification cost, and what steps bring: measured as they happen.

Knows outcomes of steps; knows neither models nor clocks. Drafters and policies that weigh costs
share it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from statistics import median_low

from specdec.core import StepOutcome

MOST_LAG = 16  # tokens that a draft call reads in passing; more of them make it a long one
NEWEST = 32  # measurements kept of each kind: a machine's speed drifts


class Costs:
    """Seconds of a draft call, and of a target pass that verifies k tokens.

    Medians of the newest measurements. T_v goes through the medians of the lengths that occurred,
    and never falls: a pass costs at most what a longer one does. Between them it is straight, since
    processors take some row counts much better than others; beyond them it follows the line
    T_v(k) = a + b·k that fits them best.
    """

    def __init__(self) -> None:
        self._calls: deque[float] = deque(maxlen=NEWEST)
        self._passes: dict[int, deque[float]] = {}
        self._medians: dict[int, float] = {}
        self._curve: list[tuple[int, float]] = []  # length and seconds, both rising
        self._line = (0.0, 0.0)  # a, b
        self.draft_seconds = 0.0
        self._lag = math.inf  # tokens the draft model has not read

    def start(self) -> None:
        """Begin a generation: the first draft call will read the prompt."""
        self._lag = math.inf

    def observe(self, outcome: StepOutcome) -> bool:
        """Measure a step; return whether it was typical, neither model having had much to read."""
        num_calls = outcome.draft.num_calls
        has_caught_up = self._lag <= MOST_LAG
        self._lag = 0 if num_calls else self._lag + outcome.num_emitted
        if num_calls and has_caught_up:
            self._calls.append(outcome.draft_seconds / num_calls)
            self.draft_seconds = median_low(self._calls)
        if not outcome.read_prompt:
            self._add_pass(len(outcome.draft.tokens), outcome.verify_seconds)
        return not outcome.read_prompt and (has_caught_up or not num_calls)

    def forget_calls(self) -> None:
        """Keep the two newest calls only: those before a long rest say nothing of now."""
        self._calls = deque(list(self._calls)[-2:], maxlen=NEWEST)

    @property
    def are_known(self) -> bool:
        """Whether any pass of the target has been measured."""
        return bool(self._passes)

    def verify_seconds(self, drafted: int) -> float:
        """Return T_v(drafted); 0 while nothing is known."""
        curve = self._curve
        if not curve:
            return 0.0
        at = bisect_left(curve, (drafted, 0.0))
        if at == len(curve):
            last, seconds = curve[-1]
            return seconds + self._line[1] * (drafted - last)
        right, seconds = curve[at]
        if right == drafted:
            return seconds
        if at == 0:
            return min(seconds, self._line[0] + self._line[1] * drafted)
        left, before = curve[at - 1]
        return before + (seconds - before) * (drafted - left) / (right - left)

    def _add_pass(self, drafted: int, seconds: float) -> None:
        passes = self._passes.setdefault(drafted, deque(maxlen=NEWEST))
        passes.append(seconds)
        self._medians[drafted] = median_low(passes)
        self._curve, least = [], math.inf
        for k in sorted(self._medians, reverse=True):
            least = min(least, self._medians[k])
            self._curve.insert(0, (k, least))
        self._line = self._fit()

    def _fit(self) -> tuple[float, float]:
        """Return a and b by least squares, a length weighted by its measurements."""
        weights = {k: len(passes) for k, passes in self._passes.items()}
        total = sum(weights.values())
        mean_k = sum(w * k for k, w in weights.items()) / total
        mean_t = sum(w * self._medians[k] for k, w in weights.items()) / total
        spread = sum(w * (k - mean_k) ** 2 for k, w in weights.items())
        if spread == 0:
            return mean_t, 0.0
        slope = (
            sum(w * (k - mean_k) * (self._medians[k] - mean_t) for k, w in weights.items()) / spread
        )
        # A plain pass costs more than nothing, whatever the line says.
        slope = min(max(slope, 0.0), 0.9 * mean_t / mean_k)
        return mean_t - slope * mean_k, slope


class Rate:
    """Tokens per second over the newest steps.

    Args:
        memory: steps after which a step counts 1/e.
    """

    def __init__(self, memory: float = 64) -> None:
        self._keep = math.exp(-1 / memory)
        self.tokens = self.seconds = self.steps = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Count a step."""
        self.tokens = self._keep * self.tokens + tokens
        self.seconds = self._keep * self.seconds + seconds
        self.steps = self._keep * self.steps + 1

    @property
    def per_second(self) -> float | None:
        """Tokens per second; None while nothing has been measured."""
        return self.tokens / self.seconds if self.seconds > 0 else None


class Arms:
    """Which of several alternatives gives most tokens per second: UCB1 on ratios to the best.

    Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002;
    for speculation Hou et al., "BanditSpec", ICML 2025. An arm is kept for `hold` steps.

    Args:
        count: number of arms, ≥ 1.
        exploration: how much an arm gains by having been tried little, ≥ 0.
        hold: steps an arm is played at a time, ≥ 1.

    Attributes:
        current: the arm to play.
    """

    def __init__(self, count: int, exploration: float, hold: int) -> None:
        self.rates = [Rate(memory=256) for _ in range(count)]
        self.exploration, self.hold = exploration, hold
        self.current, self._played = 0, 0

    def add(self, tokens: int, seconds: float, *, counts: bool = True) -> None:
        """Score a step of the current arm, unless it does not count; choose the next in time."""
        if not counts:
            return
        self.rates[self.current].add(tokens, seconds)
        self._played += 1
        if self._played >= self.hold:
            self._played = 0
            self.current = self._choose()

    def _choose(self) -> int:
        rates = [rate.per_second for rate in self.rates]
        if None in rates:
            return rates.index(None)
        best = max(rate for rate in rates if rate is not None)
        total = math.log(sum(rate.steps for rate in self.rates) + 1)

        def score(arm: int) -> float:
            rate = self.rates[arm]
            bonus = self.exploration * math.sqrt(total / rate.steps)
            return (rate.per_second or 0.0) / best + bonus

        return max(range(len(rates)), key=score)
