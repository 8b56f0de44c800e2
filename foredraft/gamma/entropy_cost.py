"""`entropy_cost(gamma_min, gamma_max, ema, …)`: EGAG's idea with what its rule leaves out.

One decision a step, from the entropy of the drafter's first token, as in `entropy`; but with two
changes, each with a switch of its own:

    calibrated   H in nats → chances of acceptance: a₁ of the first token, a₂ of each further one,
                 logistic curves in −H fitted to what was tested; else a₁ = a₂ = 1 − H_norm
    priced       γ_raw = argmax_k Σ_{i<k} a₁·a₂ⁱ − R · (D(k) − D(1) + T_v(k) − T_v(0)), where D(0)
                 is D(1): the call that H comes from is made; else γ_raw = a₁ · γ_max

D(k) and T_v(k) are what k draft calls and a pass over k drafted tokens take here, R the running
tokens per second, at least 1 / T_v(0). With both off it is `entropy`.

Derived in `docs/en/06b-draft-lengths.md#entropy-calibrated-and-priced`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated

from foredraft.core import StepOutcome
from foredraft.costs import Meter
from foredraft.gamma.base import GAMMA_POLICIES, Signal
from foredraft.gamma.calibration import Calibration, acceptance_labels
from foredraft.gamma.entropy import Ema, EntropyGamma
from foredraft.ranges import LONGEST_DRAFT, Hold, Range

FIRST_STEPS = 8  # drafting steps of lengths 1 … FIRST_LENGTHS, before costs are believed
FIRST_LENGTHS = 4
REFRESH = 8  # drafting steps between two looks at whether drafting pays
RECENT = 16  # entropies that the look is at
LONGEST_REST = 512  # steps between two tries, when tries keep failing


@dataclass
class _Relation:
    """How the entropy of a first token relates to the acceptance of it and of those after it."""

    first: Calibration = field(default_factory=Calibration)
    further: Calibration = field(default_factory=Calibration)

    def chances(self, nats: float) -> tuple[float, float]:
        return self.first.acceptance(-nats), self.further.acceptance(-nats)

    def add(self, nats: float, labels: list[float]) -> None:
        for i, label in enumerate(labels):
            (self.further if i else self.first).add(-nats, label)


@dataclass
class _Knowledge:
    """What outlives a generation besides the meter."""

    drawn: _Relation = field(default_factory=_Relation)
    counted: _Relation = field(default_factory=_Relation)  # copies cost no call
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    called: int = 0  # steps with draft calls
    pays: bool = True  # whether the first call of a step does
    rested: int = 0  # steps since a drawn token was tested
    patience: int = 0  # of them until one is drafted for the try


@GAMMA_POLICIES.register("entropy_cost")
@dataclass
class EntropyCostGamma(EntropyGamma):
    """EGAG, calibrated in nats and priced by measured costs.

    With γ = 0, plain decoding, where not one token pays, and without a draft call where H has been
    such that hearing it does not pay. The text under greedy depends on none of this; under sampling
    a seed may give another text of the same distribution.

    Attributes:
        gamma_min: lower bound; 0 allows plain decoding.
        gamma_max: upper bound, ≥ gamma_min.
        ema: weight of the past in the moving average; 0 means no smoothing.
        calibrated: take acceptance from H in nats, as measured, not from H / ln V.
        priced: take the length that brings most by measured costs, not a share of gamma_max.
        explore: steps without a draft until one is tried; doubled each time it still does not pay.
    """

    gamma_min: Annotated[int, Range(0, LONGEST_DRAFT)] = 0
    gamma_max: Annotated[int, Range(1, LONGEST_DRAFT)] = 16
    ema: Ema = 0.0
    calibrated: bool = True
    priced: bool = True
    explore: Hold = 16
    _known: _Knowledge = field(init=False, compare=False, repr=False, default_factory=_Knowledge)
    _heard: tuple[_Relation, float] | None = field(
        init=False, compare=False, repr=False, default=None
    )  # what the length of this step was decided by

    def __post_init__(self) -> None:
        super().__post_init__()
        self._known.patience = self.explore
        self.meter = Meter()  # until a text has that of its pair

    @property
    def stops_for_cost(self) -> bool:
        return self._is_resting or (self._heard is not None and self.gamma == 0)

    def start(self) -> None:
        super().start()
        self._heard = None

    @property
    def gamma(self) -> int:
        """The length decided for this step: clip(⌊γ̃⌋, γ_min, γ_max), in a try at least 1."""
        return max(super().gamma, int(self._is_trying))

    def stride(self, num_drafted: int) -> int:
        return 0 if self._is_resting and not num_drafted else super().stride(num_drafted)

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        if num_drafted:
            return True
        self._entropy = signal.normalized_entropy
        nats = _nats(signal, self._entropy)
        known, is_counted = self._known, signal.is_counted
        self._heard = (known.counted if is_counted else known.drawn, nats)
        if not is_counted:
            known.recent.append((nats, self._entropy))
        if self._is_learning and not is_counted:
            self._raw = float(min(1 + known.called % FIRST_LENGTHS, self.gamma_max))
            self._smoothed = self._raw
        else:
            self._raw = self._wish(nats, self._entropy, is_counted)
            before = self._raw if self._smoothed is None else self._smoothed
            self._smoothed = before + (1 - self.ema) * (self._raw - before)
        return self.gamma > 0

    def update(self, outcome: StepOutcome) -> None:
        if self._heard is not None:
            relation, nats = self._heard
            relation.add(nats, acceptance_labels(outcome))
        known, num_calls = self._known, outcome.draft.num_calls
        known.called += num_calls > 0
        self._count_rest(bool(num_calls and outcome.draft.tokens), outcome.is_typical)
        if num_calls and known.called % REFRESH == 0:
            known.pays = self._pays()
        self._heard = None
        super().update(outcome)

    def _chances(self, nats: float, normalized: float, is_counted: bool) -> tuple[float, float]:
        """Return the acceptance of a first token of this entropy, and of each further one."""
        if not self.calibrated:
            return 1 - normalized, 1 - normalized
        return (self._known.counted if is_counted else self._known.drawn).chances(nats)

    def _wish(self, nats: float, normalized: float, is_counted: bool) -> float:
        """Return γ_raw."""
        chances = self._chances(nats, normalized, is_counted)
        if not self.priced:
            return chances[0] * self.gamma_max
        rate = max(self.meter.rate.per_second or 0.0, self._plain_rate)
        return float(self._best(chances, rate, is_counted)[0])

    def _best(
        self, chances: tuple[float, float], rate: float, is_counted: bool
    ) -> tuple[int, float]:
        """Return the length that gains most, and how many tokens more than `rate` would bring."""
        draft, verify = self.meter.draft_seconds, self.meter.verify_seconds
        before, called = verify(0), draft(1)
        best, most, expected, survival = 0, 0.0, 0.0, chances[0]
        for length in range(1, self.gamma_max + 1):
            expected += survival
            survival *= chances[1]
            calls = 0.0 if is_counted else draft(length) - called
            gain = expected - rate * (calls + verify(length) - before)
            if gain > most:
                best, most = length, gain
        return best, most

    def _pays(self) -> bool:
        """Whether hearing the first token brings more than its call costs, at recent entropies."""
        recent, rate = self._known.recent, self._plain_rate
        if not (self.priced and recent):
            return True
        gains = [self._best(self._chances(*felt, False), rate, False)[1] for felt in recent]
        return sum(gains) > len(gains) * rate * self.meter.draft_seconds(1)

    @property
    def _plain_rate(self) -> float:
        """1 / T_v(0); 0 while nothing is known."""
        plain = self.meter.verify_seconds(0)
        return 1 / plain if plain > 0 else 0.0

    @property
    def _is_learning(self) -> bool:
        return self.priced and self._known.called < FIRST_STEPS

    @property
    def _is_resting(self) -> bool:
        return not (self._known.pays or self.gamma_min or self._is_trying)

    @property
    def _is_trying(self) -> bool:
        return self._known.rested >= self._known.patience

    def _count_rest(self, is_tested: bool, is_typical: bool) -> None:
        """Count steps without a drawn token; a try ends once the draft model has caught up."""
        known = self._known
        if not is_tested:
            known.rested += 1
        elif is_typical:
            was_try, known.rested = self._is_trying, 0
            if was_try:
                known.patience = min(2 * known.patience, LONGEST_REST)
                self.meter.draft_seconds.catch_up()
                known.pays = self._pays()
            else:
                known.patience = self.explore


def _nats(signal: Signal, normalized: float) -> float:
    """Return H; from H / ln V, which has been computed over the vocabulary already."""
    if signal.logits is None:
        return signal.entropy
    return normalized * math.log(max(len(signal.logits), 1))
