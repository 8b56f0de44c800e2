"""How many threads a pass gets on a machine that does other things too.

The threads of a pass meet some hundred times in it, and whoever is there first waits. Beside other
busy programs the last one may not be running at all: a pass of 2 ms then takes ten or a hundred,
while one thread alone loses only its own share. So the passes of all threads are compared with the
quickest of them, and while they take longer than one thread would, one it is.
"""

from __future__ import annotations

import time
from collections import deque

RECENT = 8  # passes whose mean is looked at: one slow pass alone means little
TRIAL = 4  # passes that all threads get before they are judged anew
GUESS = 2.5  # what one thread takes of all threads' time, until it is known
DRIFT = 1.002  # texts grow, so that passes do: the quickest is forgotten slowly
FIRST_PAUSE, LAST_PAUSE = 0.05, 2.0  # seconds that one thread goes on before all are tried again


class Pace:
    """Watches how long passes take, and says how many threads the next one gets."""

    def __init__(self) -> None:
        self._quickest: dict[int, float] = {}  # seconds of a pass of all threads, by its rows
        self._recent = deque[float](maxlen=RECENT)  # passes of all threads, in quickest ones
        self._alone = GUESS  # a pass of one thread, likewise
        self._pause, self._until = FIRST_PAUSE, 0.0
        self.threads = 0  # of the newest pass

    def choose(self, most: int) -> int:
        """Return how many threads the next pass gets, 1 or `most`."""
        is_alone = most > 1 and time.perf_counter() < self._until
        self.threads = 1 if is_alone else most
        return self.threads

    def passed(self, rows: int, seconds: float, most: int) -> None:
        """Learn how long a pass over `rows` tokens took, with the threads that were chosen."""
        if most == 1:
            return
        if self.threads == 1:
            quickest = self._quickest.get(rows)
            if quickest:
                self._alone += 0.1 * (seconds / quickest - self._alone)
            return
        quickest = min(seconds, DRIFT * self._quickest.get(rows, seconds))
        self._quickest[rows] = quickest
        self._recent.append(seconds / quickest)
        if len(self._recent) >= TRIAL:
            self._judge()

    def _judge(self) -> None:
        """Let one thread go on if all have become slower than it."""
        if sum(self._recent) / len(self._recent) > self._alone:
            self._until = time.perf_counter() + self._pause
            self._pause = min(2 * self._pause, LAST_PAUSE)
            self._recent.clear()
        elif len(self._recent) == RECENT:
            self._pause = FIRST_PAUSE
