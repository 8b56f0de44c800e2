"""Controls by what the text holds already: biases, penalties, n-grams and words that may not come.

Each computes what the processor of transformers does that is named beside it; the prompt counts, or
does not, as it does there and in servers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.ranges import Range, TokenId, checked, read
from foredraft.sampling.controls import Control, ControlledText, Tracker
from foredraft.sampling.filters import NEVER

LONGEST_NGRAM = 1024  # tokens
FURTHEST = 1e4  # a bias of that size decides by itself
Bias = Annotated[float, Range(-FURTHEST, FURTHEST)]
RepetitionPenalty = Annotated[float, Range(0.01, 100)]
Penalty = Annotated[float, Range(-100, 100)]
NgramSize = Annotated[int, Range(0, LONGEST_NGRAM)]
NewTokens = Annotated[int, Range(0, 10**9)]


@dataclass(frozen=True)
class LogitBias(Control):
    """Adds to the logits of some tokens; `SequenceBiasLogitsProcessor`.

    Attributes:
        biases: token and what is added, for each.
    """

    biases: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in _tuple(self.biases)):
            raise ConfigError(
                f"biases must be pairs of a token and a number, not {quoted(self.biases)}; "
                "give e.g. ((42, -5.5),)"
            )
        for token, bias in self.biases:
            checked("logit_bias token", token, TokenId)
            checked("logit_bias", bias, Bias)

    @classmethod
    def of_words(cls, words: Sequence[str]) -> LogitBias:
        """Read biases, each written as `id=bias`.

        Raises:
            ConfigError: naming the word.
        """
        biases = []
        for word in words:
            token, _, bias = word.partition("=")
            try:
                biases.append((read("logit_bias", token, TokenId), read("logit_bias", bias, Bias)))
            except ConfigError as error:
                raise ConfigError(
                    f"logit_bias {quoted(word)}: {error}; write id=bias, e.g. 42=-5.5"
                ) from None
        return cls(tuple(biases))

    def of_text(self, text: ControlledText) -> Tracker:
        for token, _ in self.biases:
            if token >= text.vocab_size:
                raise ConfigError(
                    f"logit_bias names the token {token}, and the model has 0 … "
                    f"{text.vocab_size - 1}; leave it out"
                )
        tokens = torch.tensor([token for token, _ in self.biases], dtype=torch.long)
        biases = torch.tensor([bias for _, bias in self.biases], dtype=torch.float64)
        return _Biased(tokens, biases)


class _Biased(Tracker):
    def __init__(self, tokens: Tensor, biases: Tensor) -> None:
        self._tokens, self._biases = tokens, biases

    def edit(self, logits: Tensor) -> None:
        logits.index_add_(0, self._tokens.to(logits.device), self._biases.to(logits))


@dataclass(frozen=True)
class Repetition(Control):
    """Divides positive logits of tokens that stand in prompt or output, multiplies negative ones.

    Keskar et al., "CTRL", 2019; `RepetitionPenaltyLogitsProcessor`.

    Attributes:
        penalty: 1 changes nothing, more makes repetition rarer.
    """

    penalty: RepetitionPenalty = 1.0

    def of_text(self, text: ControlledText) -> Tracker:
        return _Repeated(self.penalty, text)


class _Counted(Tracker):
    """Tokens that came, each once, where a tensor can name them: what is new stands last."""

    def __init__(self, tokens: Iterable[int], vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._counts = Counter[int]()
        self._distinct = torch.empty(64, dtype=torch.long)
        self._places = dict[int, int]()  # of tokens in that list
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        if not 0 <= token < self._vocab_size:
            return
        self._counts[token] += 1
        if token not in self._places:
            place = len(self._places)
            if place == len(self._distinct):
                self._distinct = torch.cat([self._distinct, torch.empty_like(self._distinct)])
            self._places[token], self._distinct[place] = place, token

    def pop(self, token: int) -> None:
        if not 0 <= token < self._vocab_size:
            return
        self._counts[token] -= 1
        # What was pushed last goes first, so that a token which is gone was the last new one.
        if not self._counts[token]:
            del self._places[token]

    @property
    def distinct(self) -> Tensor:
        """The tokens that came, in the order in which they came first."""
        return self._distinct[: len(self._places)]


class _Repeated(_Counted):
    def __init__(self, penalty: float, text: ControlledText) -> None:
        super().__init__(text.begin, text.vocab_size)
        self._penalty = penalty

    def edit(self, logits: Tensor) -> None:
        tokens = self.distinct.to(logits.device)
        came = logits[tokens]
        logits[tokens] = torch.where(came < 0, came * self._penalty, came / self._penalty)


@dataclass(frozen=True)
class CountPenalty(Control):
    """Takes from the logits of tokens that the output holds, as OpenAI's API describes it.

    Attributes:
        presence: for a token that came at all.
        frequency: for each time it came.
    """

    presence: Penalty = 0.0
    frequency: Penalty = 0.0

    def of_text(self, text: ControlledText) -> Tracker:
        return _Penalised(self, text.vocab_size)


class _Penalised(_Counted):
    def __init__(self, penalty: CountPenalty, vocab_size: int) -> None:
        super().__init__((), vocab_size)
        self._penalty = penalty

    def edit(self, logits: Tensor) -> None:
        tokens = self.distinct.to(logits.device)
        counts = logits.new_tensor([self._counts[token] for token in self._places])
        logits[tokens] -= self._penalty.presence + self._penalty.frequency * counts


@dataclass(frozen=True)
class NoRepeatNgrams(Control):
    """Forbids n-grams that stand in prompt or output; `NoRepeatNGramLogitsProcessor`.

    Attributes:
        size: n, in tokens.
    """

    size: Annotated[int, Range(1, LONGEST_NGRAM)] = 3

    def of_text(self, text: ControlledText) -> Tracker:
        return _Ngrams(self.size, text)


class _Ngrams(Tracker):
    def __init__(self, size: int, text: ControlledText) -> None:
        self._context, self._vocab_size = size - 1, text.vocab_size
        self._tokens = list[int]()
        self._followers = defaultdict[tuple[int, ...], list[int]](list)
        for token in text.begin:
            self.push(token)

    def push(self, token: int) -> None:
        if len(self._tokens) >= self._context:
            self._followers[self._ending].append(token)
        self._tokens.append(token)

    def pop(self, token: int) -> None:
        self._tokens.pop()
        if len(self._tokens) >= self._context:
            self._followers[self._ending].pop()

    def edit(self, logits: Tensor) -> None:
        _forbid(logits, self._followers.get(self._ending, ()))

    @property
    def _ending(self) -> tuple[int, ...]:
        return tuple(self._tokens[len(self._tokens) - self._context :])


@dataclass(frozen=True)
class BadWords(Control):
    """Forbids sequences of tokens; `NoBadWordsLogitsProcessor`.

    Of a word the tokens that spell it at the beginning of a text and behind a space are forbidden.
    Other tokens may spell it still, letter by letter.

    Attributes:
        words: texts; they need a tokenizer.
        sequences: token ids.
    """

    words: tuple[str, ...] = ()
    sequences: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(sequence, tuple) for sequence in _tuple(self.sequences)):
            raise ConfigError(
                f"sequences must be tuples of token ids, not {quoted(self.sequences)}; "
                "give e.g. ((42,), (7, 8))"
            )
        for sequence in self.sequences:
            for token in sequence:
                checked("sequences", token, TokenId)

    def of_text(self, text: ControlledText) -> Tracker:
        sequences = {*map(tuple, self.sequences)}
        if self.words and text.tokenizer is None:
            raise ConfigError("bad_words are texts and need a tokenizer; give sequences of ids")
        for word in self.words:
            # White space alone is forbidden as it is: behind a space it would be that space.
            for spelt in (word, f" {word.lstrip()}") if word.strip() else (word,):
                with foreign("the tokenizer", "leave bad_words out"):
                    assert text.tokenizer is not None
                    found = text.tokenizer.encode(spelt, add_special_tokens=False)
                sequences.add(tuple(found))
        if () in sequences:
            raise ConfigError(
                f"bad_words must hold texts of a token or more, not {quoted(self.words)}"
            )
        return _Forbidden(sequences, text.begin)


class _Forbidden(Tracker):
    def __init__(self, sequences: Iterable[tuple[int, ...]], begin: Sequence[int]) -> None:
        self._last = defaultdict[tuple[int, ...], list[int]](list)
        for *before, last in sequences:
            self._last[tuple(before)].append(last)
        self._lengths = sorted({len(before) for before in self._last})
        self._tokens = list(begin)

    def push(self, token: int) -> None:
        self._tokens.append(token)

    def pop(self, token: int) -> None:
        self._tokens.pop()

    def edit(self, logits: Tensor) -> None:
        length = len(self._tokens)
        for before in self._lengths:
            if before <= length:
                _forbid(logits, self._last.get(tuple(self._tokens[length - before :]), ()))


@dataclass(frozen=True)
class MinNewTokens(Control):
    """Forbids end tokens before so many tokens; `MinNewTokensLengthLogitsProcessor`.

    Attributes:
        count: of the output, in tokens.
    """

    count: NewTokens = 0

    def of_text(self, text: ControlledText) -> Tracker:
        return _Growing(self.count, text.ends)


class _Growing(Tracker):
    def __init__(self, count: int, ends: Iterable[int]) -> None:
        self._wanted, self._ends, self._length = count, list(ends), 0

    def push(self, token: int) -> None:
        self._length += 1

    def pop(self, token: int) -> None:
        self._length -= 1

    def edit(self, logits: Tensor) -> None:
        if self._length < self._wanted:
            _forbid(logits, self._ends)


def _tuple(values: object) -> tuple[object, ...]:
    """Return what is a tuple; of anything else one whose only element is none."""
    return values if isinstance(values, tuple) else (None,)


def _forbid(logits: Tensor, tokens: Sequence[int]) -> None:
    """Let none of some tokens come; a token without a column never does."""
    columns = [token for token in tokens if 0 <= token < len(logits)]
    if columns:
        logits[torch.tensor(columns, device=logits.device)] = NEVER
