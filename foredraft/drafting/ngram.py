"""NASD: n-gram counts take the place of the draft model.

Ou, Chen and Tian, "Lossless Acceleration of Large Language Model via Adaptive N-gram Parallel
Decoding" (ANPD), 2024, is the case `filler_top_k = 1`; the filler also counts what the target
nearly said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from foredraft.costs import Meter
from foredraft.drafting.base import DRAFTERS, Beginning, Drafter, DraftParts, DraftSource
from foredraft.drafting.ngram_storage import STORAGES, INgramStorage, check_storage
from foredraft.drafting.retrieval import RetrievalDrafter, Retrieved
from foredraft.logits import several_likeliest
from foredraft.ranges import Fillers, NgramOrder, Share, checked


class NgramDrafter(RetrievalDrafter):
    """Proposes the most frequent continuation seen so far; training-free.

    The prompt is counted whole, so with an encoder–decoder model its input is looked up as well:
    summaries and translations copy from there. Features are no tokens and are not counted.

    Args:
        storage: where n-grams are counted.
        filler_top_k: how many of the target's likeliest tokens to count at each emitted position,
            beside the emitted one; 1 counts the emitted one alone.
        stop_if_unknown: end the draft at an unknown context; else a token is guessed at random
            there, as the original does.
        reset_in_between: empty the storage before each generation.
        min_confidence: end the draft before the chance that all of it is right, by the counts,
            falls below this; 0 never does.
    """

    def __init__(
        self,
        storage: INgramStorage,
        *,
        filler_top_k: Fillers = 3,
        stop_if_unknown: bool = True,
        reset_in_between: bool = True,
        min_confidence: Share = 0.0,
    ) -> None:
        self.storage = storage
        self.filler_top_k = checked("filler_top_k", filler_top_k, Fillers)
        self.stop_if_unknown = stop_if_unknown
        self.reset_in_between = reset_in_between
        self.min_confidence = checked("min_confidence", min_confidence, Share)

    @property
    def learns_from_logits(self) -> bool:
        return bool(self.filler_top_k > 1)

    def for_text(self, meter: Meter, made: dict[int, Drafter] | None = None) -> Self:
        own = super().for_text(meter, made)
        if self.reset_in_between and own.storage is self.storage:
            own.storage = self.storage.empty()  # what one text counts is none of another's
        return own

    def start(self, text: Beginning) -> None:
        if self.reset_in_between:
            self.storage.reset()
        self.storage.initialize([] if isinstance(text.prompt, Tensor) else text.prompt)

    def retrieve(self, tokens: Sequence[int], gamma: int, drafted: Sequence[int] = ()) -> Retrieved:
        window = self.storage.n - 1
        found, confidences = self.storage.retrieve(
            [*tokens[-window:], *drafted][-window:],
            gamma,
            min_confidence=self.min_confidence,
            stop_if_unknown=self.stop_if_unknown,
        )
        return Retrieved(found, confidences)

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        fillers: list[list[int]] = []
        if self.filler_top_k > 1:
            fillers = several_likeliest(target_logits[:num_emitted], self.filler_top_k)
        self.storage.learn(tokens, num_emitted, fillers)


@DRAFTERS.register("ngram")
@dataclass(frozen=True)
class Ngram(DraftSource):
    """Counts n-grams and proposes the most frequent next token (NASD).

    Attributes:
        n: longest n-gram, in tokens.
        storage: `basic` (multi-level) or `onelevel`.
        filler_top_k: target tokens counted at each position.
        stop_if_unknown: end a draft at an unknown context instead of guessing.
        min_confidence: chance that the whole draft is right, below which it ends.
        keep: remember earlier prompts and outputs.
    """

    n: NgramOrder = 3
    storage: str = "basic"
    filler_top_k: Fillers = 3
    stop_if_unknown: bool = True
    min_confidence: Share = 0.0
    keep: bool = False
    retrieves = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_storage("storage", self.storage)

    def build(self, parts: DraftParts) -> NgramDrafter:
        return self.over(STORAGES[self.storage](self.n, parts.vocab_size), parts)

    def over(self, storage: INgramStorage, parts: DraftParts) -> NgramDrafter:
        """Return a drafter that counts in a storage that there is already."""
        return NgramDrafter(
            storage,
            filler_top_k=self.filler_top_k if parts.knows_logits else 1,
            stop_if_unknown=self.stop_if_unknown,
            reset_in_between=not self.keep,
            min_confidence=self.min_confidence,
        )
