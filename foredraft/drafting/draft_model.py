"""The neural drafter: a small language model that draws its draft token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from foredraft.choices import Dense
from foredraft.core import Draft, DraftStop, Prompt
from foredraft.drafting.base import Drafter, admit
from foredraft.errors import ContextOverflow
from foredraft.gamma.base import GammaPolicy, Signal
from foredraft.logits import check_decides, undecided
from foredraft.models.base import Context, Network
from foredraft.sampling.base import Sampler
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
        probs = list[Tensor]()
        goes_on = True
        while goes_on and len(self._drafted) < most:
            stride = min(policy.stride(len(self._drafted)), most - len(self._drafted))
            signals = self._signals(context, tokens, stride)
            admitted, goes_on = admit(signals, policy, len(self._drafted), self._drawing(probs))
            self._drafted += admitted
            goes_on = goes_on and stride > 0
        is_cut = not goes_on and len(self._drafted) < gamma  # at its bound it would have ended
        return Draft(
            list(self._drafted),
            Dense(torch.stack(probs)) if probs else None,  # [drafted, vocab]
            num_calls=self._calls,
            num_read=num_read if self._calls else 0,
            stopped=_why(is_cut, room < gamma),
        )

    def _signals(self, context: Context, tokens: list[int], stride: int) -> Iterator[Signal]:
        """Yield what is known of the next tokens: of one, or under greedy of the whole stride."""
        if stride <= 0:
            return
        dtype = self.draft_model.dtype
        unseen = (tokens + self._drafted)[context.length :]
        if stride == 1 or not self.sampler.is_greedy:
            self._calls += 1
            logits = context.extend(unseen)  # [1, vocab]
            check_decides(logits, DRAFT_MODEL, dtype)
            yield Signal(logits[0], num_calls=self._calls)
            return
        self._calls += stride
        drafted = context.draft(unseen, stride)
        for token, margin in zip(drafted.tokens, drafted.margins, strict=True):
            if math.isnan(margin):
                raise undecided(margin, DRAFT_MODEL, dtype)
            yield Signal.drafted(token, margin, self._calls)

    def _drawing(self, probs: list[Tensor]) -> Callable[[Signal, int], int]:
        """Return what draws a token and keeps its distribution; under greedy there is none."""

        def draw(signal: Signal, num_drafted: int) -> int:
            if self.sampler.is_greedy:
                return signal.likeliest
            assert signal.logits is not None
            probs.append(self.sampler.probs(signal.logits))
            return self._rng.categorical(probs[-1], self._begin + num_drafted)

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
