"""The neural drafter: a small language model that draws its draft token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from foredraft.choices import Dense, decides_by_numbers
from foredraft.core import Draft, DraftStop, Prompt
from foredraft.drafting.base import Drafter, admit
from foredraft.errors import ContextOverflow
from foredraft.gamma.base import GammaPolicy, Signal
from foredraft.logits import check_decides, undecided
from foredraft.models.base import Context, Drafted, Network
from foredraft.sampling.base import Sampler, as_float
from foredraft.sampling.rng import Rng

DRAFT_MODEL = "the draft model"


class DraftModelDrafter(Drafter):
    """Draws from a draft model with the target's sampler.

    Args:
        draft_model: shares the target's vocabulary.
        sampler: decides the distributions drawn from; under greedy nothing is drawn.
    """

    def __init__(self, draft_model: Network, sampler: Sampler) -> None:
        self.draft_model = draft_model
        self.sampler = sampler

    _context: Context | None = None  # of this text; None: it is too long
    _drafted: list[int]  # the newest draft
    _tokens: list[int]  # what it follows
    _begin: int  # where it begins
    _drawn: Iterator[int]  # tokens of a stride, drawn already

    def start(self, prompt: Prompt, rng: Rng) -> None:
        self._rng, before = rng, self._context
        # A prompt too long for the draft model is no reason to refuse: the target decodes plainly.
        try:
            if before is None:
                self._context = self.draft_model.open(prompt)
            else:  # a turn later
                held = self._tokens[: self._begin] + self._drafted
                self._context = before.reopen(prompt, held)
        except ContextOverflow:
            self._context = None
        self._drafted, self._tokens = [], []
        self._begin = self._context.length if self._context else 0

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        context = self._context
        if context is None:
            return Draft([], stopped=DraftStop.CONTEXT)
        self._forget_rejected(context, tokens)
        room = self.draft_model.max_length - len(tokens) + 1  # the last draft is never fed
        most = min(gamma, room)
        self._begin, self._drafted, self._calls = len(tokens), list[int](), 0
        self._tokens = tokens
        num_read = len(tokens) - context.length
        probs = list[Tensor]()  # [some, vocab] each
        goes_on = True
        while goes_on and len(self._drafted) < most:
            stride = min(policy.stride(len(self._drafted)), most - len(self._drafted))
            self._ahead: Tensor | None = None  # what a stride was drawn from, [stride, vocab]
            signals = self._signals(context, tokens, stride)
            admitted, goes_on = admit(signals, policy, len(self._drafted), self._drawing(probs))
            self._drafted += admitted
            if self._ahead is not None and admitted:
                probs.append(self._ahead[: len(admitted)])
            goes_on = goes_on and stride > 0
        is_cut = not goes_on and len(self._drafted) < gamma  # at its bound it would have ended
        return Draft(
            list(self._drafted),
            Dense(probs[0] if len(probs) == 1 else torch.cat(probs)) if probs else None,
            num_calls=self._calls,
            num_read=num_read if self._calls else 0,
            stopped=_why(is_cut, room < gamma),
        )

    def _signals(self, context: Context, tokens: list[int], stride: int) -> Iterator[Signal]:
        """Yield what is known of the next tokens: of one, or of the whole stride."""
        if stride <= 0:
            return
        dtype = self.draft_model.dtype
        unseen = (tokens + self._drafted)[context.length :]
        drafted = self._drafted_ahead(context, unseen, stride) if stride > 1 else None
        if drafted is None:
            self._calls += 1
            logits = context.extend(unseen)  # [1, vocab]
            check_decides(logits, DRAFT_MODEL, dtype)
            yield Signal(logits[0], num_calls=self._calls)
            return
        self._calls += stride
        self._ahead, self._drawn = drafted.probs, iter(drafted.tokens)
        is_drawn = self._ahead is not None
        for token, margin in zip(drafted.tokens, drafted.margins, strict=True):
            if math.isnan(margin):
                raise undecided(margin, DRAFT_MODEL, dtype)
            yield Signal.drafted(-1 if is_drawn else token, margin, self._calls)

    def _drafted_ahead(self, context: Context, unseen: list[int], stride: int) -> Drafted | None:
        """Return a whole stride of tokens; None: they must be asked for one by one.

        What is drawn and then not proposed uses no number up. It has decided nothing either, so the
        number is as good as new, and a seed gives the text that it gives where each token is asked
        for.
        """
        if self.sampler.is_greedy:
            return context.draft(unseen, stride)
        if not decides_by_numbers(self._rng):
            return None
        drawing = self.sampler.drawing(self._rng.ahead(stride))
        return None if drawing is None else context.draw(unseen, stride, drawing)

    def _drawing(self, probs: list[Tensor]) -> Callable[[Signal, int], int]:
        """Return what draws a token and keeps its distribution; under greedy there is none."""

        def draw(signal: Signal, num_drafted: int) -> int:
            if self.sampler.is_greedy:
                return signal.likeliest
            if signal.logits is None:  # drawn already, by the next number
                self._rng.use(1)
                return next(self._drawn)
            choices, _ = self.sampler.choices(signal.logits[None])
            probs.append(choices.dense(as_float(signal.logits)[None]))
            return choices.draw(0, self._rng, self._begin + num_drafted)

        return draw

    def _forget_rejected(self, context: Context, tokens: list[int]) -> None:
        """Roll back to what the newest draft shares with the tokens, however long ago it was."""
        emitted = tokens[self._begin :]
        pairs = zip(self._drafted, emitted, strict=False)
        kept = next((i for i, (a, b) in enumerate(pairs) if a != b), len(self._drafted))
        context.rollback_to(min(context.length, self._begin + kept, len(tokens) - 1))


def _why(is_cut: bool, is_short_of_positions: bool) -> DraftStop | None:
    """Return why a draft has no more tokens; None: it has as many as were wanted."""
    if is_cut:
        return DraftStop.POLICY
    return DraftStop.CONTEXT if is_short_of_positions else None
