"""`fixed(gamma)`: the same draft length in every step (Leviathan et al., 2023).

Derived in `docs/en/02-speculative-theory.md#the-best-draft-length`.
"""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy
from foredraft.ranges import DraftLength


@GAMMA_POLICIES.register("fixed")
@dataclass
class FixedGamma(GammaPolicy):
    """Always `gamma` tokens.

    Attributes:
        gamma: tokens a step.
    """

    gamma: DraftLength = 4

    @property
    def budget(self) -> int:
        return self.gamma

    def stride(self, num_drafted: int) -> int:
        return self.gamma - num_drafted
