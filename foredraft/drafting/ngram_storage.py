"""N-gram counts of the prompt and the output: context → its most frequent next token.

Plain dictionaries on token tuples: a look-up costs O(n), an update O(n), memory is bounded. Knows
tokens only; drafting and verification happen elsewhere.
"""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from foredraft.errors import ConfigError, quoted
from foredraft.ownership import Owned
from foredraft.ranges import Count, NgramOrder, Seed, checked
from foredraft.registry import nearest


class INgramStorage(Owned, ABC):
    """What n-gram assisted decoding needs of a storage; inherit to bring your own.

    Attributes:
        n: longest n-gram, in tokens; contexts have at most n − 1.
    """

    n: int

    @abstractmethod
    def initialize(self, tokens: Sequence[int]) -> None:
        """Count every n-gram of a prompt, on top of what is already stored."""

    @abstractmethod
    def next_token(self, context: Sequence[int]) -> tuple[int, bool]:
        """Return (token, known): the most frequent token after the end of `context`.

        Where the context is unknown, any token with `known = False`.
        """

    def confidence(self, context: Sequence[int]) -> float:
        """Return the chance, in [0, 1], that `next_token` is right; ½ where a storage knows none.

        Policies that stop early read it.
        """
        return 0.5

    @abstractmethod
    def has_gram(self, context: Sequence[int]) -> bool:
        """Whether exactly this context has been seen with a next token."""

    @abstractmethod
    def update(self, context: Sequence[int], next_token: int) -> None:
        """Count `next_token` once after the end of `context`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything."""

    def empty(self) -> Self:
        """Return another storage with the same settings, which holds nothing."""
        other = copy.deepcopy(self)
        other.reset()
        return other


class _NextTokens:
    """How often each token followed one context, and which leads."""

    __slots__ = ("best", "counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.best = -1
        self.total = 0

    def count(self, token: int) -> None:
        self.total += 1
        self.counts[token] = self.counts.get(token, 0) + 1
        # Strictly more: of equals, the one that reached the count first keeps the lead.
        if self.counts[token] > self.counts.get(self.best, 0):
            self.best = token


class _CountingStorage(INgramStorage):
    """Counts under contexts of the lengths in `_lengths`, longest first."""

    _lengths: tuple[int, ...]

    def __init__(
        self,
        n: NgramOrder,
        vocab_size: Count,
        *,
        max_contexts: Count = 500_000,
        seed: Seed = 0,
    ) -> None:
        self.n = checked("n", n, NgramOrder)
        self.vocab_size: int = checked("vocab_size", vocab_size, Count)
        self.max_contexts: int = checked("max_contexts", max_contexts, Count)
        self.seed: int = checked("seed", seed, Seed)
        self._lengths = self._context_lengths(self.n)
        self.reset()

    @staticmethod
    @abstractmethod
    def _context_lengths(n: int) -> tuple[int, ...]: ...

    def __len__(self) -> int:
        """Number of contexts stored, at most `max_contexts`."""
        return len(self._contexts)

    def initialize(self, tokens: Sequence[int]) -> None:
        self._random = random.Random(self.seed)
        for end in range(1, len(tokens)):
            self.update(tokens[max(0, end - self.n + 1) : end], tokens[end])

    def next_token(self, context: Sequence[int]) -> tuple[int, bool]:
        found = self._longest_known(context)
        if found is not None:
            return found.best, True
        return self._random.randrange(self.vocab_size), False

    def confidence(self, context: Sequence[int]) -> float:
        """Return count / (total + 1): one more time something new may come. Unknown: 1 / V."""
        found = self._longest_known(context)
        if found is None:
            return 1 / self.vocab_size
        return found.counts[found.best] / (found.total + 1)

    def _longest_known(self, context: Sequence[int]) -> _NextTokens | None:
        for length in self._lengths:
            if length <= len(context):
                found = self._contexts.get(tuple(context[len(context) - length :]))
                if found is not None:
                    return found
        return None

    def has_gram(self, context: Sequence[int]) -> bool:
        return tuple(context) in self._contexts

    def update(self, context: Sequence[int], next_token: int) -> None:
        if not 0 <= next_token < self.vocab_size:
            return  # of an encoder's own vocabulary: the decoder cannot say it
        for length in self._lengths:
            if length <= len(context):
                key = tuple(context[len(context) - length :])
                if key not in self._contexts:
                    self._contexts[key] = _NextTokens()
                self._contexts[key].count(next_token)
        while len(self._contexts) > self.max_contexts:
            self._contexts.popitem(last=False)  # the context first seen longest ago

    def empty(self) -> Self:
        if type(self).__init__ is not _CountingStorage.__init__:
            return super().empty()  # a subclass with settings of its own
        return type(self)(self.n, self.vocab_size, max_contexts=self.max_contexts, seed=self.seed)

    def reset(self) -> None:
        self._contexts: OrderedDict[tuple[int, ...], _NextTokens] = OrderedDict()
        self._random = random.Random(self.seed)


class NGramStorage(_CountingStorage):
    """Multi-level: contexts of n−1, n−2, … 1 tokens, the longest known one answers.

    Args:
        n: longest n-gram, 2 … 64 tokens.
        vocab_size: unknown contexts get a random token below it.
        max_contexts: bound on memory; the oldest context goes first.
        seed: of the random tokens; restarted by `initialize`.
    """

    @staticmethod
    def _context_lengths(n: int) -> tuple[int, ...]:
        return tuple(range(n - 1, 0, -1))


class OneLevelNGramStorage(_CountingStorage):
    """One level: contexts of exactly n−1 tokens; arguments as for `NGramStorage`."""

    @staticmethod
    def _context_lengths(n: int) -> tuple[int, ...]:
        return (n - 1,)


STORAGES: dict[str, type[_CountingStorage]] = {
    "basic": NGramStorage,
    "onelevel": OneLevelNGramStorage,
}


def check_storage(setting: str, name: str) -> None:
    """Raise `ConfigError` unless a setting names a storage."""
    if name not in STORAGES:
        raise ConfigError(
            f"unknown {setting} {quoted(name)}{nearest(name, STORAGES)}; "
            f"legal: {', '.join(STORAGES)}"
        )
