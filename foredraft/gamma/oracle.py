"""The oracle: stops exactly before the first rejection, because it knows the target's text.

Only for regret in reports; nobody can decode with it by name.

Derived in `docs/en/06b-draft-lengths.md#the-oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence

from foredraft.core import StepOutcome
from foredraft.gamma.base import GammaPolicy, Signal


class OracleGamma(GammaPolicy):
    """Drafts as long as the drafter's likeliest token is the next recorded one; greedy only.

    To see that a draft ends it must ask for the token after it, which costs a draft call. Played a
    second time with the lengths it has found, it spends none.

    Args:
        recorded: the target's output.
        lengths: draft lengths by step, from a first play; None finds them.
        gamma_max: upper bound.
    """

    def __init__(
        self,
        recorded: Sequence[int],
        lengths: Sequence[int] | None = None,
        *,
        gamma_max: int = 64,
    ) -> None:
        self.recorded, self.lengths, self.gamma_max = recorded, lengths, gamma_max
        self.start()

    def start(self) -> None:
        self._emitted = self._step = 0

    @property
    def budget(self) -> int:
        if self.lengths is None:
            return self.gamma_max
        return self.lengths[self._step] if self._step < len(self.lengths) else 0

    def stride(self, num_drafted: int) -> int:
        return 1 if self.lengths is None else self.budget - num_drafted

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        position = self._emitted + num_drafted
        return self.lengths is not None or (
            position < len(self.recorded) and signal.likeliest == self.recorded[position]
        )

    def update(self, outcome: StepOutcome) -> None:
        self._emitted += outcome.num_emitted
        self._step += 1
