"""`auto(source, …)`: each step whatever brings most tokens a second here, and as many of them.

One optimiser over one meter: copy what a source retrieves, draft with the model, copy after what it
drafted, or decode plainly. Copies are judged at every step by what the target said, drafted or not;
the draft model by its margins, and where it does not pay it is tried again in a bounded share of
the time.

Derived in `docs/en/06b-draft-lengths.md#auto-one-optimiser`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from foredraft.core import Draft, DraftStop, StepOutcome
from foredraft.costs import TINY, best_length
from foredraft.drafting.base import (
    DRAFTERS,
    Beginning,
    Drafter,
    DraftModel,
    DraftParts,
    DraftSource,
    admit,
)
from foredraft.drafting.decision import Decision
from foredraft.drafting.judged import NO_LOGITS, JudgedDrafter
from foredraft.drafting.ngram import Ngram
from foredraft.drafting.retrieval import RetrievalDrafter, Retrieved
from foredraft.drafting.suffix import Suffix
from foredraft.errors import ConfigError, quoted
from foredraft.gamma.base import GammaPolicy
from foredraft.gamma.cost_aware import CostAwareGamma, Explored
from foredraft.gamma.within import Within
from foredraft.ranges import LONGEST_DRAFT, DraftLength

LOOK_SECONDS = 6e-5  # of a look at what a source finds, beside a pass that has emptied the caches
HORIZON = 24  # steps over which what the draft model must read is paid off, at most
NOTHING, NO_DRAFT = Retrieved(), Draft([], stopped=DraftStop.POLICY)


class AutoDrafter(Drafter):
    """Chooses who drafts, and how much, by what it is worth.

    Args:
        sources: retrieve.
        models: draft with a network; none, or one.
        rule: how long drafts of a model are.
        gamma_max: longest draft.
    """

    parts = ("sources", "models")

    def __init__(
        self,
        sources: Sequence[RetrievalDrafter],
        models: Sequence[Drafter],
        rule: CostAwareGamma,
        gamma_max: int,
    ) -> None:
        self.sources, self.models = [JudgedDrafter(source) for source in sources], list(models)
        self.rule, self.gamma_max = rule, gamma_max
        self._newest = Decision()

    def start(self, text: Beginning) -> None:
        for source in self.sources:
            source.start(text)
        # The model hears of the text when it is first wanted: an encoder would read it at once.
        self._begin, self._is_begun = text, False
        self._source: int | None = None  # what its encoder has yet to read; not looked at yet
        self._read = 0  # tokens of the text that the model has read
        self.rule = self.rule.for_text(self.meter)
        self.rule.start()
        # Whether tokens are all that it need be told of a step; if so it may be later.
        self._may_rest = not any([source.learns_from_logits for source in self.sources])
        self._proposers: Sequence[Drafter] = ()  # whose the newest draft is
        self._heard = 0  # tokens of the text when it was told of a step; 0: it was not
        self._length: int | None = None  # decided of drafts, or 0; None: for this step alone
        self._repeats, self._is_repeated = 0, False  # steps to come of it; whether this is one
        self.rest = self._num_rested = 0  # steps at its beginning
        if left := self._left_of_decision():
            self._go_on(left)
        self._looked: Sequence[JudgedDrafter] = ()  # sources that were asked in this step
        self._used: JudgedDrafter | None = None  # the one of them whose copy is drafted

    def _left_of_decision(self) -> int:
        """Return the steps for which a text before decided; nothing of this one speaks against."""
        left, length = self._newest.end - self.meter.steps, len(self._begin.prompt)
        if left <= 0 or self.meter.texts > 1 or any(not source.rest for source in self.sources):
            return 0
        if not self.models:
            return left
        # What was decided in the middle of a text did not weigh what must be read of the next one.
        pays = not self.rule.is_learning and self._gained(length, LONGEST_DRAFT) > 0
        if self._newest.length:
            is_alike = pays and self._newest.suits(length)
            return min([left, *[source.rest for source in self.sources]]) if is_alike else 0
        return 0 if self.rule.is_learning or (pays and self._newest.drafts_pay) else left

    def _go_on(self, steps: int) -> None:
        """Do for some steps what a text before has decided."""
        if not self._newest.length:
            self.rest = self._num_rested = steps
            return
        self._length, self._repeats = self._newest.length, steps
        self._proven = steps
        for source in self.sources:
            source.rest -= steps

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        gamma = min(gamma, self.gamma_max)
        self._is_repeated, self.rest = self._repeats > 0, 0
        if self._is_repeated:
            self._repeats -= 1
            self._heard = self._heard or len(tokens)
            if not self._length:
                return NO_DRAFT
            is_trial = self._repeats >= self._proven
            return self._as_decided(tokens, gamma, self._newest.beside if is_trial else 0, policy)
        self._proposers, self._looked, self._used, self._length = (), [], None, None
        if not self._heard and self._num_rested:
            self._heard = len(tokens) - self._num_rested
        if len(tokens) > self._heard > 0:  # it has rested, or did again what was decided
            self.observe(tokens, len(tokens) - self._heard, NO_LOGITS)
        if self.meter.wants_plain:
            self.rest = self.meter.unsettled if self._may_rest else 0
            return NO_DRAFT
        draft = self._best_draft(tokens, gamma, policy)
        price = LOOK_SECONDS * self.meter.best_rate if self._looked else 0.0
        for source in self._looked:
            source.was_looked_at(is_used=source is self._used, price=price)
        steps = self._steps_to_come()
        if self._length or not self._may_rest:
            self._repeats = steps
        else:
            self.rest = steps
            self.rule.save(steps * self.meter.pass_seconds(0))
        if self._length is not None and (self._length or self._may_rest):
            drafts_pay = bool(self.models) and self.rule.plan()[0] > 0
            self._newest.make(
                self._length, len(self._begin.prompt), self.meter, drafts_pay=drafts_pay
            )
        return draft

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        if self._is_repeated and self._may_rest:
            return
        self._heard = len(tokens)
        for source in self.sources:
            source.observe(tokens, num_emitted, target_logits)

    def update(self, outcome: StepOutcome) -> None:
        for proposer in self._proposers:
            proposer.update(outcome)
        if self._is_repeated:
            if self.models:
                self.rule.count(outcome)
            return
        if self._used is not None and not outcome.draft.num_calls:
            plain = self.meter.pass_seconds(0)
            rate = self.rule.rate if self.models else 1 / max(plain, TINY)
            self._used.looks.add(outcome.num_emitted - rate * outcome.seconds)
        if self.models:
            self.rule.update(outcome)

    def _best_draft(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        found, worth, source = self._best_copy(tokens, gamma)
        if self.models and self._drafts(tokens, gamma, worth):
            draft = self._drafted(tokens, gamma, Within(self.rule, policy))
            return self._with_copies(tokens, draft, gamma, policy)
        if not worth:
            self._length = 0
            return NO_DRAFT
        self._proposers, self._used = self.sources, source
        admitted, _ = admit(found.signals(), policy)
        stopped = DraftStop.POLICY if len(admitted) < gamma else None
        num_predicted = len(admitted) if found.is_predicted else 0
        return Draft(admitted, stopped=stopped, num_predicted=num_predicted)

    def _best_copy(
        self, tokens: list[int], gamma: int, drafted: Sequence[int] = (), survival: float = 1.0
    ) -> tuple[Retrieved, float, JudgedDrafter | None]:
        """Return what is best copied, the tokens gained by it, and where it was found.

        Args:
            tokens: everything so far.
            gamma: most tokens wanted.
            drafted: of the model, after which copies are wanted.
            survival: chance that these are kept.
        """
        best: tuple[Retrieved, float, JudgedDrafter | None] = NOTHING, 0.0, None
        looked = [source for source in self.sources if not source.rests(drafted)]
        if not looked:
            return best
        self._looked = looked
        prices, before = self.meter.prices(self.gamma_max), len(drafted)
        seconds, rate = prices.copied, prices.rate
        if drafted:
            verify = prices.verify
            seconds, rate = [cost - verify[before] for cost in verify[before:]], self.rule.rate
        elif self.models and self.rule.plan()[0]:
            seconds, rate = prices.between, self.rule.rate
        for source in looked:
            found = source.retrieve(tokens, gamma, drafted)
            length, worth = best_length(found.confidences, seconds, rate, survival)
            if worth > best[1]:
                best = found.first(length), worth, source
        return best

    def _drafts(self, tokens: list[int], gamma: int, worth: float) -> bool:
        """Whether the model drafts: where it gains more than a copy, or may be tried.

        Args:
            tokens: everything so far.
            gamma: most tokens wanted.
            worth: tokens gained by a copy.
        """
        if self.rule.is_learning:
            return True
        length, gained = self.rule.plan()
        if 0 < gained <= worth:
            return False
        unread = len(tokens) - self._read + self._unread_source(tokens)
        if length and self._gained(unread, gamma) > worth:
            return True
        return worth <= 0 and self.rule.tries(self.meter.read_seconds * unread)

    def _gained(self, unread: int, most: int) -> float:
        """Return the tokens that a draft as planned gains, less what must be read for it.

        Args:
            unread: tokens that the model has yet to read; the drafts to come pay for them together.
            most: tokens that may come.
        """
        _, gained = self.rule.plan()
        steps = min(HORIZON, max(1.0, min(most, self.meter.usual_length) / (1 + gained)))
        return gained - self.meter.best_rate * self.meter.read_seconds * unread / steps

    def _unread_source(self, tokens: list[int]) -> int:
        """Return how much the model's encoder has yet to read: nothing, if the text says it."""
        if self._source is None:
            prompt = self._begin.prompt
            is_said = not isinstance(prompt, Tensor) and tokens[: len(prompt)] == list(prompt)
            self._source = 0 if is_said else len(prompt)
        return self._source

    def _as_decided(
        self, tokens: list[int], gamma: int, further: int, policy: GammaPolicy
    ) -> Draft:
        """Let the model draft as many tokens as was decided, and some further ones, or less."""
        assert self._length is not None
        length = min(max(self._length + further, 1), gamma)
        draft = self._drafted(tokens, length, policy)
        is_cut = draft.stopped is None and length < gamma
        return replace(draft, stopped=DraftStop.POLICY) if is_cut else draft

    def _drafted(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        """Let the model draft."""
        model, source = self.models[0], self._unread_source(tokens)
        self._proposers = self.models
        if not self._is_begun:
            model.start(self._begin)
            self._is_begun, self._source = True, 0
        draft = model.propose(tokens, gamma, policy)
        if draft.num_calls and source:
            draft = replace(draft, num_read=draft.num_read + source)
        self._read = len(tokens) + len(draft.tokens)
        return draft

    def _with_copies(
        self, tokens: list[int], draft: Draft, gamma: int, policy: GammaPolicy
    ) -> Draft:
        """Copy after a draft of the model what is worth it."""
        drafted = len(draft.tokens)
        if not drafted or drafted >= gamma or draft.stopped is not DraftStop.POLICY:
            return draft
        survival = self.rule.survival
        found, gained, self._used = self._best_copy(tokens, gamma - drafted, draft.tokens, survival)
        if self._used is None:
            length = 0 if self.rule.is_learning else self.rule.plan()[0]
            self._length = length or None  # what was tried is not repeated
            return draft
        self._used.looks.add(gained - LOOK_SECONDS * self.meter.best_rate)
        copied, _ = admit(found.signals(draft.num_calls), policy, drafted)
        if not copied:
            return draft
        return draft.followed_by(copied, DraftStop.POLICY, is_predicted=found.is_predicted)

    def _steps_to_come(self) -> int:
        """Return for how many steps what was decided now is done again.

        Copies are decided about at every step; else no longer than every source rests.
        """
        if self._length is None:
            return 0
        most = self._newest.most_steps(self._length, self.meter)
        steps = min([most, *[source.rest for source in self.sources]])
        if steps:
            for source in self.sources:
                source.rest -= steps
            self._proven = steps - (self._newest.trials(steps) if self._length else 0)
        return steps


@DRAFTERS.register("auto")
@dataclass(frozen=True)
class Auto(DraftSource):
    """Chooses source and length of each draft by what it is likely to bring in its time.

    Attributes:
        sources: drafters that retrieve; `model` among them lets the draft model draft, if there is
            one.
        gamma_max: longest draft, in tokens.
        explore: share of the time that may be lost by drafts of the model which do not seem to
            pay, to see whether they do.
    """

    sources: tuple[DraftSource, ...] = (
        Suffix(factor=2.0),
        Ngram(filler_top_k=1, min_confidence=0.05),
        DraftModel(),
    )
    gamma_max: DraftLength = 24
    explore: Explored = 0.02
    chooses_lengths = True

    def __post_init__(self) -> None:
        super().__post_init__()
        legal = [name for name in DRAFTERS.names if DRAFTERS.get(name).retrieves]
        for one in self.sources:
            if not (one.retrieves or isinstance(one, DraftModel)):
                raise ConfigError(
                    f"sources must retrieve or be the model, not {quoted(DRAFTERS.name(one))}; "
                    f"legal: {', '.join([*legal, 'model'])}"
                )
        if not self.sources:
            raise ConfigError("sources must name at least one drafter, e.g. auto(suffix, model)")

    def build(self, parts: DraftParts) -> AutoDrafter:
        neural = [parts.neural] if parts.neural and DraftModel() in self.sources else []
        made = [*parts.first, *(one.build(parts) for one in self.sources if one.retrieves)]
        retrieving = [one for one in made if isinstance(one, RetrievalDrafter)]
        rule = CostAwareGamma(self.gamma_max, self.explore)
        return AutoDrafter(retrieving, neural, rule, self.gamma_max)
