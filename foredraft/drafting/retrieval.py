"""RetrievalDrafter: copies or counts instead of computing; each token with a confidence.

A retrieved token is not drawn: it is a function of the tokens before it, so a policy may cut the
draft before or after any of them, and its distribution is one-hot.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from foredraft.core import Draft, DraftStop
from foredraft.drafting.base import Beginning, Drafter, admit
from foredraft.drafting.suffix_automaton import continued
from foredraft.gamma.base import GammaPolicy, Signal

LONGEST_COUNTED = 16  # tokens of a match; longer ones share their counts
LONGEST_COPY = 64  # tokens of a draft
PRIOR_TRIES = 2.0
CERTAIN = 0.999  # of a token that must come: only the end of the text may come before it


@dataclass(frozen=True)
class Retrieved:
    """Tokens found, and for each the chance that the target says it if it said those before.

    Attributes:
        tokens: found.
        confidences: their chances.
        is_predicted: whether they were found in the prediction.
    """

    tokens: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    is_predicted: bool = False

    def first(self, count: int) -> Retrieved:
        """Return the first `count` of them."""
        return Retrieved(self.tokens[:count], self.confidences[:count], self.is_predicted)

    def signals(self, num_calls: int = 0) -> Iterator[Signal]:
        """Yield what a policy is told of each, after so many draft calls for other tokens."""
        for token, confidence in zip(self.tokens, self.confidences, strict=True):
            yield Signal(None, token, confidence, num_calls=num_calls)


class RetrievalDrafter(Drafter):
    """A drafter whose drafts cost next to nothing.

    Attributes:
        is_told: whether somebody says with each text what may be retrieved: others do not tell.
        learns_from_logits: whether `observe` reads the target's logits: else it may be told of
            several steps at once.
    """

    is_told: bool = False

    @property
    def learns_from_logits(self) -> bool:
        return True

    @abstractmethod
    def retrieve(self, tokens: Sequence[int], gamma: int, drafted: Sequence[int] = ()) -> Retrieved:
        """Return at most `gamma` tokens that may follow.

        Args:
            tokens: everything so far.
            gamma: the most tokens wanted.
            drafted: tokens that another drafter puts after them; not learned.
        """

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        return draft_of(self.retrieve(tokens, gamma), policy)


def draft_of(found: Retrieved, policy: GammaPolicy) -> Draft:
    """Return what a policy makes of retrieved tokens."""
    tokens, _ = admit(found.signals(), policy)
    return Draft(
        tokens,
        stopped=DraftStop.POLICY if len(tokens) < len(found.tokens) else None,
        num_predicted=len(tokens) if found.is_predicted else 0,
    )


class HitRates:
    """How often the token after a match of each length was right: Beta counts.

    Before anything is counted a match of n tokens is trusted n / (n + 1): as if the context had
    been followed n times by this token and once by another.
    """

    def __init__(self) -> None:
        self._hits = [0.0] * (LONGEST_COUNTED + 1)
        self._tries = [0.0] * (LONGEST_COUNTED + 1)

    def confidence(self, length: int) -> float:
        """Return the chance that the token after a match of `length` ≥ 1 tokens is right."""
        n = min(length, LONGEST_COUNTED)
        return (self._hits[n] + PRIOR_TRIES * n / (n + 1)) / (self._tries[n] + PRIOR_TRIES)

    def count(self, length: int, hit: bool) -> None:
        """Count one token that the target has decided about."""
        n = min(length, LONGEST_COUNTED)
        self._tries[n] += 1
        self._hits[n] += hit


class CopyingDrafter(RetrievalDrafter):
    """Finds what the text ends with somewhere before, and copies what followed there.

    What a match promised is compared with what the target said, whether it was drafted or not: hit
    rates by the length of the match need no exploration. They outlive a generation.

    Args:
        vocab_size: tokens the target can say; what its encoder reads beyond them is not copied.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.hit_rates = HitRates()
        self._source: list[int] | None = None  # a prompt that is not yet in the text
        self._num_seen = 0  # tokens of the sequence that are in the text
        self._borders = itertools.count(1)  # shared: a text that is kept has those of all
        self._promise: tuple[int, list[int], int] | None = None  # where, which tokens, match length

    @property
    def learns_from_logits(self) -> bool:
        return False

    def start(self, text: Beginning) -> None:
        self._source = [] if isinstance(text.prompt, Tensor) else list(text.prompt)
        self._num_seen, self._promise = 0, None
        self._restart()

    def retrieve(self, tokens: Sequence[int], gamma: int, drafted: Sequence[int] = ()) -> Retrieved:
        self._extend(list(self._unseen(tokens)))
        length, begin = self._longest_match(drafted)
        found = self._copy(begin, drafted, min(gamma, self._cap(length))) if length else []
        if not drafted:
            self._promise = (len(tokens), found, length)
        return Retrieved(found, [self.hit_rates.confidence(length + i) for i in range(len(found))])

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        if self._promise is not None:
            begin, promised, length = self._promise
            for i, (said, token) in enumerate(zip(tokens[begin:], promised, strict=False)):
                self.hit_rates.count(length + i, said == token)
                if said != token:
                    break
        self._promise = None

    @property
    @abstractmethod
    def text(self) -> list[int]:
        """The encoder's input and a border, if it has one, then the sequence."""

    @abstractmethod
    def _restart(self) -> None:
        """Forget the text, unless it is kept between generations."""

    @abstractmethod
    def _extend(self, tokens: Sequence[int]) -> None:
        """Add tokens to the text and the index; a negative one is a border, never matched."""

    @abstractmethod
    def _longest_match(self, drafted: Sequence[int]) -> tuple[int, int]:
        """Return (length, begin): the longest known end of text and `drafted`, 0 if there is none.

        `begin` is the position in the text of the token that followed it most recently.
        """

    def _cap(self, length: int) -> int:
        """Return the most tokens to copy after a match."""
        return LONGEST_COPY

    def _unseen(self, tokens: Sequence[int]) -> Iterator[int]:
        """Yield what the text lacks; an encoder's input goes before a sequence without it."""
        if self._source is not None:
            if list(tokens[: len(self._source)]) != self._source:
                for token in self._source:
                    yield token if token < self.vocab_size else self._new_border()
                yield self._new_border()
            self._source = None
        yield from tokens[self._num_seen :]
        self._num_seen = len(tokens)

    def _new_border(self) -> int:
        """Return a token that occurs nowhere else: no match and no copy goes across it."""
        return -next(self._borders)

    def _copy(self, begin: int, drafted: Sequence[int], count: int) -> list[int]:
        """Return up to `count` tokens from a position on."""
        return continued(self.text, begin, drafted, count)
