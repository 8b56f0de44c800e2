"""`heuristic(gamma)`: two more after full acceptance, one fewer after a rejection, at least one.

Derived in `docs/en/06b-draft-lengths.md#fixed-and-heuristic`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from foredraft.core import StepOutcome
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy
from foredraft.ranges import DraftLength, Range


@GAMMA_POLICIES.register("heuristic")
@dataclass
class HeuristicGamma(GammaPolicy):
    """The rule that assisted generation in transformers made known.

    Attributes:
        gamma: length of the first draft, at most gamma_max.
        gamma_max: upper bound.
    """

    gamma: DraftLength = 4
    gamma_max: DraftLength = 20
    _current: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        Range(1, self.gamma_max).check("gamma", self.gamma)
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
