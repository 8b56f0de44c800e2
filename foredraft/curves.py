"""Seconds by how much there is to do, and tokens per second: measured, and forgotten in time.

Knows numbers only; the meter keeps them, and drafters that compare.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

NOTICED = 0.02  # change of a quartile, relative, below which nothing is worked out anew
NEWEST = 32  # measurements kept of each kind: a machine's speed drifts
REMEMBERED = 256  # measurements of any kind after which one that was not repeated says nothing


class Curve:
    """Seconds that something takes by how many tokens, or calls, it is of.

    Through the lower quartiles of the newest measurements of every count that occurred, since what
    else a machine does only adds to a time; and never falling: a small one costs at most what a
    larger one does. Between them straight, since processors take some counts much better than
    others; beyond them along the line a + b·k that fits them best. A count that has not come again
    for long is forgotten, so that one slow moment is not held against it for ever.

    Args:
        from_nothing: none of it takes no time.
        newest: measurements kept of a count.
        share: of these, the smallest ones, that are at most what is taken for typical.
    """

    def __init__(
        self, *, from_nothing: bool = False, newest: int = NEWEST, share: float = 0.25
    ) -> None:
        self._measured: dict[int, deque[float]] = {}
        self._unread: set[int] = set()  # counts measured since anybody asked
        self._typical: dict[int, float] = {}
        self._times: dict[int, int] = {}  # when each was measured last
        self._time = 0
        self._from_nothing, self._kept, self._share = from_nothing, newest, share
        self._newest = 0
        self._table: list[float] = []  # of 0, 1, … since a quartile changed
        self._fitted: tuple[float, float] | None = None  # the line, since anything was measured

    @property
    def is_known(self) -> bool:
        """Whether anything has been measured."""
        return bool(self._measured)

    @property
    def largest(self) -> int:
        """The largest count that was measured; 0 while nothing is known."""
        return max(self._measured, default=0)

    def __contains__(self, count: int) -> bool:
        """Whether it was measured of so many."""
        return count in self._measured

    def add(self, count: int, seconds: float) -> None:
        """Measure one of `count`."""
        self._measured.setdefault(count, deque(maxlen=self._kept)).append(seconds)
        self._newest = count
        self._time += 1
        self._times[count] = self._time
        self._unread.add(count)
        self._fitted = None
        if self._time % REMEMBERED == 0:
            self._drop_oldest()

    def catch_up(self) -> None:
        """Believe the newest measurement where it is the less: all were to be so much less now.

        But where none takes no time, fewer take at least their share of it: the first costs most.
        """
        count = self._newest
        newest = self._measured[count].pop()
        if not self._measured[count]:
            del self._measured[count]
            self._typical.pop(count, None)
        self._unread.discard(count)
        self._unread |= {count} & set(self._measured)
        self._table = []
        before = self(count)
        if newest < before:
            for known, measured in self._measured.items():
                share = newest * known / max(count, known) if self._from_nothing else 0.0
                scaled = [max(seconds * newest / before, share) for seconds in measured]
                self._measured[known] = deque(scaled[-2:], maxlen=self._kept)
            self._unread |= set(self._measured)
        self.add(count, newest)

    def __call__(self, count: int) -> float:
        """Return the seconds of `count`; 0 while nothing is known."""
        return self.up_to(count)[count]

    def up_to(self, most: int) -> list[float]:
        """Return the seconds of 0, 1, …, and of `most` at least; nobody edits them."""
        if self._unread:
            self._read()
        if len(self._table) <= most:
            self._table = self._worked_out(most) if self.is_known else [0.0] * (most + 1)
        return self._table

    def straight(self, first: int, last: int) -> list[float]:
        """Return the seconds of `first` … `last` along the line that fits best.

        Where counts vary much each is measured seldom, and the lucky ones would make steps that are
        not there.
        """
        if not self.is_known:
            return [0.0] * (last - first + 1)
        if self._unread:
            self._read()
        if self._fitted is None:  # several texts ask between two measurements
            self._fitted = self._line()
        constant, slope = self._fitted
        return [constant + slope * k for k in range(first, last + 1)]

    def _drop_oldest(self) -> None:
        """Forget counts that were not measured for long, but for the two that were last."""
        for count in sorted(self._times, key=self._times.__getitem__)[:-2]:
            if self._times[count] <= self._time - REMEMBERED:
                del self._measured[count], self._times[count]
                self._typical.pop(count, None)
                self._unread.discard(count)
                self._table = []

    def _read(self) -> None:
        """Take the quartiles of what was measured; few change enough to be noticed."""
        for count in self._unread:
            measured, known = sorted(self._measured[count]), self._typical.get(count)
            typical = measured[int(self._share * (len(measured) - 1))]
            if known is None or abs(typical - known) > NOTICED * known:
                self._typical[count] = typical
                self._table = []
        self._unread.clear()

    def _worked_out(self, most: int) -> list[float]:
        curve = self._curve()
        constant, slope = self._line()
        first, last = curve[0], curve[-1]
        table = [min(first[1], constant + slope * k) for k in range(first[0])]
        for (left, before), (right, after) in pairwise(curve):
            rise = (after - before) / (right - left)
            table += [before + rise * k for k in range(right - left)]
        return table + [last[1] + slope * k for k in range(max(most - last[0], 0) + 1)]

    def _curve(self) -> list[tuple[int, float]]:
        """Return counts and seconds, both rising."""
        curve, least = [], math.inf
        for k in sorted(self._typical, reverse=True):
            least = min(least, self._typical[k])
            curve.append((k, least))
        return [*([(0, 0.0)] if self._from_nothing else []), *reversed(curve)]

    def _line(self) -> tuple[float, float]:
        """Return a and b by least squares, a count weighted by its measurements."""
        weights = {k: len(measured) for k, measured in self._measured.items()}
        total = sum(weights.values())
        mean_k = sum(w * k for k, w in weights.items()) / total
        mean_t = sum(w * self._typical[k] for k, w in weights.items()) / total
        spread = sum(w * (k - mean_k) ** 2 for k, w in weights.items())
        if spread == 0:
            return (0.0, mean_t / mean_k) if self._from_nothing and mean_k else (mean_t, 0.0)
        slope = (
            sum(w * (k - mean_k) * (self._typical[k] - mean_t) for k, w in weights.items()) / spread
        )
        # What is there whatever the count costs more than nothing, or nothing, but never less.
        steepest = (1.0 if self._from_nothing else 0.9) * mean_t / mean_k
        slope = min(max(slope, 0.0), steepest)
        return mean_t - slope * mean_k, slope


class Rate:
    """Tokens per second over the newest steps.

    Args:
        memory: steps after which a step counts 1/e.

    Attributes:
        count: steps in all.
    """

    def __init__(self, memory: float = 64) -> None:
        self._keep = math.exp(-1 / memory)
        self.tokens = self.seconds = self.steps = 0.0
        self.count = 0

    def add(self, tokens: int, seconds: float) -> None:
        """Count a step."""
        self.tokens = self._keep * self.tokens + tokens
        self.seconds = self._keep * self.seconds + seconds
        self.steps = self._keep * self.steps + 1
        self.count += 1

    @property
    def per_second(self) -> float | None:
        """Tokens per second; None while nothing has been measured."""
        return self.tokens / self.seconds if self.seconds > 0 else None
