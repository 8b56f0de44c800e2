"""`confidence(threshold)`: stop after a token to which the drafter gave little probability.

Derived in `docs/en/06b-draft-lengths.md#confidence`.
"""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.ranges import DraftLength, Share


@GAMMA_POLICIES.register("confidence")
@dataclass
class ConfidenceGamma(GammaPolicy):
    """Stop after a token whose draft probability is below the threshold; the token stays.

    The probability is the softmax at temperature 1 before filters, so that the rule also means
    something under greedy, where the sampled distribution is one-hot. Of a token that was looked
    up it is the drafter's confidence.

    Attributes:
        threshold: a probability.
        gamma: upper bound.
    """

    threshold: Share = 0.4
    gamma: DraftLength = 10

    @property
    def budget(self) -> int:
        return self.gamma

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        return signal.probability(token) >= self.threshold
