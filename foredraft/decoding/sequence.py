"""Sequence: the tokens of one generation and the rules that end it.

Knows lengths, end tokens and a stop check; knows no model. Rules apply inside an accepted block:
what follows an end token is never emitted, and never more tokens than asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import perf_counter

from foredraft.core import FinishReason, Prompt
from foredraft.ranges import Length, checked


class Sequence:
    """What a generation begins with, and its output.

    Args:
        begin: tokens the sequence begins with: what the target's `start` returned.
        max_new_tokens: most tokens to emit.
        max_length: positions of the target; prompt and output together stay within.
        eos_token_ids: tokens that end the generation; the end token is emitted.
        stop_check: called once with each emitted token; True ends the generation after it.
        prompt: what the target was started with; None means `begin`, as for a decoder-only model.
    """

    def __init__(
        self,
        begin: list[int],
        *,
        max_new_tokens: int,
        max_length: int,
        eos_token_ids: Collection[int] = (),
        stop_check: Callable[[int], bool] | None = None,
        prompt: Prompt | None = None,
    ) -> None:
        max_new_tokens = checked("max_new_tokens", max_new_tokens, Length)
        self.prompt: Prompt = list(begin) if prompt is None else prompt
        self.tokens = list(begin)
        self._first = len(begin)
        self.finish_reason: FinishReason | None = None
        room = max_length - len(begin)
        self._limit = len(begin) + min(max_new_tokens, room)
        self._at_limit = FinishReason.LENGTH if max_new_tokens <= room else FinishReason.CONTEXT
        self._eos = frozenset(eos_token_ids)
        self._stop_check = stop_check
        self.check_seconds = 0.0  # that the stop check took in the newest commit

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

    def commit(self, block: list[int]) -> list[int]:
        """Append tokens until one of them ends the generation; return those appended."""
        before, self.check_seconds = len(self.tokens), 0.0
        for token in block:
            self.tokens.append(token)
            self.finish_reason = self._reason_to_stop(token)
            if self.finished:
                break
        return self.tokens[before:]

    def _reason_to_stop(self, token: int) -> FinishReason | None:
        if token in self._eos:
            return FinishReason.EOS
        if self._stops(token):
            return FinishReason.STOP
        return self._at_limit if self.room <= 0 else None

    def _stops(self, token: int) -> bool:
        """Ask the stop check; its time is no time of decoding, and can be told apart."""
        if self._stop_check is None:
            return False
        begin = perf_counter()
        stops = self._stop_check(token)
        self.check_seconds += perf_counter() - begin
        return stops
