"""Exact match: draw the target's own token at each position, keep the draft while it equals it.

Derived in `docs/en/02-speculative-theory.md#exact-match-and-its-coupled-form`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from specdec.core import Draft, Verdict
from specdec.verification.base import VERIFIERS, Randomness, Verifier


@VERIFIERS.register("exact_match")
@dataclass(frozen=True)
class ExactMatchVerifier(Verifier):
    """Right for every drafter and sampler: what is emitted is always the target's own draw.

    The token that differs is emitted, never thrown away and drawn again: a second draw would be
    conditioned on the first and biased.
    """

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        for i, drafted in enumerate(draft.tokens):
            token = rng.categorical(target_probs[i], position + i)
            if token != drafted:
                return Verdict(i, token)
        end = len(draft.tokens)
        return Verdict(end, rng.categorical(target_probs[end], position + end))
