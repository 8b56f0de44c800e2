"""`svip(threshold)`: stop after a token that the drafter was unsure of, in nats.

Zhang et al., "Draft Model Knows When to Stop", EMNLP 2025: acceptance is at least
1 − √(KL/2), and KL is estimated by a multiple of the drafter's entropy H.

Derived in `docs/en/06b-draft-lengths.md#from-entropy-to-acceptance-svip-and-adaedl`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.ranges import DraftLength, Range

SHARE = 0.15  # of H, as in the authors' code


@GAMMA_POLICIES.register("svip")
@dataclass
class SvipGamma(GammaPolicy):
    """Stop after a token when √(0.15 · H) > threshold; at 0.3 that is H > 0.6 nats.

    Attributes:
        threshold: 0 stops after any token that is not certain.
        gamma_max: upper bound.
    """

    threshold: Annotated[float, Range(0, 100)] = 0.3
    gamma_max: DraftLength = 20

    @property
    def budget(self) -> int:
        return self.gamma_max

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        return math.sqrt(SHARE * signal.entropy) <= self.threshold
