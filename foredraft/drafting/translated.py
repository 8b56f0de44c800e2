"""Drafters whose model has another tokenizer than the target: `retokenized` and `intersection`.

Derived in `docs/en/06-tricks-and-optimizations.md#a-drafter-with-another-tokenizer`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from foredraft.core import Draft, DraftStop
from foredraft.drafting.base import (
    DRAFTERS,
    Beginning,
    Drafter,
    DraftParts,
    DraftSource,
    admit,
    needed,
)
from foredraft.drafting.draft_model import DRAFT_MODEL, DraftModelDrafter
from foredraft.drafting.head import HeadDrafter
from foredraft.errors import ContextOverflow
from foredraft.gamma.base import GammaPolicy, Signal
from foredraft.logits import undecided
from foredraft.models.base import Context, Network
from foredraft.models.head import HeadModel
from foredraft.models.translated import Intersected, Rendering
from foredraft.sampling.base import Sampler
from foredraft.translation import Translation

LOOKAHEAD = 3  # tokens behind one that make it certain, where no word ends
MOSTLY = 0.5  # of the drafter's tokens the target shares, for q over them to be worth its name
CALLS_A_TOKEN = 8  # of the draft model, at most


@dataclass
class _Said:
    """What the draft model says in one step.

    Attributes:
        tokens: its own.
        begins: where each begins in the text.
        confidences: chance of each that nothing likelier was overlooked.
        data: the text.
        num_read: tokens that were read before.
        is_over: whether it has ended, so that all of it is certain.
        stopped: why there is no more of it.
    """

    tokens: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    data: bytes = b""
    num_read: int = 0
    is_over: bool = False
    stopped: DraftStop | None = None

    def margin(self, begin: int, end: int) -> float:
        """Return the log-odds that all tokens which begin in a part of the text are right."""
        parts = zip(self.begins, self.confidences, strict=True)
        chance = math.prod(c for at, c in parts if begin <= at < end)
        return math.log(max(chance, 1e-13)) - math.log(max(1 - chance, 1e-13))


class RetokenizedDrafter(Drafter):
    """The draft model writes text; what is certain of it is cut into the target's tokens.

    Universal assisted generation (Hugging Face and Intel, 2024, "Universal Assisted Generation:
    Faster Decoding with Any Assistant Model"). The draft is the likeliest text under any sampler: a
    function of the text before it, so each token of it is one-hot, and every verifier is right for
    it. A token is certain when a space follows its word, or a few more tokens: longer ones of the
    same letters can no longer come. Where the text reads on in the middle of a word, the target's
    tokens are taken from the last border on, if they agree with those that are there.

    Args:
        draft_model: with columns of its own.
        translation: between the target's tokens and its own.
        vocab_size: columns of the target's logits.
    """

    def __init__(self, draft_model: Network, translation: Translation, vocab_size: int) -> None:
        self.draft_model, self.translation = draft_model, translation
        self.vocab_size = vocab_size

    _rendering: Rendering | None = None  # of this text; None: it is too long

    def accepts(self, target: Network) -> bool:
        return target.vocab_size == self.vocab_size

    def start(self, text: Beginning) -> None:
        self._num_read, before = 0, self._rendering
        try:
            self._rendering = Rendering.of(self.draft_model, self.translation)
        except ContextOverflow:
            self._rendering = None
        if before is not None and self._rendering is not None:  # a turn later: what it has read
            self._rendering.context.close()
            self._rendering.context, self._rendering.held = before.context, before.held

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        rendering = self._rendering
        if rendering is None:
            return Draft([], stopped=DraftStop.CONTEXT)
        rendering.reading.write(self._num_read, tokens[self._num_read :])
        self._num_read = len(tokens)
        if rendering.room <= 0:
            return Draft([], stopped=DraftStop.CONTEXT)
        said = _Said()
        drafted, goes_on = admit(
            islice(self._certain(rendering, said, gamma, policy), gamma), policy
        )
        is_cut = not goes_on and len(drafted) < gamma
        return Draft(
            drafted,
            num_calls=len(said.tokens),
            num_read=said.num_read,
            stopped=DraftStop.POLICY if is_cut else said.stopped,
        )

    def _certain(
        self, rendering: Rendering, said: _Said, most: int, policy: GammaPolicy
    ) -> Iterator[Signal]:
        """Yield the target's tokens of what the draft model says, as soon as they are certain."""
        spelling, begin, given = self.translation.target, 0, list[int]()
        while True:
            found = rendering.reading.following(said.data[begin:], given)
            for token in found if said.is_over else found[: self._num_certain(found)]:
                piece = spelling.piece(token) or b""
                end = begin + len(piece)
                # What the target cannot say, or would say otherwise, ends the draft.
                if not piece or said.data[begin:end] != piece or token >= self.vocab_size:
                    return
                yield Signal.drafted(token, said.margin(begin, end), len(said.tokens))
                begin, given = end, [*given, token]
            stride = 0 if said.is_over else policy.stride(len(given))
            if stride <= 0:
                said.stopped = said.stopped or (None if said.is_over else DraftStop.POLICY)
                return
            # One more than is wanted: it shows where the last one ends.
            self._go_on(rendering, said, min(stride, most - len(given)) + (stride > 1), most)

    def _num_certain(self, tokens: list[int]) -> int:
        """Return how many tokens will not change when the text goes on."""
        is_border = self.translation.target.is_border
        borders = [i for i in range(1, len(tokens)) if is_border(tokens[i - 1], tokens[i])]
        return max(0, len(tokens) - LOOKAHEAD, *borders[-1:])

    def _go_on(self, rendering: Rendering, said: _Said, count: int, most: int) -> None:
        """Let the draft model say some tokens more; at its own end, or any special token, it ends.

        Args:
            rendering: the text before.
            said: in this step so far.
            count: tokens of the draft model that are wanted.
            most: tokens of the target that are wanted in this step.
        """
        left = rendering.room - len(said.tokens)
        count = min(count, left, CALLS_A_TOKEN * most - len(said.tokens))
        if count <= 0:
            said.is_over, said.stopped = True, None if left > 0 else DraftStop.CONTEXT
            return
        if said.tokens:
            unseen = said.tokens[-1:]
            rendering.held += unseen
        else:
            unseen = rendering.unseen()
            said.num_read = len(unseen)
        ahead = rendering.context.draft(unseen, count)
        rendering.held += ahead.tokens[:-1]
        for token, margin in zip(ahead.tokens, ahead.margins, strict=True):
            if math.isnan(margin):
                raise undecided(margin, DRAFT_MODEL, self.draft_model.dtype)
            piece = self.translation.drafter.piece(token)
            said.tokens.append(token)
            said.begins.append(len(said.data))
            said.confidences.append(Signal.drafted(token, margin, 0).confidence)
            if piece is None:
                said.is_over = True
            elif not said.is_over:
                said.data += piece


class IntersectionDrafter(DraftModelDrafter):
    """Draws from the tokens that both tokenizers spell alike: q renormalised over them.

    Args:
        draft_model: the draft model, as it speaks of the target's tokens.
        sampler: decides the distributions drawn from.
    """

    draft_model: Intersected

    def __init__(self, draft_model: Intersected, sampler: Sampler) -> None:
        super().__init__(draft_model, sampler)

    def accepts(self, target: Network) -> bool:
        return super().accepts(target) and self.draft_model.shared.numel() > 0

    def _room(self, context: Context, tokens: list[int]) -> int:
        return min(super()._room(context, tokens), self.draft_model.room(context, tokens))


@DRAFTERS.register("retokenized")
@dataclass(frozen=True)
class Retokenized(DraftSource):
    """The draft model; its likeliest text, cut into the target's tokens: any tokenizer will do."""

    def build(self, parts: DraftParts) -> Drafter:
        return needed(parts.retokenized or parts.neural)


@DRAFTERS.register("intersection")
@dataclass(frozen=True)
class Intersection(DraftSource):
    """The draft model, drawing from the tokens that both tokenizers spell alike."""

    def build(self, parts: DraftParts) -> Drafter:
        return needed(parts.intersection or parts.neural)


def neural_parts(
    vocab_size: int,
    draft_model: Network,
    sampler: Sampler,
    translation: Translation | None = None,
    *,
    is_foreign: bool = False,
    knows_logits: bool = True,
) -> DraftParts:
    """Return what drafters are built from where there is a draft model.

    Args:
        vocab_size: columns of the target's logits.
        draft_model: with the target's columns, or with its own if it is foreign.
        sampler: decides the distributions drawn from.
        translation: between both models' tokens; None: their tokenizers are not known.
        is_foreign: whether the draft model's tokens are not the target's.
        knows_logits: as for `DraftParts`.
    """
    if isinstance(draft_model, HeadModel):
        return DraftParts(vocab_size, HeadDrafter(draft_model, sampler), knows_logits)
    neural: Drafter = DraftModelDrafter(draft_model, sampler)
    if translation is None:
        return DraftParts(vocab_size, neural, knows_logits)
    retokenized = RetokenizedDrafter(draft_model, translation, vocab_size)
    intersected = Intersected(draft_model, translation, vocab_size)
    intersection = IntersectionDrafter(intersected, sampler)
    if is_foreign:
        # Soft q keeps Σ min(p, q) of what is drawn, a one-hot draft p alone; greedily both keep as
        # much, but text costs more draft calls: a word is certain when the next one has begun. It
        # needs no token in common, though.
        neural = intersection if translation.coverage >= MOSTLY else retokenized
    return DraftParts(vocab_size, neural, knows_logits, retokenized, intersection)
