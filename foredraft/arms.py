"""Arms: which of several ways to decode is quickest here, found by playing them in turns.

Knows outcomes of steps; a bandit of drafters and one of policies share it.
"""

from __future__ import annotations

import math

from foredraft.core import MOST_LAG, StepOutcome
from foredraft.costs import TINY
from foredraft.curves import Rate

KEPT = math.exp(-1 / 1024)  # of the weight of arms' steps, at each further one
MOST_LOST = 0.02  # of the time, by playing arms slower than the best


class Arms:
    """Which of several alternatives gives most tokens per second: UCB1 on ratios to the best.

    Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002;
    of all arms older steps count less (Garivier and Moulines, "On Upper-Confidence Bound Policies
    for Switching Bandit Problems", ALT 2011); for speculation Hou et al., "BanditSpec", ICML 2025.

    Each arm has a first turn of `hold` steps. After these an arm slower than the best is played
    only while what such arms have lost, first turns included, and what this turn would lose are
    within `MOST_LOST` of the time of all steps.

    Args:
        count: number of arms, ≥ 1.
        exploration: how much an arm gains by having been tried little, ≥ 0.
        hold: steps an arm is played at a time, ≥ 1.

    Attributes:
        current: the arm to play.
        seconds: of all steps.
        lost: of them, seconds that the best arm would not have taken for the same tokens.
    """

    def __init__(self, count: int, exploration: float, hold: int) -> None:
        self.rates = [Rate(math.inf) for _ in range(count)]  # they fade together, not each alone
        self.exploration, self.hold = exploration, hold
        self.current, self._played = 0, 0
        self.seconds = self.lost = 0.0
        self._read = [0.0] * count  # seconds in which a draft model caught up, when it last had to

    def add(self, arm: int, outcome: StepOutcome) -> None:
        """Score a step of an arm; choose the next in time.

        Steps in which a model has much to read say nothing of an arm, but a draft model that rested
        reads for its arm alone.
        """
        if outcome.is_typical:
            self._count(arm, outcome.num_emitted, max(outcome.seconds, TINY))
        else:
            self._spend(arm, 0, outcome.draft_seconds)
            if outcome.draft.num_read > MOST_LAG:
                self._read[arm] = outcome.draft_seconds
        if self._played >= self.hold:
            self._played = 0
            self.current = self._choose()

    def _count(self, arm: int, tokens: int, seconds: float) -> None:
        were_tried = self._are_tried
        self._spend(arm, tokens, seconds)
        for rate in self.rates:
            rate.tokens *= KEPT
            rate.seconds *= KEPT
            rate.steps *= KEPT
        self.rates[arm].add(tokens, seconds)
        self._played += arm == self.current
        if self._are_tried and not were_tried:
            best = self._rate(self._best)
            self.lost = sum(rate.seconds - rate.tokens / best for rate in self.rates)

    def _spend(self, arm: int, tokens: int, seconds: float) -> None:
        self.seconds += seconds
        if self._are_tried and arm != self._best:
            self.lost += seconds - tokens / self._rate(self._best)

    @property
    def _are_tried(self) -> bool:
        return all(rate.count >= self.hold for rate in self.rates)

    @property
    def _best(self) -> int:
        return max(range(len(self.rates)), key=self._rate)

    def _rate(self, arm: int) -> float:
        return self.rates[arm].per_second or 0.0

    def _choose(self) -> int:
        if not self._are_tried:
            return [rate.count >= self.hold for rate in self.rates].index(False)
        best = self._best
        total = math.log(sum(rate.steps for rate in self.rates) + 1)

        def score(arm: int) -> float:
            bonus = self.exploration * math.sqrt(total / max(self.rates[arm].steps, TINY))
            return self._rate(arm) / self._rate(best) + bonus

        allowed = MOST_LOST * self.seconds - self.lost
        arms = range(len(self.rates))
        return max((arm for arm in arms if arm == best or self._loss(arm) <= allowed), key=score)

    def _loss(self, arm: int) -> float:
        """Return the seconds that a turn of this arm would lose beside the best."""
        rate, behind = self.rates[arm], 1 - self._rate(arm) / self._rate(self._best)
        return self._read[arm] + self.hold * behind * rate.seconds / max(rate.steps, TINY)
