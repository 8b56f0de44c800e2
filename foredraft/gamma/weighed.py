"""What prices mean for drafts of a model at a mean acceptance: how long, from which chance on."""

from __future__ import annotations

import math

from foredraft.costs import TINY, Prices, best_length, quickest_length

LOOK_AHEAD = 8  # tokens that are weighed together
NOTICED = 0.15  # change of a mean acceptance, in shares of what it lacks, that is weighed anew


class Weighed:
    """What prices mean at a mean acceptance: worked out once, since both stay for a while.

    Args:
        prices: of now.
        mean: of a token of the model.
        copied: of a copied one.

    Attributes:
        plan: the length of a draft by the model, and the tokens that are gained by it.
        rate: tokens per second that time brings elsewhere, in other steps like this one.
    """

    __slots__ = ("_bars", "copied", "mean", "plan", "prices", "rate")

    def __init__(self, prices: Prices, mean: float, copied: float) -> None:
        self.prices, self.mean, self.copied = prices, mean, copied
        if prices.texts > 1:  # what the others draft brings tokens, too: the newest steps tell
            chances, self.rate = [mean] * len(prices.drafted), prices.rate
            self.plan = best_length(chances, prices.drafted, self.rate)
        else:
            length, self.rate = quickest_length(mean, prices)
            # From (1 + gain) / (plain + cost) = rate: what it gains beyond its cost at that rate.
            gained = max(self.rate * prices.plain - 1, TINY)
            self.plan = (length, gained) if length else (0, 0.0)
        self._bars: dict[tuple[int, int, bool], float] = {}

    def holds(self, prices: Prices, mean: float, copied: float) -> bool:
        """Whether it is still true, as far as means are known."""
        return (
            self.prices is prices
            and abs(mean - self.mean) <= NOTICED * (1 - self.mean)
            and abs(copied - self.copied) <= NOTICED
        )

    def loss(self, length: int) -> float:
        """Return the seconds that a draft of so many tokens is likely to lose; 0 if it gains."""
        length = min(length, len(self.prices.drafted) - 1)
        gained = sum(self.mean**k for k in range(1, length + 1))
        return max(self.prices.drafted[length] - gained / max(self.rate, TINY), 0.0)

    def bar(self, drafted: int, calls: int, *, is_counted: bool = False) -> float:
        """Return the chance above which the next token is worth its time, alone or with more.

        Args:
            drafted: tokens before it.
            calls: made so far: they are paid for.
            is_counted: whether it is copied, which costs no further call.
        """
        key = drafted, calls, is_counted
        found = self._bars.get(key)
        if found is None:
            found = self._bars[key] = self._least(*key)
        return found

    def _least(self, drafted: int, calls: int, is_counted: bool) -> float:
        draft, most = self.prices.draft, len(self.prices.draft) - 1
        verify = self.prices.verify if calls else self.prices.copied
        mean = self.copied if is_counted else self.mean
        paid = max(calls, drafted)
        before = draft[min(calls, most)] + verify[min(drafted, most)]
        least, gain, survival = math.inf, 0.0, 1.0
        for length in range(drafted + 1, min(drafted + LOOK_AHEAD, most) + 1):
            gain += survival
            survival *= mean
            made = calls if is_counted else calls + max(length - paid, 0)
            least = min(least, (draft[min(made, most)] + verify[length] - before) / gain)
        return least * (self.prices.rate if is_counted and not calls else self.rate)


NOTHING_WEIGHED = Weighed(Prices(1, 0.0, 0.0, [], [], [], [], []), 0.0, 0.0)
