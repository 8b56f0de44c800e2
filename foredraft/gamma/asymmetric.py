"""`asymmetric(gamma_max, …)`: as many tokens as drafts have been keeping, up sooner than down.

The dynamic draft length of ExLlamaV3 (turboderp-org/exllamav3 at 4f8ad01, 2026-08-08: the options
`dynamic_draft_*` of `Generator`, the rule in `Job.draft_target` and `Job.update_draft_ema`), told
anew. After a draft of w tokens of which n were kept, with a = n + 1 where n = w (how many more
would have been kept nobody knows) and a = n otherwise:

    m ← α·a + (1 − α)·m        α = up where a > m, down otherwise        (first draft: m = a)
    γ = clip(⌈m⌉, 1, γ_max)    while m < skip: 0, but min(2, γ_max) in every `interval`-th step

Derived in `docs/en/06b-draft-lengths.md#two-public-rules-asymmetric-and-throughput`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from foredraft.core import StepOutcome
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy
from foredraft.ranges import DraftLength, Hold, Range

Weight = Annotated[float, Range(0, 2, open_low=True, open_high=True)]  # beyond them m would swing
PROBE = 2  # tokens of a draft that asks whether drafts are kept again


@GAMMA_POLICIES.register("asymmetric")
@dataclass
class AsymmetricGamma(GammaPolicy):
    """The average of accepted lengths, rounded up; no draft where next to nothing is accepted.

    A text begins with gamma_max. It knows acceptance and no cost. ExLlamaV3 verifies the drafts of
    several texts at the longest of their lengths; here each text has its own.

    Attributes:
        gamma_max: upper bound.
        up: weight of a draft that raises the average; above 1 it overshoots, as its default does.
        down: weight of a draft that lowers it.
        skip: average, in tokens, below which nothing is drafted; 0 drafts always.
        interval: steps from one probe to the next while nothing is drafted.
    """

    gamma_max: DraftLength = 16
    up: Weight = 1.3
    down: Weight = 0.65
    skip: Annotated[float, Range(0, 1024)] = 0.3
    interval: Hold = 16
    _mean: float | None = field(init=False, default=None)
    _skipped: int = field(init=False, default=0)

    def start(self) -> None:
        self._mean, self._skipped = None, 0

    @property
    def budget(self) -> int:
        if self._mean is None:
            return self.gamma_max
        if self._is_skipping:
            return min(PROBE, self.gamma_max) if self._skipped == self.interval - 1 else 0
        return min(max(math.ceil(self._mean), 1), self.gamma_max)

    def stride(self, num_drafted: int) -> int:
        return self.budget - num_drafted

    def update(self, outcome: StepOutcome) -> None:
        self._skipped = (self._skipped + 1) % self.interval if self._is_skipping else 0
        drafted, kept = len(outcome.draft.tokens), outcome.verdict.num_accepted
        if drafted == 0:
            return
        length = float(kept + (kept == drafted))
        mean = length if self._mean is None else self._mean
        self._mean = mean + (self.up if length > mean else self.down) * (length - mean)

    @property
    def _is_skipping(self) -> bool:
        return self._mean is not None and self._mean < self.skip
