"""Models and drafters that take a given time, by a clock that stands still otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from torch import Tensor

from foredraft.core import Draft, StepOutcome
from foredraft.costs import USUAL_LAG
from foredraft.drafting import Drafter
from foredraft.drafting.base import Beginning
from foredraft.gamma import GammaPolicy
from foredraft.models import Context, Drafted, Feed, Network, Wrapper
from foredraft.ranges import Checked, Range

Cost = Annotated[float, Range(0, 10**9)]  # seconds, or target passes
PassCost = Annotated[float, Range(1e-12, 10**9)]  # a pass takes some time: ratios are to it
Seconds: TypeAlias = Callable[[int], float]  # that something takes, by how many it is of


def no_time(count: int) -> float:
    """Return 0 seconds, however many there are."""
    return 0.0


@dataclass(frozen=True)
class Costs:
    """What the loop takes, in seconds or any unit of time: only ratios matter."""

    draft: Seconds  # D(calls) of the draft model
    verify: Seconds  # T_v(drafted); T_v(0) is a step of plain decoding
    read: Seconds = no_time  # that a text's first target pass takes beyond T_v(0), by its prompt
    draft_read: Seconds = no_time  # what the draft model, or its encoder, reads, by tokens


@dataclass(frozen=True)
class Overhead:
    """What a drafter takes besides the passes of models, in the unit of the costs."""

    text: float = 0.0  # at the beginning of each text
    step: float = 0.0  # at each draft


NO_OVERHEAD = Overhead()


@dataclass(frozen=True)
class CostTable(Checked):
    """Costs as four numbers."""

    draft: Cost = 0.2  # one call of the draft model, t_d
    verify: PassCost = 1.0  # a target pass over one token and no draft, T_v(0)
    verify_token: Cost = 0.02  # what each drafted token adds to it
    # a further token of a draft that the model makes in one call, without being asked between the
    # tokens; None: as much as a call
    draft_token: Cost | None = None

    @property
    def costs(self) -> Costs:
        """The same as functions."""
        further = self.draft if self.draft_token is None else self.draft_token
        return Costs(
            draft=lambda calls: self.draft + further * (calls - 1) if calls else 0.0,
            verify=lambda drafted: self.verify + self.verify_token * drafted,
        )


class Clock:
    """Stands still, except where a cost is added."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedModel(Wrapper):
    """A model whose passes take a given time.

    Args:
        inner: the model.
        seconds: of a pass by the rows of logits it returns, or of a draft by its tokens.
        clock: runs on at each pass.
        read: that a text's first pass takes besides, by its prompt.
    """

    def __init__(
        self, inner: Network, seconds: Seconds, clock: Clock, read: Seconds = no_time
    ) -> None:
        super().__init__(inner)
        self._seconds, self._clock, self._read = seconds, clock, read

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        self._spend(context, keep)
        return super().logits(context, tokens, keep)

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        self.check(feeds, count)
        self._spend(feeds[0].context, count)
        inner = [Feed(feed.context.memory.context, feed.tokens) for feed in feeds]
        drafts = self.inner.draft(inner, count)
        for feed, drafted in zip(feeds, drafts, strict=True):
            feed.context.memory.tokens += [*feed.tokens, *drafted.tokens[:-1]]
        return drafts

    def _spend(self, context: Context, count: int) -> None:
        reading = 0.0 if context.length else self._read(len(context.prompt))
        self._clock.now += self._seconds(count) + reading


class TimedDrafter(Drafter):
    """A drafter whose drafts take a given time: D(calls), what is read, and its own.

    Args:
        inner: drafts.
        costs: of the models.
        overhead: of the drafter.
        clock: runs on at each draft.
    """

    parts = ("inner",)

    def __init__(self, inner: Drafter, costs: Costs, overhead: Overhead, clock: Clock) -> None:
        self.inner, self._costs, self._overhead, self._clock = inner, costs, overhead, clock

    def start(self, text: Beginning) -> None:
        self._unread = len(text.prompt)  # an encoder reads it with the first call
        self._clock.now += self._overhead.text
        self.inner.start(text)
        self.rest = self.inner.rest

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        draft = self.inner.propose(tokens, gamma, policy)
        self.rest = self.inner.rest
        self._clock.now += self._overhead.step
        if draft.num_calls:
            read = max(draft.num_read, self._unread)
            reading = self._costs.draft_read(read) if read > USUAL_LAG else 0.0
            self._clock.now += self._costs.draft(draft.num_calls) + reading
            self._unread = 0
        return draft

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        self.inner.observe(tokens, num_emitted, target_logits)

    def update(self, outcome: StepOutcome) -> None:
        self.inner.update(outcome)
