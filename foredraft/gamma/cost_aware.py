"""`cost_aware`: draft as long as the next token is worth its time on this machine.

The renewal-reward form of the threshold of Huang, Guo and Wang (arXiv:2405.19715). With the
survival S_k = Π a_i of the draft so far, ā the mean acceptance and R the running tokens per second,
token k + 1 is drafted iff

    S_k · ā > R · (D(k + 1) − D(k) + T_v(k + 1) − T_v(k))

or a longer draft is worth it: T_v has steps, and what one token does not pay for, two may. With
γ = 0, plain decoding, when no length pays at R = 1 / T_v(0). Everything in it is measured as
decoding goes on; there is no threshold to tune.

Derived in `docs/en/06-tricks-and-optimizations.md#knowing-the-cost`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from foredraft.core import StepOutcome
from foredraft.costs import TINY, Meter
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.gamma.calibration import Calibration, acceptance_labels
from foredraft.ranges import DraftLength, Hold

FIRST_STEPS = 8  # drafting steps of lengths 1, 2, …, before costs and rates are believed
LOOK_AHEAD = 8  # tokens that are weighed together
FURTHER = 2  # tokens drafted at once beyond the length that is best on the whole
REFRESH = 8  # drafting steps between two looks at the best length
LONGEST_REST = 512  # plain steps between two tries, when tries keep failing


@dataclass
class _Knowledge:
    """What outlives a generation besides the meter: how margins relate to acceptance.

    Of drawn and of copied tokens apart: copies that fail say nothing of the draft model.
    """

    drawn: Calibration = field(default_factory=Calibration)
    counted: Calibration = field(default_factory=Calibration)
    steps: int = 0  # drafting steps learned from
    called: int = 0  # those of them that cost draft calls
    length: int = 1  # that is best on the whole
    pays: bool = True  # whether drafting does
    rested: int = 0  # plain steps since the last try
    patience: int = 0  # of them until the next one

    def curve(self, signal: Signal) -> Calibration:
        """Return what is known of tokens that are found as this one was."""
        return self.counted if signal.is_counted else self.drawn


@GAMMA_POLICIES.register("cost_aware")
@dataclass
class CostAwareGamma(GammaPolicy):
    """Weighs each draft token against its cost.

    The decision before a token has paid for its draft call, and asks whether it is worth verifying.
    Under greedy as many tokens as are best on the whole are drafted at once, and asked about then.
    The text under greedy does not depend on any of this; under
    sampling the clock decides how the same randomness is spent, so that a seed may give another
    text of the same distribution.

    Attributes:
        gamma: longest of the first drafts, while costs are unknown.
        gamma_max: upper bound.
        explore: plain steps until drafting is tried again once it did not pay; doubled each time
            it still does not.
    """

    gamma: DraftLength = 4
    gamma_max: DraftLength = 16
    explore: Hold = 16
    _known: _Knowledge = field(init=False, compare=False, repr=False, default_factory=_Knowledge)
    _survival: float = field(init=False, compare=False, repr=False, default=1.0)
    _signals: list[tuple[bool, float]] = field(
        init=False, compare=False, repr=False, default_factory=list
    )
    _acceptance: float = field(init=False, compare=False, repr=False, default=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._known.patience = self.explore
        self.meter = Meter()  # until a text has that of its pair

    @property
    def stops_for_cost(self) -> bool:
        return True

    def start(self) -> None:
        self._forget_draft()

    @property
    def budget(self) -> int:
        # Whether draft calls pay is the question of `stride`: what is looked up costs none.
        if self._is_learning:
            return min(1 + self._known.steps % self.gamma, self.gamma_max)
        return self.gamma_max

    def stride(self, num_drafted: int) -> int:
        if self._known.called < FIRST_STEPS:
            return max(1 + self._known.called % self.gamma - num_drafted, 0)
        if not self._known.pays:
            return int(num_drafted == 0 and self._known.rested >= self._known.patience)
        return FURTHER if num_drafted else self._known.length

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        margin = signal.margin
        self._acceptance = self._known.curve(signal).acceptance(margin)
        self._signals[num_drafted:] = [(signal.is_counted, margin)]
        if self._accepts_all(signal):
            return True
        return self._is_worth(self._survival * self._acceptance, num_drafted, signal)

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        self._survival *= self._acceptance
        if self._accepts_all(signal):
            return True
        survival = self._survival * self._known.curve(signal).mean
        return self._is_worth(survival, num_drafted, signal)

    def update(self, outcome: StepOutcome) -> None:
        known, drafted = self._known, len(outcome.draft.tokens)
        for (is_counted, margin), label in zip(
            self._signals, acceptance_labels(outcome), strict=False
        ):
            (known.counted if is_counted else known.drawn).add(margin, label)
        num_calls = outcome.draft.num_calls
        known.steps += outcome.is_typical and drafted > 0
        known.called += outcome.is_typical and num_calls > 0
        self._forget_draft()
        # Whether a draft of some length beats plain decoding: at R = 1 / T_v(0).
        plain = self.meter.verify_seconds(0)
        known.pays = plain > 0 and self._gains(1 / plain, known.drawn, known.drawn.mean, 0, 0)
        self._count_rest(num_calls, outcome.is_typical)
        if known.steps % REFRESH == 0:
            known.length = self._best_length()

    def _forget_draft(self) -> None:
        self._survival = 1.0
        self._signals = []

    def _best_length(self) -> int:
        """Return the length that brings most tokens a second if every token is a mean one."""
        meter, mean = self.meter, self._known.drawn.mean
        best, fastest, expected, survival = 1, 0.0, 1.0, 1.0
        for length in range(1, self.gamma_max + 1):
            survival *= mean
            expected += survival
            seconds = meter.draft_seconds(length) + meter.verify_seconds(length)
            if expected > fastest * seconds:
                best, fastest = length, expected / max(seconds, TINY)
        return best

    @property
    def _is_learning(self) -> bool:
        return self._known.steps < FIRST_STEPS

    def _accepts_all(self, signal: Signal) -> bool:
        """Whether it takes what it gets: it is learning, or trying whether calls pay again."""
        return self._is_learning or not (self._known.pays or signal.is_counted)

    def _is_worth(self, survival: float, drafted: int, signal: Signal) -> bool:
        """Whether tokens after the first `drafted` are worth their time at the running rate."""
        rate, curve = self.meter.rate.per_second or 0.0, self._known.curve(signal)
        return self._gains(rate, curve, survival, drafted, signal.num_calls)

    def _gains(
        self, rate: float, curve: Calibration, survival: float, drafted: int, num_calls: int
    ) -> bool:
        """Whether 1 … `LOOK_AHEAD` tokens more bring more than `rate` would in their time.

        Args:
            rate: tokens per second.
            curve: of what is weighed: copied tokens cost no draft calls.
            survival: chance that the first of them is kept; each further one is with chance ā.
            drafted: tokens before them.
            num_calls: draft calls made, each of which has paid for a token.
        """
        draft, verify = self.meter.draft_seconds, self.meter.verify_seconds
        before, gain = draft(num_calls) + verify(drafted), 0.0
        paid = max(num_calls, drafted)
        for length in range(drafted + 1, min(drafted + LOOK_AHEAD, self.gamma_max) + 1):
            gain += survival
            further = 0 if curve is self._known.counted else max(length - paid, 0)
            if gain > rate * (draft(num_calls + further) + verify(length) - before):
                return True
            survival *= curve.mean
        return False

    def _count_rest(self, num_calls: int, is_typical: bool) -> None:
        """Count steps without a call; a try ends when the draft model had caught up in it."""
        if self._is_learning or self._known.pays:
            self._known.rested, self._known.patience = 0, self.explore
        elif num_calls and is_typical:
            self.meter.draft_seconds.forget()
            self._known.rested = 0
            self._known.patience = min(2 * self._known.patience, LONGEST_REST)
        elif not num_calls:
            self._known.rested += 1
