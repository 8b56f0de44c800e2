"""`heuristic(gamma)`: two more after full acceptance, one fewer after a rejection, at least one.

Derived in `docs/en/06-tricks-and-optimizations.md#fixed-and-heuristic`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from foredraft.core import StepOutcome
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy
from foredraft.registry import check_range


@GAMMA_POLICIES.register("heuristic")
@dataclass
class HeuristicGamma(GammaPolicy):
    """The rule that assisted generation in transformers made known.

    Attributes:
        gamma: length of the first draft, ≥ 1.
        gamma_max: upper bound, ≥ gamma.
    """

    gamma: int = 4
    gamma_max: int = 20
    _current: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        check_range("gamma_max", self.gamma_max, 1, float("inf"))
        check_range("gamma", self.gamma, 1, self.gamma_max)
        self.start()

    def start(self) -> None:
        self._current = self.gamma

    @property
    def budget(self) -> int:
        return self._current

    def stride(self, num_drafted: int) -> int:
        return self._current - num_drafted

    def update(self, outcome: StepOutcome) -> None:
        drafted = len(outcome.draft.tokens)
        if drafted == 0:
            return
        if outcome.verdict.num_accepted == drafted:
            self._current = min(self._current + 2, self.gamma_max)
        else:
            self._current = max(self._current - 1, 1)
