"""`svip(threshold)`: stop after a token that the drafter was unsure of, in nats.

Zhang et al., "Draft Model Knows When to Stop", EMNLP 2025: acceptance is at least
1 − √(KL/2), and KL is estimated by a multiple of the drafter's entropy H.

Derived in `docs/en/06-tricks-and-optimizations.md#from-entropy-to-acceptance-svip-and-adaedl`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.registry import check_count, check_range

SHARE = 0.15  # of H, as in the authors' code


@GAMMA_POLICIES.register("svip")
@dataclass
class SvipGamma(GammaPolicy):
    """Stop after a token when √(0.15 · H) > threshold; at 0.3 that is H > 0.6 nats.

    Attributes:
        threshold: ≥ 0.
        gamma_max: upper bound, ≥ 1.
    """

    threshold: float = 0.3
    gamma_max: int = 20

    def __post_init__(self) -> None:
        check_range("threshold", self.threshold, 0, float("inf"))
        check_count("gamma_max", self.gamma_max)

    @property
    def budget(self) -> int:
        return self.gamma_max

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        return math.sqrt(SHARE * signal.entropy) <= self.threshold
