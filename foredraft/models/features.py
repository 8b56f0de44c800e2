"""Features: what a network's layers have made of a text, for whoever drafts from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from foredraft.errors import ModelError, RequestError

ROOM = 256  # positions there is room for at first


class Features:
    """States after some layers of a network, at the newest positions of one text.

    Positions before `begin` were fed when nobody asked; they are not made up for.

    Attributes:
        layers: after how many layers each state stands; 0: the embedding, all of them: before the
            last norm.
        begin: first position that is known.
        end: position after the last one that is known.
    """

    def __init__(self, layers: Sequence[int], begin: int) -> None:
        self.layers = tuple(layers)
        self.begin = self.end = begin
        self._rows: Tensor | None = None  # [room, layers · hidden]

    @torch.inference_mode()
    def room_for(self, position: int, count: int, like: Tensor) -> Tensor:
        """Return where states of tokens that are fed belong; `confirm` says that they are there.

        What was known behind them is forgotten.

        Args:
            position: of the first of them; beyond `end`, what was known before is forgotten too.
            count: of tokens.
            like: such states, or none of them, `[…, layers · hidden]`.
        """
        if not self.begin <= position <= self.end:
            self.begin = position
        self.end = position
        first, last = position - self.begin, position + count - self.begin
        if self._rows is None or last > len(self._rows):
            grown = like.new_empty(max(2 * last, ROOM), like.shape[1])
            if self._rows is not None:
                grown[:first] = self._rows[:first]
            self._rows = grown
        return self._rows[first:last]

    def confirm(self, written: int) -> None:
        """Note that so many states stand where there was room for them."""
        self.end += written

    @torch.inference_mode()
    def write(self, position: int, states: Tensor) -> None:
        """Take down states of tokens that were fed, `[time, layers · hidden]`; see `room_for`."""
        self.room_for(position, len(states), states)[:] = states
        self.confirm(len(states))

    def between(self, begin: int, end: int) -> Tensor:
        """Return the states at known positions `begin` … `end` − 1, `[positions, width]`."""
        assert self._rows is not None
        return self._rows[begin - self.begin : end - self.begin]

    def rollback_to(self, length: int) -> None:
        """Forget the states at position `length` and later."""
        self.end = min(self.end, length)
        self.begin = min(self.begin, length)

    def copy(self) -> Self:
        """Return features of their own that say the same."""
        other = type(self)(self.layers, self.begin)
        if self.end > self.begin:
            other.write(self.begin, self.between(self.begin, self.end))
        return other


class Ends:
    """What a network tells of itself to a drafter that reads it; by itself, nothing.

    Attributes:
        num_watchable: layers whose states `Context.watch` can take down; 0: none.
        state_size: numbers of such a state.
    """

    num_watchable: int = 0
    state_size: int = 0

    def embedding(self) -> Tensor:
        """Return the embedding in float32, `[tokens, hidden]`, not scaled.

        Raises:
            ModelError: the network does not tell; so do the next two.
        """
        raise self._tells_nothing()

    def output_rows(self, tokens: Tensor) -> Tensor:
        """Return the rows of the last product for some tokens in float32, `[len, hidden]`."""
        raise self._tells_nothing()

    def last_norm(self) -> tuple[Tensor, float]:
        """Return the gain of the norm before the last product, `[hidden]`, and its epsilon."""
        raise self._tells_nothing()

    def check_watchable(self, layers: Sequence[int]) -> None:
        """Raise unless there are such layers.

        Raises:
            RequestError: there are not, or none is told of.
        """
        most = self.num_watchable
        if not most:
            raise RequestError(f"{self._tells_nothing()}")
        if not layers or not all(0 <= layer <= most for layer in layers):
            raise RequestError(f"layers are {list(layers)}; legal: at least one, each 0 … {most}")

    def _tells_nothing(self) -> ModelError:
        return ModelError(
            f"{type(self).__name__} tells nothing of its layers and ends, which a head needs; load "
            "the target as a decoder-only model of the Llama family"
        )


def stacked(states: Sequence[Tensor]) -> Tensor:
    """Return states of several layers, `[time, hidden]` each, side by side."""
    return torch.cat(list(states), dim=-1)
