"""FirstDrafter: forced and predicted tokens before whatever else drafts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from foredraft.core import Draft, StepOutcome
from foredraft.drafting.base import Beginning, Drafter
from foredraft.drafting.retrieval import RetrievalDrafter, draft_of
from foredraft.gamma.base import GammaPolicy

LIKELY = 0.5  # chance of the first token from which on a copy goes first


class FirstDrafter(Drafter):
    """Drafts what belongs to this text alone where it is likely, else leaves it to another.

    Args:
        first: retrieve; the earlier goes before the later.
        inner: drafts where none of them has anything likely.
    """

    parts = ("first", "inner")

    def __init__(self, first: Sequence[RetrievalDrafter], inner: Drafter) -> None:
        self.first, self.inner = list(first), inner
        self._is_asked = False

    def start(self, text: Beginning) -> None:
        for one in (*self.first, self.inner):
            one.start(text)
        self._is_asked = False

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        self._is_asked = False
        for one in self.first:
            found = one.retrieve(tokens, gamma)
            if found.tokens and found.confidences[0] >= LIKELY:
                return draft_of(found, policy)
        self._is_asked = True
        return self.inner.propose(tokens, gamma, policy)

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        for one in (*self.first, self.inner):
            one.observe(tokens, num_emitted, target_logits)

    def update(self, outcome: StepOutcome) -> None:
        if self._is_asked:
            self.inner.update(outcome)
