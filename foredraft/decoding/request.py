"""Request: one generation: its tokens, the rules that end it, and what belongs to its text alone.

Rules apply inside an accepted block: what follows an end token is never emitted, and never more
tokens than asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from time import perf_counter

from foredraft.core import FinishReason
from foredraft.drafting.base import Drafter
from foredraft.gamma.base import GammaPolicy
from foredraft.models.base import Context, Feed
from foredraft.ranges import Length, checked
from foredraft.sampling.controls import Controls
from foredraft.sampling.rng import Rng

NO_TOKEN = -1  # stands where the controls let no token come


class Request:
    """One generation.

    Args:
        context: of the target, newly opened.
        rng: source of randomness of drafter and verifier, in the order of their decisions.
        max_new_tokens: most tokens to emit.
        eos_token_ids: tokens that end the generation; the end token is emitted.
        stop_check: called once with each emitted token; True ends the generation after it.
        controls: of this text, at its beginning; None bends nothing.
        prediction: tokens that the output is expected to resemble; drafted from, never trusted.
        num_logprobs: likeliest tokens whose log-probabilities are recorded, beside the emitted
            one's; None records none.
        clock: of the check's seconds, which are no part of a step's: that of the loop.

    Attributes:
        tokens: what the text begins with, and its output.
        drafter: of this text; None decodes plainly.
        policy: of this text.
        ends: tokens that end the text wherever they come.
        is_plain: whether the next step is the target's alone.
        rest: steps to come for which its drafter is left alone.
    """

    drafter: Drafter | None = None
    policy: GammaPolicy | None = None
    is_plain = True
    rest = 0

    def __init__(
        self,
        context: Context,
        rng: Rng,
        *,
        max_new_tokens: int,
        eos_token_ids: Collection[int] = (),
        stop_check: Callable[[int], bool] | None = None,
        controls: Controls | None = None,
        prediction: Sequence[int] = (),
        num_logprobs: int | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        max_new_tokens = checked("max_new_tokens", max_new_tokens, Length)
        self.context, self.rng, self.controls = context, rng, controls
        self.prediction, self.num_logprobs = prediction, num_logprobs
        self.tokens = list(context.begin)
        self._first = len(self.tokens)
        self.finish_reason: FinishReason | None = None
        room = context.network.max_length - self._first
        self._limit = self._first + min(max_new_tokens, room)
        self._at_limit = FinishReason.LENGTH if max_new_tokens <= room else FinishReason.CONTEXT
        self.ends = frozenset(eos_token_ids)
        self._stop_check, self._clock = stop_check, clock
        self.check_seconds = 0.0  # that the stop check took in the newest commit

    def feed(self, drafted: list[int]) -> Feed:
        """Return what the target has not seen, a draft at its end; logits from before it on."""
        unseen = self.tokens[self.context.length :] + drafted
        return Feed(self.context, unseen, keep=len(drafted) + 1)

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.tokens)

    @property
    def output(self) -> list[int]:
        """The emitted tokens."""
        return self.tokens[self._first :]

    @property
    def room(self) -> int:
        """Tokens that may still be emitted."""
        return self._limit - len(self.tokens)

    @property
    def finished(self) -> bool:
        """Whether a rule has ended the generation."""
        return self.finish_reason is not None

    def is_end(self, token: int) -> bool:
        """Whether a token ends the generation wherever it comes."""
        return token in self.ends

    def commit(self, block: list[int]) -> list[int]:
        """Append tokens until one of them ends the generation, or none may follow; return those."""
        before, self.check_seconds = len(self.tokens), 0.0
        for token in block:
            if token == NO_TOKEN:
                self.finish_reason = FinishReason.BLOCKED
                break
            self.tokens.append(token)
            self.finish_reason = self._reason_to_stop(token)
            if self.finished:
                break
        emitted = self.tokens[before:]
        if self.controls is not None:
            self.controls.commit(emitted)
            if self.finish_reason is self._at_limit and self.controls.is_unfinished:
                self.finish_reason = FinishReason.UNSATISFIED
        return emitted

    def interrupt(self) -> None:
        """End an unfinished generation where it is."""
        self.finish_reason = self.finish_reason or FinishReason.INTERRUPTED

    def forget_rejected(self) -> None:
        """Let the target hold everything but the last token."""
        self.context.rollback_to(len(self.tokens) - 1)

    def _reason_to_stop(self, token: int) -> FinishReason | None:
        if self.is_end(token):
            return FinishReason.EOS
        if self._stops(token):
            return FinishReason.STOP
        return self._at_limit if self.room <= 0 else None

    def _stops(self, token: int) -> bool:
        """Ask the stop check; its time is no time of decoding, and can be told apart."""
        if self._stop_check is None:
            return False
        begin = self._clock()
        stops = self._stop_check(token)
        self.check_seconds += self._clock() - begin
        return stops
