"""`throughput(gamma_min, gamma_max, cooldown)`: one token more or fewer, kept if it is no slower.

The adaptive K of ONNX Runtime GenAI (microsoft/onnxruntime-genai at a0c04eb, 2026-08-22:
`AdaptiveKController` and `SpeculativeCooldownController`, options `min_adaptive_k` and `cooldown`
in docs/SpeculativeDecoding.md; pull requests 2285 and 2315), told anew. Of every length there are
running averages (a new step weighs 1/4) of emitted tokens, seconds and acceptance, the share of
kept tokens among those kept or rejected. After two steps at a length:

    acceptance < 0.5   →  try one token fewer        acceptance ≥ 0.75  →  try one token more

A try lasts two steps, one where it has less than 0.8 of the tokens a second of the length it comes
from. It is kept with at least 0.97 of them and, upwards, an acceptance of 0.75. One step passes
before the next try after one that was kept, six after one that was not.

Derived in `docs/en/06b-draft-lengths.md#two-public-rules-asymmetric-and-throughput`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from foredraft.core import StepOutcome
from foredraft.costs import TINY
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy
from foredraft.ranges import LONGEST_DRAFT, DraftLength, Range

NEW_WEIGHT = 0.25  # of a step in the averages of its length
HIGH, LOW = 0.75, 0.5  # acceptance to try a longer draft, and a shorter one
KEPT, HOPELESS = 0.97, 0.8  # of the origin's tokens a second, to stay, and to leave at once
TRIAL = 2  # steps before a length is judged
REST_AFTER_KEPT, REST_AFTER_REJECTED = 1, 6  # steps
FAILURES = 3  # steps of the least length in a row that kept nothing, before a plain one


@dataclass
class _Average:
    """Of the steps of one length."""

    tokens: float = 0.0
    seconds: float = 0.0
    acceptance: float = 0.0
    steps: int = 0

    def add(self, tokens: int, seconds: float, acceptance: float) -> None:
        weight = NEW_WEIGHT if self.steps else 1.0
        self.tokens += weight * (tokens - self.tokens)
        self.seconds += weight * (seconds - self.seconds)
        self.acceptance += weight * (acceptance - self.acceptance)
        self.steps += 1

    @property
    def per_second(self) -> float:
        return self.tokens / max(self.seconds, TINY)


@GAMMA_POLICIES.register("throughput")
@dataclass
class ThroughputGamma(GammaPolicy):
    """Climbs by single tokens while acceptance is high and the measured speed does not fall.

    A text begins with gamma_min and no averages. Only steps with as many tokens as were asked for
    count; those in which a model read its prompt do not. It cannot see a peak beyond a dip.

    Attributes:
        gamma_min: first length and lower bound.
        gamma_max: upper bound, ≥ gamma_min.
        cooldown: whether three steps of gamma_min in a row that keep nothing are followed by a
            plain one.
    """

    gamma_min: DraftLength = 2
    gamma_max: DraftLength = 16
    cooldown: bool = False
    _gamma: int = field(init=False, default=0)
    _origin: int = field(init=False, default=0)  # length that a try comes from; 0: there is none
    _tried: int = field(init=False, default=0)  # steps since the length was last changed or tried
    _rest: int = field(init=False, default=0)  # steps until a try may begin
    _failures: int = field(init=False, default=0)
    _averages: dict[int, _Average] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        Range(self.gamma_min, LONGEST_DRAFT).check("gamma_max", self.gamma_max)
        self.start()

    def start(self) -> None:
        self._gamma, self._origin, self._averages = self.gamma_min, 0, {}
        self._tried = self._rest = self._failures = 0

    @property
    def budget(self) -> int:
        return 0 if self._failures == FAILURES else self._gamma

    def stride(self, num_drafted: int) -> int:
        return self.budget - num_drafted

    def update(self, outcome: StepOutcome) -> None:
        drafted, kept = len(outcome.draft.tokens), outcome.verdict.num_accepted
        if self._failures == FAILURES:
            self._failures = 0
        elif drafted and self.cooldown:
            failed = kept == 0 and self._gamma == self.gamma_min
            self._failures = self._failures + 1 if failed else 0
        if drafted != self._gamma or not outcome.is_typical:
            return
        average = self._averages.setdefault(self._gamma, _Average())
        average.add(outcome.num_emitted, outcome.seconds, kept / min(kept + 1, drafted))
        self._tried += 1
        if self._origin:
            self._judge_try(average)
        elif self._rest:
            self._rest -= 1
        else:
            self._begin_try(average)

    def _begin_try(self, average: _Average) -> None:
        if average.steps < TRIAL:
            return
        if average.acceptance < LOW and self._gamma > self.gamma_min:
            step = -1
        elif average.acceptance >= HIGH and self._gamma < self.gamma_max and self._tried >= TRIAL:
            step = 1
        else:
            return
        self._origin, self._tried = self._gamma, 0
        self._gamma += step

    def _judge_try(self, average: _Average) -> None:
        speed = average.per_second / self._averages[self._origin].per_second
        if speed >= HOPELESS and self._tried < TRIAL:
            return
        is_high = self._gamma < self._origin or average.acceptance >= HIGH
        is_kept = speed >= KEPT and is_high
        if not is_kept:
            self._gamma = self._origin
        self._rest = REST_AFTER_KEPT if is_kept else REST_AFTER_REJECTED
        self._origin = self._tried = 0
