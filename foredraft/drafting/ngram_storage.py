"""N-gram counts of the prompt and the output: context → its most frequent next token.

A look-up costs O(n), an update O(n), memory is bounded. What counts is `ReadableCounts`, plain
dictionaries on token tuples, or its compiled twin where there is a compiler. Knows tokens only;
drafting and verification happen elsewhere.
"""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from foredraft.errors import ConfigError, quoted
from foredraft.native.retrieval import UNKNOWN, Counts, calls
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

    def learn(
        self, tokens: Sequence[int], num_new: int, fillers: Sequence[Sequence[int]] = ()
    ) -> None:
        """Count the newest tokens of a text, each after those before it.

        Args:
            tokens: the whole text.
            num_new: how many of them are new, at its end.
            fillers: for each of these, others that are counted beside it; none: no others.
        """
        first = len(tokens) - num_new
        for place in range(num_new):
            context = tokens[max(0, first + place - self.n + 1) : first + place]
            for token in (tokens[first + place], *(fillers[place] if fillers else ())):
                self.update(context, token)

    def retrieve(
        self,
        context: Sequence[int],
        most: int,
        *,
        min_confidence: float = 0.0,
        stop_if_unknown: bool = True,
    ) -> tuple[list[int], list[float]]:
        """Return what is likeliest to follow, a token after another, and its confidences.

        Args:
            context: tokens so far.
            most: tokens wanted.
            min_confidence: the chance that all are right below which there are no more.
            stop_if_unknown: there are no more after an unknown context, either.
        """
        window, survival = self.n - 1, 1.0
        tokens, confidences, context = list[int](), list[float](), list(context[-window:])
        while len(tokens) < most:
            token, known = self.next_token(context)
            confidence = self.confidence(context)
            survival *= confidence
            if survival < min_confidence or (stop_if_unknown and not known):
                break
            tokens.append(token)
            confidences.append(confidence)
            context = [*context, token][-window:]
        return tokens, confidences

    def empty(self) -> Self:
        """Return another storage with the same settings, which holds nothing."""
        other = copy.deepcopy(self)
        other.reset()
        return other


ASKED = {"update", "next_token", "confidence"}  # what a run of tokens is made of


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


class ReadableCounts:
    """Counts of next tokens under contexts, which are forgotten in the order they came.

    Args:
        lengths: of contexts, longest first.
        vocab_size: tokens from it on are not counted.
        max_contexts: bound on memory.
    """

    def __init__(self, lengths: Sequence[int], vocab_size: int, max_contexts: int) -> None:
        self._lengths, self._vocab_size, self._most = lengths, vocab_size, max_contexts
        self._contexts: OrderedDict[tuple[int, ...], _NextTokens] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def __contains__(self, context: Sequence[int]) -> bool:
        return tuple(context) in self._contexts

    def update(self, context: Sequence[int], token: int) -> None:
        """Count one token after the end of a context."""
        if not 0 <= token < self._vocab_size:
            return  # of an encoder's own vocabulary: the decoder cannot say it
        for length in self._lengths:
            if length <= len(context):
                key = tuple(context[len(context) - length :])
                if key not in self._contexts:
                    self._contexts[key] = _NextTokens()
                self._contexts[key].count(token)
        while len(self._contexts) > self._most:
            self._contexts.popitem(last=False)  # the context first seen longest ago

    def find(self, context: Sequence[int]) -> tuple[int, float] | None:
        """Return the likeliest token after the longest known end of a context, and its chance.

        That is count / (total + 1): one more time something new may come.
        """
        for length in self._lengths:
            if length <= len(context):
                found = self._contexts.get(tuple(context[len(context) - length :]))
                if found is not None:
                    return found.best, found.counts[found.best] / (found.total + 1)
        return None


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
        return len(self._counts)

    def initialize(self, tokens: Sequence[int]) -> None:
        self._random = random.Random(self.seed)
        self.learn(tokens, max(0, len(tokens) - 1))

    def next_token(self, context: Sequence[int]) -> tuple[int, bool]:
        found = self._counts.find(context)
        if found is not None:
            return found[0], True
        return self._random.randrange(self.vocab_size), False

    def confidence(self, context: Sequence[int]) -> float:
        """Return count / (total + 1), and 1 / V where the context is unknown."""
        found = self._counts.find(context)
        return 1 / self.vocab_size if found is None else found[1]

    def has_gram(self, context: Sequence[int]) -> bool:
        return context in self._counts

    def update(self, context: Sequence[int], next_token: int) -> None:
        self._counts.update(context, next_token)

    def learn(
        self, tokens: Sequence[int], num_new: int, fillers: Sequence[Sequence[int]] = ()
    ) -> None:
        if isinstance(self._counts, Counts) and self._is_own:
            self._counts.learn(tokens, len(tokens) - num_new, fillers)
        else:
            super().learn(tokens, num_new, fillers)

    def retrieve(
        self,
        context: Sequence[int],
        most: int,
        *,
        min_confidence: float = 0.0,
        stop_if_unknown: bool = True,
    ) -> tuple[list[int], list[float]]:
        if not (isinstance(self._counts, Counts) and self._is_own):
            return super().retrieve(
                context, most, min_confidence=min_confidence, stop_if_unknown=stop_if_unknown
            )
        tokens, confidences, survival = list[int](), list[float](), 1.0
        while len(tokens) < most:
            found, chances, survival, ended = self._counts.retrieve(
                [*context[-self.n :], *tokens], most - len(tokens), min_confidence, survival
            )
            tokens += found
            confidences += chances
            if ended != UNKNOWN or stop_if_unknown:
                break
            guess = self._random.randrange(self.vocab_size)
            survival /= self.vocab_size
            if survival < min_confidence:
                break
            tokens.append(guess)
            confidences.append(1 / self.vocab_size)
        return tokens, confidences

    @property
    def _is_own(self) -> bool:
        """Whether nobody else has a say in what is counted, and how."""
        return type(self) in STORAGES.values() and not ASKED & vars(self).keys()

    def empty(self) -> Self:
        if type(self).__init__ is not _CountingStorage.__init__:
            return super().empty()  # a subclass with settings of its own
        return type(self)(self.n, self.vocab_size, max_contexts=self.max_contexts, seed=self.seed)

    def reset(self) -> None:
        compiled = calls()
        # Contexts of a subclass may have other lengths.
        is_usual = self._lengths in (tuple(range(self.n - 1, 0, -1)), (self.n - 1,))
        if compiled is None or not is_usual:
            self._counts: Counts | ReadableCounts = ReadableCounts(
                self._lengths, self.vocab_size, self.max_contexts
            )
        else:
            self._counts = Counts(
                compiled,
                self.n,
                one_level=len(self._lengths) == 1 and self.n > 2,
                vocab_size=self.vocab_size,
                max_contexts=self.max_contexts,
            )
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
