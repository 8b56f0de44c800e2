"""`prompt_lookup(max_ngram, min_ngram)`: copy what followed the last tokens when they came before.

Saxena, "Prompt Lookup Decoding", 2023. Longest match first, the most recent of equals. With an
encoder–decoder model the encoder's input is looked up as well as the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from foredraft.drafting.base import DRAFTERS, DraftParts, DraftSource
from foredraft.drafting.retrieval import CopyingDrafter
from foredraft.ranges import Range

MatchLength = Annotated[int, Range(1, 64)]  # tokens


class PromptLookupDrafter(CopyingDrafter):
    """Looks the last `max_ngram` … `min_ngram` tokens up in a dictionary.

    An n-gram is entered when the token after it is known, so that the newest entry is the most
    recent place to copy from. A look-up costs at most `max_ngram` probes, and so does a token.

    Args:
        vocab_size: see `CopyingDrafter`.
        max_ngram: longest match, in tokens, ≥ 1.
        min_ngram: shortest match, in tokens, 1 … max_ngram.
    """

    def __init__(self, vocab_size: int, max_ngram: int = 3, min_ngram: int = 1) -> None:
        super().__init__(vocab_size)
        self.max_ngram, self.min_ngram = max_ngram, min_ngram
        self._restart()

    @property
    def text(self) -> list[int]:
        return self._text

    def _restart(self) -> None:
        self._text: list[int] = []
        self._followed_at: dict[tuple[int, ...], int] = {}  # n-gram → position after it

    def _extend(self, tokens: Sequence[int]) -> None:
        for end, token in enumerate(tokens, start=len(self._text)):
            if token >= 0:
                for n in range(self.min_ngram, min(self.max_ngram, end) + 1):
                    self._followed_at[tuple(self._text[end - n :])] = end
            self._text.append(token)

    def _longest_match(self, drafted: Sequence[int]) -> tuple[int, int]:
        context = (*self._text[-self.max_ngram :], *drafted)[-self.max_ngram :]
        for n in range(len(context), self.min_ngram - 1, -1):
            begin = self._followed_at.get(context[-n:])
            if begin is not None:
                return n, begin
        return 0, 0


@DRAFTERS.register("prompt_lookup")
@dataclass(frozen=True)
class PromptLookup(DraftSource):
    """Copies what followed the last place where the newest tokens came before.

    Attributes:
        max_ngram: longest match, in tokens.
        min_ngram: shortest match, in tokens, 1 … max_ngram.
    """

    max_ngram: MatchLength = 3
    min_ngram: MatchLength = 1
    retrieves = True

    def __post_init__(self) -> None:
        super().__post_init__()
        Range(1, self.max_ngram).check("min_ngram", self.min_ngram)

    def build(self, parts: DraftParts) -> PromptLookupDrafter:
        return PromptLookupDrafter(parts.vocab_size, self.max_ngram, self.min_ngram)
