"""Exact match: draw the target's own token at each position, keep the draft while it equals it.

Derived in `docs/en/02b-proofs.md#exact-match-and-its-coupled-form`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from foredraft.choices import Acceptance, Choices, Dense, Foresight, OneHot, Randomness
from foredraft.core import Draft, Verdict
from foredraft.verification.base import VERIFIERS, Verifier, decides_on_device, judged_at_once


@VERIFIERS.register("exact_match")
@dataclass(frozen=True)
class ExactMatchVerifier(Verifier):
    """Right for every drafter and sampler: what is emitted is always the target's own draw.

    The token that differs is emitted, never thrown away and drawn again: a second draw would be
    conditioned on the first and biased.
    """

    acceptance = Acceptance.EXACT_MATCH

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        if isinstance(target, Dense) and decides_on_device(rng, target.probs):
            return self.judge_ahead(draft, target.probs, rng, position)
        if (verdict := judged_at_once(self, draft, target, rng)) is not None:
            return verdict
        for i, drafted in enumerate(draft.tokens):
            token = target.draw(i, rng, position + i)
            if token != drafted:
                return Verdict(i, token)
        end = len(draft.tokens)
        return Verdict(end, target.draw(end, rng, position + end))

    def judge_ahead(
        self, draft: Draft, target_probs: Tensor, rng: Foresight, position: int
    ) -> Verdict:
        """Decide as `judge` does, with one copy to the host."""
        drawn = OneHot(rng.categorical_ahead(target_probs, position).tolist())
        verdict = ExactMatchVerifier.judge(self, draft, drawn, rng, position)
        rng.use(verdict.num_accepted + 1)  # what follows the first difference is not drawn
        return verdict
