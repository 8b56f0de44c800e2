"""What a draft call and a verification cost, and what steps bring: measured as they happen.

Knows outcomes of steps; knows neither models nor clocks. Drafters and policies that weigh costs
share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foredraft.chances import Mean
from foredraft.core import StepOutcome
from foredraft.curves import NEWEST, Curve, Rate

TINY = 1e-12  # seconds: of what a clock did not see pass
USUAL_LAG = 3  # tokens that a draft call reads beside the time that it takes for one
SETTLED = 6  # steps without draft calls until a pass finds in the caches what it left there
PLAIN_FIRST = 8  # plain steps that are timed at first
# Steps until the next one: more each time, and the more drafts gain.
PLAIN_MORE, PLAIN_EVERY = 128, 384
SUDDENLY = 0.88  # of a known time: what takes less now does not do so by luck
YOUNG = 128  # steps in which the first drafts, made of cold caches, are not believed for long
PLAIN_KEPT = 24  # newest of them that count, by their median: a machine's speed drifts
WORTHWHILE = 1.03  # of the speed of plain decoding, to be promised by drafts: two lower quartiles
LONGER = 0.01  # of the speed, that each further token must add: a mean of easy text does not last
FRESH, STALE = 4, 16  # steps that prices are kept: while little is known, and then
# Times as many draft calls as were measured whose time can be foreseen; how many can be at first.
FORESEEN, USUAL_DRAFT = 2, 8
SLOWER = 1.1  # as much longer a time of reading may become at once
HOPELESS = 0.02  # a chance that is not worth a look at what follows
NEWEST_TEXTS, LONG = 4, 1e9  # texts whose lengths count; tokens of a text, while none is known


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What steps cost: seconds beyond those of plain decoding, by the length of their draft.

    Attributes:
        texts: that share a pass.
        plain: seconds of a step of plain decoding.
        rate: tokens per second that time brings elsewhere, of all texts together.
        draft: of draft calls.
        verify: of tokens in a pass after draft calls.
        drafted: of as many draft calls and tokens in a pass, as far as that can be foreseen.
        copied: of tokens in a pass where no draft calls are made any more.
        between: of tokens in a pass without draft calls, between steps with them.
    """

    texts: int
    plain: float
    rate: float
    draft: list[float]
    verify: list[float]
    drafted: list[float]
    copied: list[float]
    between: list[float]


class Meter:
    """What the steps of a pair of models cost and bring here: told once a step, by the loop.

    Hybrids and policies ask it, so that they weigh the same numbers.

    Attributes:
        draft_seconds: D(calls). The first call of a draft costs more than a further one: it may
            read two tokens, and finds its weights out of the caches.
        verify_seconds: T_v(drafted) of a text that has the pass to itself; of several that share
            one, by the rows of all beyond the first.
        read_seconds: that the draft model takes for a token which it only reads.
        rate: of all steps in which no model had much to read; of all texts together.
        rests: seconds of the newest steps of one text for which no drafter was asked: noted by the
            loop, and read when it tells of the next step.
        steps: of all texts.
        texts: that share the next pass.
        company: rows of that pass beyond the first that are not of the draft to be made.
    """

    def __init__(self) -> None:
        self.draft_seconds, self.verify_seconds = Curve(from_nothing=True), Curve()
        self.read_seconds, self._is_cold = 0.0, True
        self.rate = Rate(memory=32)
        self.texts, self.company = 1, 0
        self.rests = list[float]()
        self._lengths = Mean(LONG, 0, NEWEST_TEXTS)
        self._begun = self._emitted = 0  # texts of late, and their tokens
        # A pass finds other things in the caches where a draft model ran just before it, and other
        # threads asleep: plain decoding is quicker by itself than between drafts.
        self._after_calls, self._rested = Curve(), Curve(newest=PLAIN_KEPT, share=0.5)
        self._between = Curve()  # passes without draft calls, soon after some
        self._kind = 0, 0  # draft calls and tokens of the newest step
        self._quiet = SETTLED  # steps since the newest draft call
        self.steps = self._plain_steps = self._plain_step = 0
        self._prices: tuple[tuple[int, int, int, int], Prices] | None = None

    def pass_seconds(self, drafted: int, *, after_calls: bool = False) -> float:
        """Return the seconds of the next pass, if the draft to be made has so many tokens.

        Args:
            drafted: tokens of the draft.
            after_calls: whether the draft model makes them.
        """
        curve = self._after_calls if after_calls else self._rested
        return self._passes(drafted, curve)[drafted]

    def _passes(self, most: int, *curves: Curve) -> list[float]:
        """Return the seconds of the next pass, if the draft has 0 … `most` tokens.

        Args:
            most: tokens.
            curves: the first of them that is known tells, of one text.
        """
        if self.texts > 1:
            return self.verify_seconds.straight(self.company, self.company + most)
        known = next((curve for curve in curves if curve.is_known), self.verify_seconds)
        return known.up_to(most)[: most + 1]

    @property
    def usual_length(self) -> float:
        """Tokens of a text, by the newest ones: what is begun for one must pay by its end."""
        return self._lengths.value

    def begin_text(self) -> None:
        """Note that one more text is begun; what was said until now is of those before it."""
        if self.rests:
            self._read_rests()
        if self._emitted:
            self._lengths.add(self._emitted / self._begun)
            self._emitted = self._begun = 0
        self._begun += 1

    @property
    def unsettled(self) -> int:
        """Steps without draft calls until a pass finds in the caches what it left there."""
        return max(SETTLED - self._quiet, 0)

    @property
    def wants_plain(self) -> bool:
        """Whether plain decoding has not been timed for long: one step of it is due, once settled.

        The more drafts gain the more these cost, and the less often they are worth it.
        """
        if self.texts > 1:
            return False
        waited = self.steps - self._plain_step
        patience = min(PLAIN_MORE * (self._plain_steps - PLAIN_FIRST + 1), PLAIN_EVERY)
        if waited < patience:
            return False
        gain = (self.rate.per_second or 0.0) * self.pass_seconds(0)
        return waited >= patience * max(1.0, gain) ** 2

    @property
    def best_rate(self) -> float:
        """Tokens per second that time brings elsewhere: as of late, or by plain decoding."""
        plain = self.pass_seconds(0) if self.texts == 1 else self.verify_seconds(self.texts - 1)
        return max(self.texts / plain if plain > 0 else 0.0, self.rate.per_second or 0.0)

    def prices(self, most: int) -> Prices:
        """Return what drafts of 0 … `most` tokens cost; worked out anew every few steps."""
        patience = FRESH if self.steps < NEWEST else STALE
        key = self.steps // patience, self.texts, self.company, most
        if self._prices is None or self._prices[0] != key:
            plain = self.pass_seconds(0)
            draft = self.draft_seconds.up_to(most)[: most + 1]
            after_calls = self._passes(most, self._after_calls)
            rested = self._passes(most, self._rested)
            between = self._passes(most, self._between, self._after_calls)
            verify = [seconds - plain for seconds in after_calls]
            found = Prices(
                texts=self.texts,
                plain=plain,
                rate=self.best_rate,
                draft=draft,
                verify=verify,
                drafted=[d + v for d, v in zip(draft, verify, strict=True)][: self._foreseen + 1],
                copied=[seconds - plain for seconds in rested],
                between=[seconds - plain for seconds in between],
            )
            self._prices = key, found
        return self._prices[1]

    @property
    def _foreseen(self) -> int:
        """Draft calls whose time can be told: twice as many as were measured, and some at first."""
        return max(FORESEEN * self.draft_seconds.largest, USUAL_DRAFT)

    def update(self, outcome: StepOutcome) -> None:
        """Measure a step of one text, but for what a model with much to read took."""
        if self.rests:
            self._read_rests()
        draft = outcome.draft
        kind = draft.num_calls, len(draft.tokens)
        self.steps += 1
        self._emitted += outcome.num_emitted
        # Well known are most steps like the one before, and Python takes time beside a quick pass.
        is_known = kind == self._kind and self.steps > NEWEST and self.steps % FRESH != 0
        if is_known and not outcome.is_shared and outcome.is_typical:
            if kind == (0, 0) and self._quiet > SETTLED:
                self._plain_step = self.steps
        else:
            self._measure(outcome)
            self._kind = kind
        self._quiet = 0 if draft.num_calls else self._quiet + 1
        if not outcome.is_shared and outcome.is_typical:
            self.rate.add(outcome.num_emitted, outcome.seconds)

    def _read_rests(self) -> None:
        """Measure steps of plain decoding for which nobody was asked: by their lower quartile."""
        steps, seconds = len(self.rests), sorted(self.rests)
        self.steps += steps
        self._emitted += steps
        self._quiet += steps
        self._kind = 0, 0
        self.rate.add(steps, sum(seconds))
        if self._quiet > SETTLED:
            self._measure_plain(seconds[(steps - 1) // 4])
        self.rests = []

    def _measure_plain(self, seconds: float) -> None:
        known = self._rested(0)
        self._rested.add(0, seconds)
        if seconds < SUDDENLY * known:  # seldom measured, it would be thought so slow for long
            self._rested.catch_up()
        self.verify_seconds.add(0, seconds)
        self._plain_step = self.steps
        self._plain_steps += 1

    def _measure(self, outcome: StepOutcome) -> None:
        draft = outcome.draft
        if draft.num_calls and draft.num_read <= USUAL_LAG:
            self._note(self.draft_seconds, draft.num_calls, outcome.draft_seconds)
        elif draft.num_calls:
            reading = outcome.draft_seconds - self.draft_seconds(draft.num_calls)
            self._measure_reading(max(0.0, reading) / draft.num_read)
        if outcome.is_shared:
            return
        if not outcome.read_prompt:
            self._measure_pass(outcome)

    def _note(self, curve: Curve, count: int, seconds: float) -> None:
        """Measure one of `count`; of the first ones, which are slow, the quick ones tell of all."""
        was_slow = count in curve and seconds < SUDDENLY * curve(count)
        curve.add(count, seconds)
        if was_slow and self.steps < YOUNG:
            curve.catch_up()

    def catch_up(self) -> None:
        """Believe the newest draft where it took less time than was known: they are seldom now."""
        for curve in (self.draft_seconds, self._after_calls):
            if curve.is_known:
                curve.catch_up()

    def _measure_pass(self, outcome: StepOutcome) -> None:
        drafted, seconds = len(outcome.draft.tokens), outcome.verify_seconds
        if outcome.draft.num_calls:
            self._note(self._after_calls, drafted, seconds)
        elif self._quiet < SETTLED:
            self._between.add(drafted, seconds)
        elif not drafted:
            self._measure_plain(seconds)
            return
        else:
            self._rested.add(drafted, seconds)
        self.verify_seconds.add(drafted, seconds)

    def _measure_reading(self, seconds: float) -> None:
        """Believe a shorter time at once, a longer one by and by; not the first, a cold start."""
        if self._is_cold:
            self._is_cold = False
            return
        known = self.read_seconds
        self.read_seconds = min(seconds, SLOWER * known) if known else seconds

    def update_shared(self, outcomes: list[StepOutcome], seconds: float, resting: int = 0) -> None:
        """Measure a step of several texts.

        Args:
            outcomes: of those whose drafter was asked.
            seconds: of the pass of all and all verdicts; drafting apart.
            resting: texts beside them that went on by one token, without being asked.
        """
        if any(outcome.read_prompt for outcome in outcomes):
            return
        fed = sum(outcome.num_fed for outcome in outcomes) + resting
        self.verify_seconds.add(fed - 1, seconds)
        if all(outcome.is_typical for outcome in outcomes):
            drafting = sum(outcome.draft_seconds for outcome in outcomes)
            emitted = sum(outcome.num_emitted for outcome in outcomes) + resting
            self.rate.add(emitted, drafting + seconds)


def best_length(
    chances: Iterable[float], seconds: Sequence[float], rate: float, survival: float = 1.0
) -> tuple[int, float]:
    """Return how many tokens to propose, and what that brings beyond the time it takes.

    The renewal-reward form of "most tokens a second": k tokens are worth the sum of their chances
    to be kept, less the tokens that their time would bring elsewhere.

    Args:
        chances: of each token, if those before it are kept.
        seconds: that 0, 1, … tokens take beyond plain decoding; longer drafts than it knows are not
            weighed.
        rate: tokens per second that time brings elsewhere.
        survival: chance that what comes before them is kept.

    Returns:
        The length, and tokens gained by it; 0 and 0 where no length gains.
    """
    best, most, gain = 0, 0.0, 0.0
    for length, (chance, cost) in enumerate(zip(chances, seconds[1:], strict=False), start=1):
        survival *= chance
        gain += survival
        worth = gain - rate * cost
        if worth > most:
            best, most = length, worth
        if survival < HOPELESS:
            break
    return best, most


def quickest_length(mean: float, prices: Prices) -> tuple[int, float]:
    """Return the length of drafts by the model that brings most tokens a second, and how many.

    Args:
        mean: chance of each token, if those before it are kept.
        prices: of now.

    Returns:
        The length, 0 where plain decoding is quickest; tokens per second of all texts together.
    """
    plain = prices.texts / max(prices.plain, TINY)
    best, most = 0, WORTHWHILE * plain
    survival, tokens = 1.0, float(prices.texts)
    for length, cost in enumerate(prices.drafted[1:], start=1):
        survival *= mean
        tokens += survival
        speed = tokens / max(prices.plain + cost, TINY)
        if speed > most * (1 + LONGER * (length - best)):
            best, most = length, speed
        if survival < HOPELESS:
            break
    return best, most if best else plain
