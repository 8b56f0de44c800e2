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
from foredraft.costs import Costs, Rate
from foredraft.gamma.base import GAMMA_POLICIES, GammaPolicy, Signal
from foredraft.gamma.calibration import Calibration, acceptance_labels
from foredraft.ranges import DraftLength, Hold

FIRST_STEPS = 8  # drafting steps of lengths 1, 2, …, before costs and rates are believed
LOOK_AHEAD = 8  # tokens that are weighed together
MEAN_MEMORY = 1 / 64  # weight of a new label in ā
FURTHER = 2  # tokens drafted at once beyond the length that is best on the whole
REFRESH = 8  # drafting steps between two looks at the best length
TINY = 1e-12  # seconds
LONGEST_REST = 512  # plain steps between two tries, when tries keep failing


@dataclass
class _Knowledge:
    """What outlives a generation: costs, rates, and how margins relate to acceptance."""

    costs: Costs = field(default_factory=Costs)
    rate: Rate = field(default_factory=Rate)
    drawn: Calibration = field(default_factory=Calibration)
    counted: Calibration = field(default_factory=Calibration)
    mean: float = 0.75  # ā
    steps: int = 0  # drafting steps learned from


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
    stops_for_cost = True
    _known: _Knowledge = field(init=False, compare=False, repr=False, default_factory=_Knowledge)
    _survival: float = field(init=False, compare=False, repr=False, default=1.0)
    _signals: list[tuple[bool, float]] = field(
        init=False, compare=False, repr=False, default_factory=list
    )
    # Of this draft: calls made, and tokens that they have paid for.
    _made: int = field(init=False, compare=False, repr=False, default=0)
    _paid: int = field(init=False, compare=False, repr=False, default=0)
    _length: int = field(init=False, compare=False, repr=False, default=1)  # best on the whole
    _pays: bool = field(init=False, compare=False, repr=False, default=True)
    _acceptance: float = field(init=False, compare=False, repr=False, default=1.0)
    _rested: int = field(init=False, compare=False, repr=False, default=0)
    _patience: int = field(init=False, compare=False, repr=False, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._patience = self.explore

    def start(self) -> None:
        self._known.costs.start()
        self._forget_draft()

    @property
    def budget(self) -> int:
        if self._is_learning:
            return min(1 + self._known.steps % self.gamma, self.gamma_max)
        if self._pays:
            return self.gamma_max
        return 1 if self._rested >= self._patience else 0

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        margin = signal.margin
        curve = self._known.counted if signal.is_counted else self._known.drawn
        self._acceptance = curve.acceptance(margin)
        if not signal.is_counted and num_drafted >= self._paid:  # it was a call of its own
            self._made, self._paid = self._made + 1, num_drafted + 1
        self._signals[num_drafted:] = [(signal.is_counted, margin)]
        if self._is_learning or not self._pays:  # a try is a try
            return True
        return self._is_worth(self._survival * self._acceptance, num_drafted, signal.is_counted)

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        self._survival *= self._acceptance
        if self._is_learning:
            return True
        return self._is_worth(self._survival * self._known.mean, num_drafted, signal.is_counted)

    def update(self, outcome: StepOutcome) -> None:
        known, drafted = self._known, len(outcome.draft.tokens)
        is_typical = known.costs.observe(outcome)
        if is_typical:
            known.rate.add(outcome.num_emitted, outcome.seconds)
        for (is_counted, margin), label in zip(
            self._signals, acceptance_labels(outcome), strict=False
        ):
            (known.counted if is_counted else known.drawn).add(margin, label)
            known.mean += MEAN_MEMORY * (label - known.mean)
        known.steps += is_typical and drafted > 0
        self._forget_draft()
        # Whether a draft of some length beats plain decoding: at R = 1 / T_v(0).
        plain = known.costs.verify_seconds(0)
        self._pays = plain > 0 and self._gains(1 / plain, known.mean, 0, is_free=False)
        self._count_rest(drafted, is_typical)
        if known.steps % REFRESH == 0:
            self._length = self._best_length()

    def foresee(self, num_drafted: int) -> int:
        ahead = self.budget - num_drafted
        if self._pays and not self._is_learning:
            ahead = min(ahead, self._length if num_drafted == 0 else FURTHER)
        ahead = max(ahead, 1)
        self._made, self._paid = self._made + ahead, num_drafted + ahead
        return ahead

    def _forget_draft(self) -> None:
        self._survival, self._made, self._paid = 1.0, 0, 0
        self._signals.clear()

    def _best_length(self) -> int:
        """Return the length that brings most tokens a second if every token is a mean one."""
        costs, mean = self._known.costs, self._known.mean
        best, fastest, expected, survival = 1, 0.0, 1.0, 1.0
        for length in range(1, self.gamma_max + 1):
            survival *= mean
            expected += survival
            seconds = costs.draft_seconds(length) + costs.verify_seconds(length)
            if expected > fastest * seconds:
                best, fastest = length, expected / max(seconds, TINY)
        return best

    @property
    def _is_learning(self) -> bool:
        return self._known.steps < FIRST_STEPS

    def _is_worth(self, survival: float, drafted: int, is_free: bool) -> bool:
        """Whether tokens after the first `drafted` are worth their time at the running rate."""
        rate = self._known.rate.per_second or 0.0
        return self._gains(rate, survival, drafted, is_free=is_free)

    def _gains(self, rate: float, survival: float, drafted: int, *, is_free: bool) -> bool:
        """Whether 1 … `LOOK_AHEAD` tokens more bring more than `rate` would in their time.

        Args:
            rate: tokens per second.
            survival: chance that the first of them is kept; each further one is with chance ā.
            drafted: tokens before them.
            is_free: they are copied, without draft calls.
        """
        draft, verify = self._known.costs.draft_seconds, self._known.costs.verify_seconds
        before, gain = draft(self._made) + verify(drafted), 0.0
        paid = max(self._paid, drafted)
        for length in range(drafted + 1, min(drafted + LOOK_AHEAD, self.gamma_max) + 1):
            gain += survival
            further = 0 if is_free else max(length - paid, 0)
            if gain > rate * (draft(self._made + further) + verify(length) - before):
                return True
            survival *= self._known.mean
        return False

    def _count_rest(self, drafted: int, is_typical: bool) -> None:
        """Count plain steps; a try ends with a step in which the draft model had caught up."""
        if self._is_learning or self._pays:
            self._rested, self._patience = 0, self.explore
        elif drafted and is_typical:
            self._known.costs.draft_seconds.forget()
            self._rested, self._patience = 0, min(2 * self._patience, LONGEST_REST)
        elif not drafted:
            self._rested += 1
