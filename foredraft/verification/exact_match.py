"""Exact match: draw the target's own token at each position, keep the draft while it equals it.

Derived in `docs/en/02-speculative-theory.md#exact-match-and-its-coupled-form`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foredraft.core import Draft, Verdict
from foredraft.verification.base import (
    VERIFIERS,
    Foresight,
    Randomness,
    Verifier,
    decides_on_device,
)


@VERIFIERS.register("exact_match")
@dataclass(frozen=True)
class ExactMatchVerifier(Verifier):
    """Right for every drafter and sampler: what is emitted is always the target's own draw.

    The token that differs is emitted, never thrown away and drawn again: a second draw would be
    conditioned on the first and biased.
    """

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        if decides_on_device(rng, target_probs):
            return self.judge_ahead(draft, target_probs, rng, position)
        for i, drafted in enumerate(draft.tokens):
            token = rng.categorical(target_probs[i], position + i)
            if token != drafted:
                return Verdict(i, token)
        end = len(draft.tokens)
        return Verdict(end, rng.categorical(target_probs[end], position + end))

    def judge_ahead(
        self, draft: Draft, target_probs: Tensor, rng: Foresight, position: int
    ) -> Verdict:
        """Decide as `judge` does, with one copy to the host."""
        choices: list[int] = rng.categorical_ahead(target_probs, position).tolist()
        verdict = self.judge_greedy(draft, choices, rng, position)
        rng.use(verdict.num_accepted + 1)  # what follows the first difference is not drawn
        return verdict
