"""NASD: n-gram counts take the place of the draft model.

Ou, Chen and Tian, "Lossless Acceleration of Large Language Model via Adaptive N-gram Parallel
Decoding" (ANPD), 2024, is the case `filler_top_k = 1`; the filler also counts what the target
nearly said.
"""

from __future__ import annotations

from torch import Tensor

from specdec.core import Draft, Prompt
from specdec.drafting.base import Drafter
from specdec.drafting.ngram_storage import INgramStorage
from specdec.gamma.base import GammaPolicy
from specdec.registry import check_range
from specdec.sampling.rng import Rng


class NgramDrafter(Drafter):
    """Proposes the most frequent continuation seen so far; training-free.

    The prompt is counted whole, so with an encoder–decoder model its input is looked up as well:
    summaries and translations copy from there. Features are no tokens and are not counted.

    Args:
        storage: where n-grams are counted.
        filler_top_k: how many of the target's likeliest tokens to count at each emitted position,
            beside the emitted one; 1 counts the emitted one alone.
        stop_if_unknown: end the draft at an unknown context instead of guessing at random.
        reset_in_between: empty the storage before each generation.
    """

    def __init__(
        self,
        storage: INgramStorage,
        *,
        filler_top_k: int = 3,
        stop_if_unknown: bool = False,
        reset_in_between: bool = True,
    ) -> None:
        check_range("filler_top_k", filler_top_k, 1, float("inf"))
        self.storage = storage
        self.filler_top_k = filler_top_k
        self.stop_if_unknown = stop_if_unknown
        self.reset_in_between = reset_in_between

    def start(self, prompt: Prompt, rng: Rng) -> None:
        if self.reset_in_between:
            self.storage.reset()
        self.storage.initialize([] if isinstance(prompt, Tensor) else prompt)

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        window = self.storage.n - 1
        context, drafted = tokens[-window:], list[int]()
        while len(drafted) < gamma:
            token, known = self.storage.next_token(context)
            if not known and self.stop_if_unknown:
                break
            drafted.append(token)
            context = [*context, token][-window:]
        return Draft(drafted)

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        window = self.storage.n - 1
        likeliest: list[list[int]] = [[]] * num_emitted
        if self.filler_top_k > 1:
            k = min(self.filler_top_k, target_logits.shape[-1])
            likeliest = target_logits[:num_emitted].topk(k).indices.tolist()  # [emitted, k]
        first = len(tokens) - num_emitted
        for position, fillers in zip(range(first, len(tokens)), likeliest, strict=True):
            context = tokens[max(0, position - window) : position]
            for token in (tokens[position], *fillers):
                self.storage.update(context, token)
