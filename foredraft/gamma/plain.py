"""`plain`: no draft at all, plain decoding; what any other rule must be worth more than.

Derived in `docs/en/02-speculative-theory.md#speed-up-and-when-there-is-one`.
"""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy


@GAMMA_POLICIES.register("plain")
@dataclass
class PlainGamma(GammaPolicy):
    """Never a token: no drafter is asked, and a draft model reads nothing."""

    @property
    def budget(self) -> int:
        return 0

    def stride(self, num_drafted: int) -> int:
        return 0
