"""`bandit(policy, …)`: whichever of several policies gives most tokens per second here.

Derived in `docs/en/06b-draft-lengths.md#letting-measurements-choose`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from foredraft.arms import Arms
from foredraft.core import StepOutcome
from foredraft.costs import Meter
from foredraft.errors import ConfigError
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.gamma.fixed import FixedGamma
from foredraft.gamma.plain import PlainGamma
from foredraft.gamma.svip import SvipGamma
from foredraft.ranges import Exploration, Hold


def _usual() -> tuple[GammaPolicy, ...]:
    return PlainGamma(), FixedGamma(2), FixedGamma(4), FixedGamma(8), SvipGamma()


@GAMMA_POLICIES.register("bandit")
@dataclass
class BanditGamma(GammaPolicy):
    """Plays policies in turns and scores them by measured tokens per second (UCB1).

    After a first turn of each it loses at most 2 % of the time to policies slower than the best it
    knows. Beside `plain` it is therefore hardly slower than plain decoding, whatever is drafted.

    Attributes:
        arms: the policies, at least one.
        exploration: how much a policy gains by having been tried little.
        hold: steps a policy is played at a time.
    """

    arms: tuple[GammaPolicy, ...] = field(default_factory=_usual)
    exploration: Exploration = 0.3
    hold: Hold = 4
    _scores: Arms = field(init=False, compare=False, repr=False)
    _arm: int = field(init=False, compare=False, repr=False, default=0)  # of this text's step

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.arms:
            raise ConfigError("arms must name at least one policy, e.g. bandit(fixed, svip)")
        self._scores = Arms(len(self.arms), self.exploration, self.hold)

    @property
    def _played(self) -> GammaPolicy:
        return self.arms[self._arm]

    @property
    def stops_for_cost(self) -> bool:
        return self._played.stops_for_cost

    def for_text(self, meter: Meter, ends: frozenset[int] = frozenset()) -> Self:
        own = super().for_text(meter, ends)
        own.arms = tuple(policy.for_text(meter, ends) for policy in self.arms)
        return own

    def start(self) -> None:
        for policy in self.arms:
            policy.start()
        self._arm = self._scores.current

    @property
    def budget(self) -> int:
        return self._played.budget

    def stride(self, num_drafted: int) -> int:
        return self._played.stride(num_drafted)

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        return self._played.before_token(signal, num_drafted)

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        return self._played.after_token(token, signal, num_drafted)

    def update(self, outcome: StepOutcome) -> None:
        self._played.update(outcome)
        self._scores.add(self._arm, outcome)
        self._arm = self._scores.current

    @property
    def normalized_entropy(self) -> float | None:
        return self._played.normalized_entropy

    @property
    def raw_gamma(self) -> float | None:
        return self._played.raw_gamma
