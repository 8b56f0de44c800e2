"""TableModel: a language model given by an explicit table. A public test double.

With three tokens and a table one can work out every probability by hand, and a test can enumerate
every path through the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.models.base import LanguageModel
from foredraft.ranges import Count, checked

Row = Sequence[float]


class TableModel(LanguageModel):
    """Next-token probabilities from a table; memory is the list of tokens.

    Args:
        table: context → probabilities of the next token. A mapping is looked up with the longest
            suffix of the tokens that it holds (so `()` is the default row); a callable gets all
            tokens as a tuple.
        max_length: positions.
    """

    def __init__(
        self,
        table: Mapping[tuple[int, ...], Row] | Callable[[tuple[int, ...]], Row],
        *,
        max_length: Count = 1024,
    ) -> None:
        if not isinstance(table, Mapping) and not callable(table):
            raise ConfigError(
                f"table must be a mapping or a callable, not {quoted(table)}; give e.g. "
                "{(): [0.5, 0.5]}"
            )
        self._table = table
        self.dtype = torch.float64
        self.max_length: int = checked("max_length", max_length, Count)
        with foreign("the table", "give rows of probabilities, one of them for ()", ConfigError):
            self.vocab_size = len(torch.tensor(self.next_probs(()), dtype=torch.float64))
        self._tokens: list[int] = []
        self._beams: list[list[int]] = []

    @property
    def length(self) -> int:  # type: ignore[override]
        """Tokens held."""
        return len(self._tokens)

    def next_probs(self, tokens: tuple[int, ...]) -> Row:
        """Return the table's row after `tokens`."""
        if callable(self._table):
            return self._table(tokens)
        for first in range(len(tokens) + 1):
            if tokens[first:] in self._table:
                return self._table[tokens[first:]]
        raise KeyError(f"the table has no row for {tokens} and no default row ()")

    def start(self, prompt: Prompt) -> list[int]:
        tokens = self.check_prompt(prompt)
        self._tokens, self._beams = [], []
        return tokens

    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        first = len(self._tokens) + len(tokens) - keep + 1
        self._tokens += tokens
        return self._logits([self._tokens[:end] for end in range(first, len(self._tokens) + 1)])

    def rollback_to(self, length: int) -> None:
        del self._tokens[length:]

    def extend_beams(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        held = self._beams or [self._tokens]
        self._beams = [[*held[p], t] for p, t in zip(parents, tokens, strict=True)]
        return self._logits(self._beams)

    def _logits(self, prefixes: list[list[int]]) -> Tensor:
        rows = [self.next_probs(tuple(prefix)) for prefix in prefixes]
        return torch.tensor(rows, dtype=torch.float64).log()  # [prefixes, vocab]
