"""The drafter that reads its target: a head, told what the target's layers made of the text."""

from __future__ import annotations

from foredraft.core import Draft, DraftStop
from foredraft.drafting.base import Beginning
from foredraft.drafting.draft_model import DraftModelDrafter
from foredraft.gamma.base import GammaPolicy
from foredraft.models.base import Context, Network
from foredraft.models.features import Features
from foredraft.models.head import HeadModel
from foredraft.sampling.base import Sampler


class HeadDrafter(DraftModelDrafter):
    """Drafts with a head (Li et al., 2024–25, EAGLE).

    The token at position t stands beside the target's states of position t − 1. What the head has
    read of its own drafts is forgotten after each verification and read again, with the target's
    states in place of its own guesses. Positions of which the target has told nothing, since it
    had read them before anybody asked, are not read.

    Args:
        head: of the target.
        sampler: as for `DraftModelDrafter`.
    """

    def __init__(self, head: HeadModel, sampler: Sampler) -> None:
        super().__init__(head, sampler)
        self.head, self.reads = head, head.layers

    _target: Context  # of this text

    def accepts(self, target: Network) -> bool:
        return self.head.fits(target)

    def start(self, text: Beginning) -> None:
        assert text.context is not None, "a head needs the target's context"
        self._drafted = []  # what it holds of the last turn's newest draft are its own guesses
        super().start(text)
        self._target = text.context

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        context, features = self._context, self._target.features
        if context is not None and not (features and self._is_told(context, features, tokens)):
            return Draft([], stopped=DraftStop.UNKNOWN)
        return super().propose(tokens, gamma, policy)

    def _is_told(self, context: Context, features: Features, tokens: list[int]) -> bool:
        """Tell the head what it has not heard; return whether that reaches to the last token."""
        before = len(tokens) - 1  # positions that stand before the last token
        if not features.begin < before <= features.end:
            return False
        self._forget_rejected(context, tokens)
        if context.length <= features.begin:
            self.head.skip_to(context, features.begin + 1)
            self._begin = context.length
        self.head.tell(context, features.between(context.length - 1, before))
        return True

    def _forget_rejected(self, context: Context, tokens: list[int]) -> None:
        """Forget all of the newest draft: what stands of it is read again, with what is told."""
        context.rollback_to(min(context.length, self._begin, len(tokens) - 1))
