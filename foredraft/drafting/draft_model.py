"""The neural drafter: a small language model that draws its draft token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from foredraft.choices import Choices, Dense, OneHot, decides_by_numbers
from foredraft.core import Draft, DraftStop
from foredraft.drafting.base import Beginning, Drafter, admit
from foredraft.drafting.retrieval import CERTAIN, Retrieved
from foredraft.errors import ContextOverflow
from foredraft.gamma.base import GammaPolicy, Signal
from foredraft.logits import check_decides, undecided
from foredraft.models.base import Context, Drafted, Network
from foredraft.sampling.base import Sampler, as_float
from foredraft.sampling.controls import Controls, leaves_any

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
    _controls: Controls | None = None  # likewise
    _drafted: list[int]  # the newest draft
    _tokens: list[int]  # what it follows
    _begin: int  # where it begins

    def accepts(self, target: Network) -> bool:
        return self.draft_model.vocab_size == target.vocab_size

    def start(self, text: Beginning) -> None:
        self._rng, self._controls, before = text.rng, text.controls, self._context
        # A prompt too long for the draft model is no reason to refuse: the target decodes plainly.
        try:
            if before is None:
                self._context = self.draft_model.open(text.prompt)
            else:  # a turn later
                held = self._tokens[: self._begin] + self._drafted
                self._context = before.reopen(text.prompt, held)
        except ContextOverflow:
            self._context = None
        self._drafted, self._tokens = [], []
        self._begin = self._context.length if self._context else 0

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        context = self._context
        if context is None:
            return Draft([], stopped=DraftStop.CONTEXT)
        self._forget_rejected(context, tokens)
        room = self._room(context, tokens)
        most = min(gamma, room)
        self._begin, self._drafted, self._calls = len(tokens), list[int](), 0
        self._tokens = tokens
        num_read = len(tokens) - context.length
        rows = list[Choices]()  # of the tokens that were drawn, or forced
        goes_on = True
        while goes_on and (before := len(self._drafted)) < most:
            if forced := self._forced(most - before):
                signals = Retrieved(forced, [CERTAIN] * len(forced)).signals(self._calls)
                admitted, goes_on = admit(signals, policy, before)
                rows.append(OneHot(admitted))
                self._drafted += admitted
                continue
            stride = min(policy.stride(before), most - before)
            if stride <= 0:
                goes_on = False
                break
            held = context.length
            unseen = [*tokens[held:], *self._drafted[max(held - len(tokens), 0) :]]
            by_margins = stride > 1 or policy.admits([], before, self._calls) is not None
            ahead = self._drafted_ahead(context, unseen, stride) if by_margins else None
            if ahead is None:
                question, draw = self._asked(context, unseen), self._drawing(rows)
                admitted, goes_on = admit(question, policy, before, draw)
                if goes_on and not admitted:  # none of the tokens it might draw may follow here
                    break
            else:
                self._calls += stride
                admitted, goes_on = self._admitted(ahead, policy)
                if ahead.probs is not None and admitted:
                    is_whole = len(admitted) == len(ahead.tokens)
                    rows.append(Dense(ahead.probs if is_whole else ahead.probs[: len(admitted)]))
            self._drafted += admitted
        is_cut = not goes_on and len(self._drafted) < gamma  # at its bound it would have ended
        return Draft(
            list(self._drafted),
            _joined(rows),
            num_calls=self._calls,
            num_read=num_read if self._calls else 0,
            stopped=_why(is_cut, room < gamma),
        )

    def _forced(self, most: int) -> list[int]:
        """Return tokens that must come next, which no model need be asked for."""
        return [] if self._controls is None else self._controls.forced(self._drafted)[:most]

    def _room(self, context: Context, tokens: list[int]) -> int:
        """Return how many tokens may be drafted behind these: the last draft is never fed."""
        return self.draft_model.max_length - len(tokens) + 1

    def _asked(self, context: Context, unseen: list[int]) -> Iterator[Signal]:
        """Yield what is known of the next token, once it is asked for."""
        self._calls += 1
        logits = context.extend(unseen)  # [1, vocab]
        check_decides(logits, DRAFT_MODEL, self.draft_model.dtype)
        if self._controls is not None:
            logits = self._controls.applied(logits, self._drafted, len(self._drafted))
            if not leaves_any(logits[0]):
                return
        yield Signal(logits[0], num_calls=self._calls)

    def _admitted(self, ahead: Drafted, policy: GammaPolicy) -> tuple[list[int], bool]:
        """Return the tokens of a stride that a policy admits, and whether it would go on.

        A token that is drawn uses up a number when it is proposed.
        """
        tokens, before = ahead.tokens, len(self._drafted)
        is_end = [token in policy.ends for token in tokens]
        length = is_end.index(True) + 1 if True in is_end else len(tokens)
        margins = ahead.margins[:length]
        found = None
        if not any(map(math.isnan, margins)):
            found = policy.admits(margins, before, self._calls)
        if found is None:
            drawn = iter(tokens)
            asked = self._signals(ahead)
            admitted, goes_on = admit(asked, policy, before, lambda *_: next(drawn))
        else:
            admitted = tokens[: found[0]]
            goes_on = found[1] and len(admitted) == len(tokens) and not is_end[-1]
        if ahead.probs is not None:
            self._rng.use(len(admitted))
        return admitted, goes_on

    def _signals(self, ahead: Drafted) -> Iterator[Signal]:
        """Yield what may be known of each token of a stride."""
        for token, margin in zip(ahead.tokens, ahead.margins, strict=True):
            if math.isnan(margin):
                raise undecided(margin, DRAFT_MODEL, self.draft_model.dtype)
            yield Signal.drafted(token if ahead.probs is None else -1, margin, self._calls)

    def _drafted_ahead(self, context: Context, unseen: list[int], stride: int) -> Drafted | None:
        """Return a whole stride of tokens; None: they must be asked for one by one.

        What is drawn and then not proposed uses no number up. It has decided nothing either, so the
        number is as good as new, and a seed gives the text that it gives where each token is asked
        for.
        """
        if self._controls is not None:  # each token is bent by those before it
            return None
        if self.sampler.is_greedy:
            return context.draft(unseen, stride)
        if not decides_by_numbers(self._rng):
            return None
        drawing = self.sampler.drawing(self._rng.ahead(stride))
        return None if drawing is None else context.draw(unseen, stride, drawing)

    def _drawing(self, rows: list[Choices]) -> Callable[[Signal, int], int]:
        """Return what draws a token and keeps its distribution; under greedy there is none."""

        def draw(signal: Signal, num_drafted: int) -> int:
            if self.sampler.is_greedy:
                return signal.likeliest
            assert signal.logits is not None
            choices, _ = self.sampler.choices(signal.logits[None])
            rows.append(Dense(choices.dense(as_float(signal.logits)[None])))
            return choices.draw(0, self._rng, self._begin + num_drafted)

        return draw

    def _forget_rejected(self, context: Context, tokens: list[int]) -> None:
        """Roll back to what the newest draft shares with the tokens, however long ago it was."""
        emitted = tokens[self._begin :]
        pairs = zip(self._drafted, emitted, strict=False)
        kept = next((i for i, (a, b) in enumerate(pairs) if a != b), len(self._drafted))
        context.rollback_to(min(context.length, self._begin + kept, len(tokens) - 1))


def _joined(rows: list[Choices]) -> Choices | None:
    """Return what the tokens of a draft were drawn from; None: none of them was drawn."""
    drawn = next((row for row in rows if isinstance(row, Dense)), None)
    if drawn is None or len(rows) == 1:
        return drawn
    return Dense(torch.cat([row.dense(drawn.probs) for row in rows]))


def _why(is_cut: bool, is_short_of_positions: bool) -> DraftStop | None:
    """Return why a draft has no more tokens; None: it has as many as were wanted."""
    if is_cut:
        return DraftStop.POLICY
    return DraftStop.CONTEXT if is_short_of_positions else None
