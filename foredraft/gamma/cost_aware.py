"""`cost_aware`: draft as long as the next token is worth its time on this machine.

The renewal-reward form of the threshold of Huang, Guo and Wang (arXiv:2405.19715). With the
survival S_k = Π a_i of the draft so far, ā the mean acceptance and R the tokens per second that
time brings elsewhere, token k + 1 is drafted iff

    S_k · ā > R · (D(k + 1) − D(k) + T_v(k + 1) − T_v(k))

or a longer draft is worth it: T_v has steps, and what one token does not pay for, two may. With
γ = 0, plain decoding, when no length pays. Everything in it is measured as decoding goes on; there
is no threshold to tune.

Derived in `docs/en/06b-draft-lengths.md#knowing-the-cost`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from foredraft.chances import Luck, Mean
from foredraft.core import StepOutcome
from foredraft.costs import TINY, USUAL_LAG, Meter
from foredraft.gamma.base import GAMMA_POLICIES, WIDEST_MARGIN, GammaPolicy, Signal
from foredraft.gamma.calibration import MOST, Calibration, acceptance_labels, num_tested
from foredraft.gamma.weighed import NOTHING_WEIGHED, Weighed
from foredraft.ranges import DraftLength, Range

LEARNING = (4, 2, 4, 3, 2, 4)  # of the first drafts, before costs are believed
FURTHER = 2  # tokens drafted at once beyond the length that is best on the whole
TRIAL_LENGTH = 3  # tokens of a draft that is made to see whether drafts pay again
LEAST_HOPE = 4  # of so many shares of the time one is left for trials, where they are in vain
FIRST_CREDIT = 4  # plain steps whose time trials may lose at first: six drafts may be unlucky
MOST_CREDIT, DEAREST = 16, 15  # plain steps whose time may be saved up; that a trial may cost
HOPE = 0.3  # by which a mean acceptance may be better than it looks after one draft
DEBT = 2  # plain steps whose time must be there for a draft that is tried, whatever it may lose

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
    credit: float = 0.0  # seconds that may be lost by trying what does not seem to pay
    vain: int = 0  # trials after which it still did not, one after another
    # Of steps in which no rule was asked, until one is: a text may end before.
    unasked_seconds: float = 0.0
    tested: int = 0
    kept: int = 0

    def curve(self, is_counted: bool) -> Calibration:
        """Return what is known of tokens that were copied, or drawn."""
        return self.counted if is_counted else self.drawn


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
        explore: share of the time that may be lost by drafts which do not seem to pay.
    """

    gamma_max: DraftLength = 16
    explore: Explored = 0.02
    _known: _Knowledge = field(init=False, compare=False, repr=False, default_factory=_Knowledge)
    _mean: Mean = field(init=False, compare=False, repr=False)
    _luck: Luck = field(init=False, compare=False, repr=False)
    _survival: float = field(init=False, compare=False, repr=False, default=1.0)
    _asked: list[tuple[bool, float, float]] = field(
        init=False, compare=False, repr=False, default_factory=list
    )
    _is_trial: bool = field(init=False, compare=False, repr=False, default=False)
    _admitted: int = field(init=False, compare=False, repr=False, default=0)
    # Seconds by which trials of this text have won, and the next one may lose.
    _won: float = field(init=False, compare=False, repr=False, default=0.0)
    _weighed: Weighed = field(init=False, compare=False, repr=False, default=NOTHING_WEIGHED)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.meter = Meter()  # until a text has that of its pair
        self.start()

    @property
    def stops_for_cost(self) -> bool:
        return True

    def start(self) -> None:
        if self._known.unasked_seconds:
            self._learn_counts()
        self._luck = Luck()
        self._mean, self._won = self._known.drawn.of_text(), 0.0
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
        if length and not self._is_trial:
            return FURTHER if num_drafted else length
        if num_drafted or not (self._is_trial or self.tries()):
            return 0
        return length or min(TRIAL_LENGTH, self.gamma_max)

    def plan(self) -> tuple[int, float]:
        """Return the length of a draft by the model, and the tokens that are gained by it."""
        return self._weigh().plan

    @property
    def rate(self) -> float:
        """Tokens per second, of all texts together, by drafts as planned or by plain decoding."""
        return self._weigh().rate

    def tries(self, further_seconds: float = 0.0) -> bool:
        """Decide whether the next draft is made though it does not seem to pay: then it is a trial.

        What it is likely to lose must have been saved, unless trials of this text have won as much.
        What is known of that may be long out of date, so that no trial costs more than can be
        saved: a debt is paid back before the next one.

        Args:
            further_seconds: that it takes besides.
        """
        plain = self.meter.pass_seconds(0)
        price = min(self._weigh().loss(TRIAL_LENGTH), DEBT * plain) + further_seconds
        self._is_trial = self._won > 0 or self._known.credit > min(price, DEAREST * plain)
        return self._is_trial

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        margin = signal.margin
        chance = self._known.curve(signal.is_counted).acceptance(margin)
        self._asked[num_drafted:] = [(signal.is_counted, margin, chance)]
        self._chance = chance if signal.is_counted else min(chance * self._luck.factor, MOST)
        asked = self._chance, num_drafted, signal.num_calls
        is_counted = signal.is_counted
        return self._accepts_all(is_counted) or self._is_worth(*asked, is_counted=is_counted)

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        self._survival *= self._chance
        self._admitted = num_drafted
        is_counted = signal.is_counted
        mean = self._known.counted.mean if is_counted else self._mean.value
        return self._accepts_all(is_counted) or self._is_worth(
            mean, num_drafted, signal.num_calls, is_counted=is_counted
        )

    def admits(
        self, margins: Sequence[float], num_drafted: int, num_calls: int
    ) -> tuple[int, bool]:
        takes_all, factor = self._accepts_all(False), self._luck.factor
        acceptance, survival, drafted = self._known.drawn.acceptance, self._survival, num_drafted
        weighed, asked = self._weigh(), self._asked
        del asked[num_drafted:]
        for margin in margins:
            held = min(margin, WIDEST_MARGIN)
            chance = acceptance(held)
            asked.append((False, held, chance))
            lucky = min(chance * factor, MOST)
            if not takes_all and survival * lucky <= weighed.bar(drafted, num_calls):
                break
            survival *= lucky
            drafted += 1
        self._survival, self._admitted = survival, drafted
        worth = takes_all or survival * self._mean.value > weighed.bar(drafted, num_calls)
        return drafted - num_drafted, worth and drafted == num_drafted + len(margins)

    def update(self, outcome: StepOutcome) -> None:
        known, num_calls = self._known, outcome.draft.num_calls
        if not (num_calls or self._asked):  # it was asked about nothing
            self.save(outcome.seconds)
            self._is_trial = False
            return
        labels = acceptance_labels(outcome)
        for (is_counted, margin, chance), label in zip(self._asked, labels, strict=False):
            known.curve(is_counted).add(margin, label)
            if not is_counted:
                self._mean.add(label)
                self._luck.count(chance, label)
        # Tokens that were not proposed are worse than the others: without them the mean flatters.
        for is_counted, _, chance in self._asked[self._admitted :]:
            known.curve(is_counted).average.add(chance)
            if not is_counted:
                self._mean.add(chance)
        if num_calls:
            known.called += 1
            if known.called == len(LEARNING) and self.explore:
                known.credit += FIRST_CREDIT * self.meter.pass_seconds(0)
        known.looked_up += num_calls == 0 and bool(outcome.draft.tokens)
        self._spend(outcome)
        self._forget_draft()

    def count(self, outcome: StepOutcome) -> None:
        """Note what a step took and kept in which it was not asked: learned when it is asked."""
        known, tested = self._known, num_tested(outcome)
        known.unasked_seconds += outcome.seconds
        known.tested += tested
        known.kept += min(outcome.verdict.num_accepted, tested)

    def _learn_counts(self) -> None:
        """Learn of the steps that were counted."""
        known = self._known
        self.save(known.unasked_seconds)
        if known.tested:  # their order is not known, and the newest counts most
            for mean in (self._mean, known.drawn.average):
                mean.add(known.kept / known.tested, known.tested)
        known.unasked_seconds, known.tested, known.kept = 0.0, 0, 0

    def save(self, seconds: float) -> None:
        """Save a share of the time for trials."""
        share = self.explore / min(1 + self._known.vain, LEAST_HOPE)
        saved = self._known.credit + share * seconds
        self._known.credit = min(saved, MOST_CREDIT * self.meter.pass_seconds(0))

    def _spend(self, outcome: StepOutcome) -> None:
        """Save of the time of a step, and pay for what a draft lost that was not to pay."""
        known, draft = self._known, outcome.draft
        self.save(outcome.seconds)
        if not (draft.num_calls and self._is_trial):
            return
        self.meter.catch_up()
        known.vain = 0 if self.plan()[0] else known.vain + 1
        plain, usual = self.meter.pass_seconds(0), self._seconds(draft.num_calls, len(draft.tokens))
        spent, reading = outcome.seconds - plain, 0.0
        if draft.num_read > USUAL_LAG:  # for the drafts to come as well: one of them is free
            reading = outcome.draft_seconds - self.meter.draft_seconds(draft.num_calls)
            self._won += plain
        # What it took, but for what else the machine did; of a shared pass the share says little.
        spent = usual if outcome.is_shared else min(spent - reading, usual + plain)
        lost = spent - (outcome.num_emitted - 1) / max(self.meter.best_rate, TINY)
        known.credit -= reading + lost
        self._won -= lost

    def _forget_draft(self) -> None:
        self._survival, self._asked, self._admitted = 1.0, [], 0
        self._is_trial = False

    def _seconds(self, calls: int, length: int) -> float:
        """Return what draft calls, and a draft, add to a step of plain decoding."""
        verify = self.meter.pass_seconds(length, after_calls=True)
        return self.meter.draft_seconds(calls) + verify - self.meter.pass_seconds(0)

    def _accepts_all(self, is_counted: bool) -> bool:
        """Whether it takes what it gets: it is learning, or trying whether calls pay again."""
        if is_counted:
            return self._known.looked_up < len(LEARNING)
        return self.is_learning or self._is_trial

    def _is_worth(
        self, acceptance: float, drafted: int, calls: int, *, is_counted: bool = False
    ) -> bool:
        """Whether 1 … `LOOK_AHEAD` tokens more bring more than their time would elsewhere.

        Args:
            acceptance: of the first of them; further ones are taken for mean ones.
            drafted: tokens before them.
            calls: made so far: they are paid for.
            is_counted: whether they are copied, which costs no further call.
        """
        bar = self._weigh().bar(drafted, calls, is_counted=is_counted)
        return self._survival * acceptance > bar

    def _weigh(self) -> Weighed:
        """Return what the prices of now mean."""
        if self._known.unasked_seconds:
            self._learn_counts()
        prices = self.meter.prices(self.gamma_max)
        # Few drafts may have been unlucky, and what is not drafted is not learned about.
        hope = HOPE / math.sqrt(max(self._known.called, 1))
        means = min(self._mean.value + hope, MOST), self._known.counted.mean
        if not self._weighed.holds(prices, *means):
            self._weighed = Weighed(prices, *means)
        return self._weighed
