"""`suffix(factor, min_match, keep, max_tokens)`: copy after the longest match of any length.

Hu et al., "SAM Decoding", ACL 2025, and Oliaro et al., "SuffixDecoding", NeurIPS 2025, with one
automaton over prompt and output: the longer the match, the longer the copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from foredraft.drafting.base import DRAFTERS, DraftParts, DraftSource
from foredraft.drafting.retrieval import LONGEST_COPY, CopyingDrafter
from foredraft.drafting.suffix_automaton import SuffixAutomaton
from foredraft.native.retrieval import Automaton, calls
from foredraft.ranges import Count, Range


@DRAFTERS.register("suffix")
@dataclass(frozen=True)
class Suffix(DraftSource):
    """Copies what followed the longest earlier match of the end of the text.

    Attributes:
        factor: tokens copied for each token matched.
        min_match: shortest match to copy after, in tokens.
        keep: remember earlier prompts and outputs; else each generation begins with an empty text.
        max_tokens: bound on memory; beyond it the older half of the text is forgotten.
    """

    factor: Annotated[float, Range(0, 1000, open_low=True)] = 1.0
    min_match: Count = 1
    keep: bool = False
    max_tokens: Annotated[int, Range(2, 10**9)] = 100_000
    retrieves = True

    def build(self, parts: DraftParts) -> SuffixDrafter:
        return SuffixDrafter(parts.vocab_size, self)


class SuffixDrafter(CopyingDrafter):
    """Looks the end of the text up in a suffix automaton.

    Args:
        vocab_size: see `CopyingDrafter`.
        settings: how much to copy, and what to remember.
    """

    def __init__(self, vocab_size: int, settings: Suffix | None = None) -> None:
        super().__init__(vocab_size)
        self.settings = settings or Suffix()
        self.automaton = new_automaton(self.settings.max_tokens)

    @property
    def text(self) -> list[int]:
        return self.automaton.text

    def _restart(self) -> None:
        if not self.settings.keep:
            self.automaton = new_automaton(self.settings.max_tokens)
        elif len(self.automaton):
            self._extend([self._new_border()])

    def _extend(self, tokens: Sequence[int]) -> None:
        self.automaton.extend(tokens)

    def _longest_match(self, drafted: Sequence[int]) -> tuple[int, int]:
        length, begin = self.automaton.longest_match(drafted)
        return (length, begin) if length >= self.settings.min_match else (0, 0)

    def _copy(self, begin: int, drafted: Sequence[int], count: int) -> list[int]:
        return self.automaton.copy_from(begin, drafted, count)

    def _cap(self, length: int) -> int:
        return max(1, min(int(self.settings.factor * length), LONGEST_COPY))


def new_automaton(max_tokens: int) -> SuffixAutomaton | Automaton:
    """Return an automaton of no text: the compiled one where there is a compiler."""
    compiled = calls()
    return SuffixAutomaton(max_tokens) if compiled is None else Automaton(compiled, max_tokens)
