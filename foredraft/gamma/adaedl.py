"""`adaedl(target)`: svip's bound, with a threshold that moves towards a wished acceptance rate.

Agrawal, Jeon and Lee, "AdaEDL: Early Draft Stopping for Speculative Decoding of Large Language
Models via an Entropy-based Lower Bound on Token Acceptance Probability", 2024.

Derived in `docs/en/06b-draft-lengths.md#from-entropy-to-acceptance-svip-and-adaedl`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from foredraft.core import StepOutcome
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.ranges import DraftLength, Range

ENTROPY_SHARE = 0.2  # of H in the bound 1 − √(0.2 · H)
FIRST_THRESHOLD = 0.5
STEP = 0.01
ACCEPTANCE_EMA, THRESHOLD_EMA = 0.5, 0.9


@GAMMA_POLICIES.register("adaedl")
@dataclass
class AdaEdlGamma(GammaPolicy):
    """Stop after a token when 1 − √(0.2 · H) < λ.

    After each step λ goes up by 0.01 where the smoothed acceptance rate is below its aim, and down
    where it is not and a draft was rejected; λ is smoothed in turn.

    Attributes:
        target: acceptance rate aimed at.
        gamma_max: upper bound.
    """

    target: Annotated[float, Range(0, 1, open_low=True)] = 0.9
    gamma_max: DraftLength = 20
    _threshold: float = field(init=False, default=FIRST_THRESHOLD)
    _acceptance: float | None = field(init=False, default=None)

    def start(self) -> None:
        self._threshold, self._acceptance = FIRST_THRESHOLD, None

    @property
    def budget(self) -> int:
        return self.gamma_max

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        return 1 - math.sqrt(ENTROPY_SHARE * signal.entropy) >= self._threshold

    def update(self, outcome: StepOutcome) -> None:
        drafted = len(outcome.draft.tokens)
        if drafted == 0:
            return
        share = outcome.verdict.num_accepted / drafted
        before = share if self._acceptance is None else self._acceptance
        self._acceptance = ACCEPTANCE_EMA * before + (1 - ACCEPTANCE_EMA) * share
        wished = self._threshold
        if self._acceptance < self.target:
            wished += STEP
        elif share < 1:
            wished -= STEP
        smoothed = THRESHOLD_EMA * self._threshold + (1 - THRESHOLD_EMA) * wished
        self._threshold = min(max(smoothed, 0.0), 1.0)
