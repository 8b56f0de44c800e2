"""TableModel: a language model given by an explicit table. A public test double.

With three tokens and a table one can work out every probability by hand, and a test can enumerate
every path through the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.models.base import Context, Network
from foredraft.ranges import Count, checked

Row = Sequence[float]


class TableModel(Network):
    """Next-token probabilities from a table; a text's memory is its tokens.

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

    def next_probs(self, tokens: tuple[int, ...]) -> Row:
        """Return the table's row after `tokens`."""
        if callable(self._table):
            return self._table(tokens)
        for first in range(len(tokens) + 1):
            if tokens[first:] in self._table:
                return self._table[tokens[first:]]
        raise KeyError(f"the table has no row for {tokens} and no default row ()")

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        held: list[int] = context.memory.tokens
        held += tokens
        rows = [
            self.next_probs(tuple(held[:end])) for end in range(len(held) - keep + 1, len(held) + 1)
        ]
        return torch.tensor(rows, dtype=torch.float64).log()  # [keep, vocab]
