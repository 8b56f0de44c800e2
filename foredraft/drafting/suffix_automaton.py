"""An online suffix automaton: where did the end of this text occur before?

Blumer et al., "The smallest automaton recognizing the subwords of a text", 1985. A state stands for
all substrings with the same end positions. After each token, the suffix link of the newest state
leads to the longest suffix that had occurred before: the match costs nothing beyond the insertion,
which is amortised O(1). Knows tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence

ROOT = 0
NEWEST_DEPTH = 64  # links; deeper suffixes keep an older end position


class SuffixAutomaton:
    """Grows by one token at a time; 2n states at most for n tokens.

    Args:
        max_tokens: bound on memory, ≥ 2. A longer text loses its older half, and the automaton is
            built anew from the rest: still amortised O(1) a token.

    Attributes:
        text: the tokens held.
    """

    def __init__(self, max_tokens: int = 100_000) -> None:
        self.max_tokens = max_tokens
        self._build([])

    def __len__(self) -> int:
        return len(self.text)

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens to the text."""
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Add a token to the text."""
        if len(self.text) >= self.max_tokens:
            self._build(self.text[-(self.max_tokens // 2) :])
        self._insert(token)

    def longest_match(self, drafted: Sequence[int] = ()) -> tuple[int, int]:
        """Return (length, end): the longest end of text and `drafted` that occurred before.

        Args:
            drafted: tokens after the text that are only supposed; not added.

        Returns:
            Its length in tokens, 0 if there is none, and the position after its most recent
            earlier occurrence.
        """
        length, end = self._match
        if not drafted:
            return length, end
        state = self._link[self._last] if self._last != ROOT else ROOT
        for token in drafted:
            while state != ROOT and token not in self._next[state]:
                state = self._link[state]
                length = self._length[state]
            if token in self._next[state]:
                state = self._next[state][token]
                length += 1
        return length, self._end[state]

    def copy_from(self, begin: int, drafted: Sequence[int], most: int) -> list[int]:
        """Return up to `most` tokens of the text from a position on: see `continued`."""
        return continued(self.text, begin, drafted, most)

    def _build(self, text: list[int]) -> None:
        self.text: list[int] = []
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._length = [0]  # of the longest string of each state
        self._end = [0]  # position after an occurrence of it, the most recent one known
        self._last = ROOT
        self._match = (0, 0)
        for token in text:
            self._insert(token)

    def _insert(self, token: int) -> None:
        self.text.append(token)
        newest = self._new_state({}, len(self.text), len(self.text))
        state = self._last
        while state != -1 and token not in self._next[state]:
            self._next[state][token] = newest
            state = self._link[state]
        self._link[newest] = ROOT if state == -1 else self._state_of(state, token)
        self._last = newest
        found = self._link[newest]
        self._match = (self._length[found], self._end[found])
        self._renew_ends(found)

    def _state_of(self, state: int, token: int) -> int:
        """Return the state of the longest string of `state` with `token` after it."""
        known = self._next[state][token]
        length = self._length[state] + 1
        if self._length[known] == length:
            return known
        shorter = self._new_state(dict(self._next[known]), length, self._end[known])
        self._link[shorter] = self._link[known]
        self._link[known] = shorter
        while state != -1 and self._next[state].get(token) == known:
            self._next[state][token] = shorter
            state = self._link[state]
        return shorter

    def _new_state(self, following: dict[int, int], length: int, end: int) -> int:
        self._next.append(following)
        self._length.append(length)
        self._end.append(end)
        self._link.append(-1)
        return len(self._next) - 1

    def _renew_ends(self, state: int) -> None:
        """Note that every suffix of the text occurs at its end, the longest ones first."""
        for _ in range(NEWEST_DEPTH):
            if state == ROOT:
                return
            self._end[state] = len(self.text)
            state = self._link[state]


def continued(text: Sequence[int], begin: int, drafted: Sequence[int], most: int) -> list[int]:
    """Return up to `most` tokens of a text from a position on; a negative one, a border, ends it.

    What reaches the end of the text goes on in itself, as repetitions do.

    Args:
        text: what was said.
        begin: position of the first.
        drafted: tokens that stand, or will, after the text.
        most: tokens wanted.
    """
    copied: list[int] = []
    ahead = [*drafted]
    for position in range(begin, begin + most):
        beyond = position - len(text)
        token = text[position] if beyond < 0 else ahead[beyond]
        if token < 0:
            break
        copied.append(token)
        ahead.append(token)
    return copied
