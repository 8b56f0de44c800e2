"""Features: what a network's layers have made of a text, for whoever drafts from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

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

    def write(self, position: int, states: Tensor) -> None:
        """Take down the states of tokens that were fed; what was known behind them is forgotten.

        Args:
            position: of the first of them; beyond `end`, what was known before is forgotten too.
            states: shape `[time, layers · hidden]`.
        """
        if not self.begin <= position <= self.end:
            self.begin = position
        self.end = position + len(states)
        first, last = position - self.begin, self.end - self.begin
        if self._rows is None or last > len(self._rows):
            grown = states.new_empty(max(2 * last, ROOM), states.shape[1])
            if self._rows is not None:
                grown[:first] = self._rows[:first]
            self._rows = grown
        self._rows[first:last] = states

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


def stacked(states: Sequence[Tensor]) -> Tensor:
    """Return states of several layers, `[time, hidden]` each, side by side."""
    return torch.cat(list(states), dim=-1)
