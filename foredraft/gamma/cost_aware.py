"""`cost_aware`: draft as long as the next token is worth its time on this machine.

The renewal-reward form of the threshold of Huang, Guo and Wang (arXiv:2405.19715). With the
survival S_k = Π a_i of the draft so far, ā the mean acceptance and R the tokens per second that
time brings elsewhere, token k + 1 is drafted iff

    S_k · ā > R · (D(k + 1) − D(k) + T_v(k + 1) − T_v(k))

or a longer draft is worth it: T_v has steps, and what one token does not pay for, two may. With
γ = 0, plain decoding, when no length pays. Everything in it is measured as decoding goes on; there
is no threshold to tune.

Derived in `docs/en/06-tricks-and-optimizations.md#knowing-the-cost`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import repeat
from typing import Annotated

from foredraft.chances import Luck, Mean
from foredraft.core import StepOutcome
from foredraft.costs import USUAL_LAG, Meter, Prices, best_length
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.gamma.calibration import MOST, Calibration, acceptance_labels
from foredraft.ranges import DraftLength, Range

LEARNING = (4, 2, 1, 4, 2, 1)  # of the first drafts, before costs are believed
LOOK_AHEAD = 8  # tokens that are weighed together
FURTHER = 2  # tokens drafted at once beyond the length that is best on the whole
TRIAL_LENGTH = 3  # tokens of a draft that is made to see whether drafts pay again
MOST_CREDIT = 16  # plain steps whose time may be saved up for trials
DEBT = 2  # plain steps whose time must be there before a trial, whatever it may cost

Explored = Annotated[float, Range(0, 0.5)]


@dataclass
class _Knowledge:
    """What outlives a generation besides the meter: how margins relate to acceptance.

    Of drawn and of copied tokens apart: copies that fail say nothing of the draft model.
    """

    drawn: Calibration = field(default_factory=Calibration)
    counted: Calibration = field(default_factory=Calibration)
    called: int = 0  # drafting steps that cost draft calls
    looked_up: int = 0  # those that cost none
    credit: float = 0.0  # seconds that may be spent on trying what does not seem to pay

    def curve(self, signal: Signal) -> Calibration:
        """Return what is known of tokens that are found as this one was."""
        return self.counted if signal.is_counted else self.drawn


@GAMMA_POLICIES.register("cost_aware")
@dataclass
class CostAwareGamma(GammaPolicy):
    """Weighs each draft token against its cost.

    The decision before a token has paid for its draft call, and asks whether it is worth verifying.
    As many tokens as are best on the whole are drafted at once, and asked about then. The text
    under greedy does not depend on any of this; under sampling the clock decides how the same
    randomness is spent, so that a seed may give another text of the same distribution.

    Attributes:
        gamma_max: upper bound.
        explore: share of the time that may be spent on drafts which do not seem to pay, to see
            whether they do.
    """

    gamma_max: DraftLength = 16
    explore: Explored = 0.02
    _known: _Knowledge = field(init=False, compare=False, repr=False, default_factory=_Knowledge)
    _mean: Mean = field(init=False, compare=False, repr=False)
    _luck: Luck = field(init=False, compare=False, repr=False)
    _survival: float = field(init=False, compare=False, repr=False, default=1.0)
    _signals: list[tuple[bool, float]] = field(
        init=False, compare=False, repr=False, default_factory=list
    )
    _admitted: int = field(init=False, compare=False, repr=False, default=0)
    _acceptance: float = field(init=False, compare=False, repr=False, default=1.0)
    # whether the newest draft took its time for reading, so that it says little
    _has_read: bool = field(init=False, compare=False, repr=False, default=False)
    _plan: tuple[int, float] = field(init=False, compare=False, repr=False, default=(0, 0.0))
    _planned: tuple[Prices, float] | None = field(
        init=False, compare=False, repr=False, default=None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.meter = Meter()  # until a text has that of its pair
        self.start()

    @property
    def stops_for_cost(self) -> bool:
        return True

    def start(self) -> None:
        self._luck = Luck()
        self._mean, self._has_read = self._known.drawn.of_text(), False
        self._forget_draft()

    @property
    def budget(self) -> int:
        # Whether draft calls pay is the question of `stride`: what is looked up costs none.
        return self.gamma_max

    @property
    def is_learning(self) -> bool:
        """Whether it drafts to see what that costs and brings."""
        return self._known.called < len(LEARNING)

    @property
    def survival(self) -> float:
        """The chance that all tokens drafted so far are kept."""
        return self._survival

    def stride(self, num_drafted: int) -> int:
        if self.meter.wants_plain and not num_drafted:
            return 0
        if self.is_learning:
            return max(min(LEARNING[self._known.called], self.gamma_max) - num_drafted, 0)
        length, _ = self.plan()
        if length:
            return FURTHER if num_drafted else length
        return 0 if num_drafted or not self.may_try() else min(TRIAL_LENGTH, self.gamma_max)

    def plan(self) -> tuple[int, float]:
        """Return the length of a draft by the model, and the tokens that are gained by it."""
        prices, mean = self.meter.prices(self.gamma_max), self._mean.value
        if self._planned != (prices, mean):  # neither has changed in a step of plain decoding
            self._plan = best_length(repeat(mean, self.gamma_max), prices.drafted)
            self._planned = prices, mean
        return self._plan

    def may_try(self, further_seconds: float = 0.0) -> bool:
        """Whether there is time for a draft that does not seem to pay.

        Args:
            further_seconds: that it takes besides.
        """
        # What it costs may be long out of date: a debt is paid back before the next one.
        price = min(self._seconds(1, 1), DEBT * self.meter.pass_seconds(0))
        return self._has_read or self._known.credit > price + further_seconds

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        margin = signal.margin
        self._acceptance = self._known.curve(signal).acceptance(margin)
        if not signal.is_counted:
            self._acceptance = min(self._acceptance * self._luck.factor, MOST)
        self._signals[num_drafted:] = [(signal.is_counted, margin)]
        return self._accepts_all(signal) or self._is_worth(self._acceptance, num_drafted, signal)

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        self._survival *= self._acceptance
        self._admitted = num_drafted
        mean = self._known.counted.mean if signal.is_counted else self._mean.value
        return self._accepts_all(signal) or self._is_worth(mean, num_drafted, signal)

    def update(self, outcome: StepOutcome) -> None:
        known, num_calls = self._known, outcome.draft.num_calls
        if not (num_calls or self._signals):  # it was asked about nothing
            self._save(outcome.seconds)
            self._has_read = False
            return
        labels = acceptance_labels(outcome)
        for (is_counted, margin), label in zip(self._signals, labels, strict=False):
            if not is_counted:
                self._mean.add(label)
                self._luck.count(known.drawn.acceptance(margin), label)
            (known.counted if is_counted else known.drawn).add(margin, label)
        # Tokens that were not proposed are worse than the others: without them the mean flatters.
        for is_counted, margin in self._signals[self._admitted :]:
            curve = known.counted if is_counted else known.drawn
            curve.average.add(curve.acceptance(margin))
            if not is_counted:
                self._mean.add(curve.acceptance(margin))
        known.called += num_calls > 0
        known.looked_up += num_calls == 0 and bool(outcome.draft.tokens)
        self._spend(outcome)
        self._has_read = num_calls > 0 and outcome.draft.num_read > USUAL_LAG
        self._forget_draft()

    def _save(self, seconds: float) -> None:
        """Save a share of the time for trials."""
        most = MOST_CREDIT * self.meter.pass_seconds(0)
        self._known.credit = min(self._known.credit + self.explore * seconds, most)

    def _spend(self, outcome: StepOutcome) -> None:
        """Save of the time of a step, and pay for a draft that was not to pay."""
        known, num_calls = self._known, outcome.draft.num_calls
        self._save(outcome.seconds)
        if num_calls and not self.is_learning and not self.plan()[0]:
            known.credit -= outcome.draft_seconds + self._seconds(0, len(outcome.draft.tokens))
            self.meter.draft_seconds.forget()

    def _forget_draft(self) -> None:
        self._survival, self._signals, self._admitted = 1.0, [], 0

    def _seconds(self, calls: int, length: int) -> float:
        """Return what draft calls, and a draft, add to a step of plain decoding."""
        meter = self.meter
        verify = meter.pass_seconds(length, after_calls=True)
        return meter.draft_seconds(calls) + verify - meter.pass_seconds(0)

    def _accepts_all(self, signal: Signal) -> bool:
        """Whether it takes what it gets: it is learning, or trying whether calls pay again."""
        if signal.is_counted:
            return self._known.looked_up < len(LEARNING)
        return self.is_learning or not self.plan()[0]

    def _is_worth(self, acceptance: float, drafted: int, signal: Signal) -> bool:
        """Whether 1 … `LOOK_AHEAD` tokens more bring more than their time would elsewhere.

        Args:
            acceptance: of the first of them; further ones are taken for mean ones.
            drafted: tokens before them.
            signal: copied tokens cost no draft calls, and those that were made are paid for.
        """
        prices, calls = self.meter.prices(self.gamma_max), signal.num_calls
        draft, verify = prices.draft, prices.verify if calls else prices.copied
        gain, survival = 0.0, self._survival * acceptance
        calls, paid = min(calls, self.gamma_max), max(calls, drafted)
        before = draft[calls] + verify[drafted]
        mean = self._known.counted.mean if signal.is_counted else self._mean.value
        for length in range(drafted + 1, min(drafted + LOOK_AHEAD, self.gamma_max) + 1):
            gain += survival
            further = 0 if signal.is_counted else max(length - paid, 0)
            if gain > draft[min(calls + further, self.gamma_max)] + verify[length] - before:
                return True
            survival *= mean
        return False
