"""`hybrid(first, fallback)`: copy where copying pays, draft with the model where it does not.

Retrieval costs next to nothing, so its draft of k tokens is worth (1 + π₁ + π₁π₂ + …) / T_v(k)
tokens per second, π the calibrated chance of each token. It is used where that is at least what
steps with the other drafter have been giving.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from foredraft.core import Draft, DraftStop, StepOutcome
from foredraft.costs import TINY, Meter
from foredraft.curves import Rate
from foredraft.drafting.base import (
    DRAFTERS,
    Beginning,
    Drafter,
    DraftModel,
    DraftParts,
    DraftSource,
    admit,
)
from foredraft.drafting.retrieval import RetrievalDrafter, Retrieved, draft_of
from foredraft.drafting.suffix import Suffix
from foredraft.errors import ConfigError, quoted
from foredraft.gamma.base import GammaPolicy

SUFFIX, MODEL = Suffix(), DraftModel()
CONFIDENT = 0.8  # of the first token, to copy before there are rates to compare
FIRST_STEPS = 4  # steps of the fallback before its rate is believed


class HybridDrafter(Drafter):
    """Retrieval first, another drafter where that promises more.

    A draft that the policy ended for its cost alone, or that the draft model had no position for,
    is extended by retrieval: copied tokens after drawn ones, one-hot rows after soft ones. A draft
    model that was not asked catches up in one pass when it is.

    Args:
        first: retrieves.
        fallback: drafts where retrieval is not used.
    """

    parts = ("first", "fallback")

    def __init__(self, first: RetrievalDrafter, fallback: Drafter) -> None:
        self.first, self.fallback = first, fallback
        self.meter, self.rate = Meter(), Rate()  # the rate is of steps that the fallback drafts
        self._proposer: Drafter | None = None  # whose the newest draft is

    def start(self, text: Beginning) -> None:
        self.first.start(text)
        self.fallback.start(text)
        self._proposer = None

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        found = self.first.retrieve(tokens, gamma)
        self._proposer = self.first
        draft = draft_of(self._worth_copying(found), policy)
        if draft.tokens:
            return draft
        self._proposer = self.fallback
        draft = self.fallback.propose(tokens, gamma, policy)
        return self._extended(draft, found, tokens, gamma, policy)

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        self.first.observe(tokens, num_emitted, target_logits)
        self.fallback.observe(tokens, num_emitted, target_logits)

    def update(self, outcome: StepOutcome) -> None:
        proposer, self._proposer = self._proposer, None
        if proposer is None:  # the loop has asked for no draft
            return
        proposer.update(outcome)
        if proposer is self.fallback and outcome.draft.tokens and outcome.is_typical:
            self.rate.add(outcome.num_emitted, outcome.seconds)

    def _worth_copying(self, found: Retrieved) -> Retrieved:
        """Return the part of a retrieved draft with the highest rate; nothing if it is too low."""
        rate = self.rate.per_second
        if not found.tokens:
            return found
        if self.rate.count < FIRST_STEPS or rate is None:
            return found if found.confidences[0] >= CONFIDENT else Retrieved()
        rates = [
            expected / max(self.meter.verify_seconds(k), TINY)
            for k, expected in enumerate(_expected_tokens(found), start=1)
        ]
        best = max(rates)
        return found.first(rates.index(best) + 1) if best >= rate else Retrieved()

    def _extended(
        self, draft: Draft, found: Retrieved, tokens: list[int], gamma: int, policy: GammaPolicy
    ) -> Draft:
        """Return a draft that ended for its cost or for want of positions with copies after it."""
        length = len(draft.tokens)
        for_cost = draft.stopped is DraftStop.POLICY and policy.stops_for_cost
        if length >= gamma or not (for_cost or draft.stopped is DraftStop.CONTEXT):
            return draft
        if length:
            found = self.first.retrieve(tokens, gamma - length, draft.tokens)
        else:
            self._proposer = self.first
        copied, _ = admit(found.signals(draft.num_calls), policy, length)
        if not copied:
            return draft
        stopped = DraftStop.POLICY if len(copied) < len(found.tokens) else None
        return draft.followed_by(copied, stopped, is_predicted=found.is_predicted)


def _expected_tokens(found: Retrieved) -> Iterator[float]:
    """Yield 1 + π₁ + … + π₁⋯π_k for each k from 1 on."""
    survival, expected = 1.0, 1.0
    for confidence in found.confidences:
        survival *= confidence
        expected += survival
        yield expected


@DRAFTERS.register("hybrid")
@dataclass(frozen=True)
class Hybrid(DraftSource):
    """One drafter that retrieves; where it finds nothing, another one.

    Attributes:
        first: a drafter that retrieves.
        fallback: any other drafter.
    """

    first: DraftSource = SUFFIX
    fallback: DraftSource = MODEL

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.first.retrieves:
            legal = [name for name in DRAFTERS.names if DRAFTERS.get(name).retrieves]
            raise ConfigError(
                f"first must be a drafter that retrieves, not {quoted(DRAFTERS.name(self.first))}; "
                f"legal: {', '.join(legal)}"
            )

    def build(self, parts: DraftParts) -> HybridDrafter:
        first = self.first.build(parts)
        assert isinstance(first, RetrievalDrafter)
        return HybridDrafter(first, self.fallback.build(parts))
