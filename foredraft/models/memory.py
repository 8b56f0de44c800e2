"""Memory: what a network remembers of one text, and what can forget its newest tokens."""

from __future__ import annotations

from typing import Protocol, Self


class Memory(Protocol):
    """What a network remembers of one text; the newest tokens can be forgotten."""

    @property
    def length(self) -> int:
        """Tokens held."""

    def restart(self) -> None:
        """Forget everything, keep the room."""

    def rollback_to(self, length: int) -> None:
        """Forget tokens `length` and later."""

    def copy(self) -> Self:
        """Return a memory of its own that holds the same."""


class TokenMemory:
    """The tokens themselves: of what computes a row from its whole prefix."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    @property
    def length(self) -> int:
        return len(self.tokens)

    def restart(self) -> None:
        self.tokens = []

    def rollback_to(self, length: int) -> None:
        del self.tokens[length:]

    def copy(self) -> Self:
        other = type(self)()
        other.tokens = list(self.tokens)
        return other
