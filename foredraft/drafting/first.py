"""FirstDrafter: forced and predicted tokens before whatever else drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from foredraft.core import Draft, DraftStop, StepOutcome
from foredraft.drafting.base import Beginning, Drafter, admit
from foredraft.drafting.retrieval import CERTAIN, RetrievalDrafter, Retrieved, draft_of
from foredraft.gamma.base import GammaPolicy

LIKELY = 0.5  # chance of the first token from which on a copy goes first


class FirstDrafter(Drafter):
    """Drafts what belongs to this text alone where it is likely, else leaves it to another.

    Where the controls forbid a token of the other's draft it ends, and what they force there
    follows.

    Args:
        first: retrieve; the earlier goes before the later.
        inner: drafts where none of them has anything likely.
    """

    parts = ("first", "inner")

    def __init__(self, first: Sequence[RetrievalDrafter], inner: Drafter) -> None:
        self.first, self.inner = list(first), inner

    def start(self, text: Beginning) -> None:
        for one in (*self.first, self.inner):
            one.start(text)
        self._controls, self._is_asked = text.controls, False

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        self._is_asked = False
        for one in self.first:
            found = one.retrieve(tokens, gamma)
            if found.tokens and found.confidences[0] >= LIKELY:
                return self._obeying(draft_of(found, policy), gamma, policy)
        self._is_asked = True
        draft = self.inner.propose(tokens, gamma, policy)
        if draft.drawn_from is not None:  # it was bent as it was drawn
            return draft
        return self._obeying(draft, gamma, policy)

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        for one in (*self.first, self.inner):
            one.observe(tokens, num_emitted, target_logits)

    def update(self, outcome: StepOutcome) -> None:
        if self._is_asked:
            self.inner.update(outcome)

    def _obeying(self, draft: Draft, gamma: int, policy: GammaPolicy) -> Draft:
        """Return what the controls allow of a draft that was looked up, and what they force then.

        All of it is a function of the prefix, like the draft itself.
        """
        if self._controls is None:
            return draft
        allowed = self._controls.num_allowed(draft.tokens)
        if allowed == len(draft.tokens):
            return draft
        predicted = min(draft.num_predicted, allowed)
        draft = replace(
            draft,
            tokens=draft.tokens[:allowed],
            stopped=DraftStop.POLICY,
            num_predicted=predicted,
        )
        forced = self._controls.forced(draft.tokens)[: gamma - allowed]
        signals = Retrieved(forced, [CERTAIN] * len(forced)).signals(draft.num_calls)
        admitted, _ = admit(signals, policy, allowed)
        return draft.followed_by(admitted, DraftStop.POLICY) if admitted else draft
