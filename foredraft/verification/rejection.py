"""Token rejection: the rule of speculative sampling, with and without the residual.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023, algorithm
1; Chen et al., "Accelerating LLM Decoding with Speculative Sampling", 2023.

Derived in `docs/en/02-speculative-theory.md#token-rejection`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft.core import Draft, Verdict
from foredraft.verification.base import (
    VERIFIERS,
    Foresight,
    Randomness,
    Verifier,
    decides_on_device,
    draft_distributions,
    probs_of_drafted,
    residual_distribution,
)


@VERIFIERS.register("rejection")
@dataclass(frozen=True)
class RejectionVerifier(Verifier):
    """Accept x_i with probability min(1, p(x_i) / q(x_i)).

    After the first rejection draw from the residual norm(max(0, p − q)); when all stay, draw a
    bonus token from p. A draft without probabilities is one-hot: x_i stays with probability p(x_i).
    """

    accepts_overlap = True

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        if not draft.tokens:
            return Verdict(0, rng.categorical(target_probs[0], position))
        if decides_on_device(rng, target_probs):
            return self.judge_ahead(draft, target_probs, rng, position)
        draft_probs = draft_distributions(draft, target_probs)  # [drafted, vocab]
        kept = _count_accepted(draft, target_probs, draft_probs, rng)
        next_probs = target_probs[kept]  # [vocab]
        if kept < len(draft.tokens):
            next_probs = self._after_rejection(next_probs, draft_probs[kept])
        return Verdict(kept, rng.categorical(next_probs, position + kept))

    def judge_ahead(
        self, draft: Draft, target_probs: Tensor, rng: Foresight, position: int
    ) -> Verdict:
        """Decide as `judge` does, with one copy to the host; of a draft of one token or more."""
        gamma, device = len(draft.tokens), target_probs.device
        draft_probs = draft_distributions(draft, target_probs)  # [drafted, vocab]
        uniforms = torch.tensor(rng.ahead(gamma + 1), dtype=torch.float64).to(device)
        drafted = torch.tensor(draft.tokens).to(device)[:, None]  # [drafted, 1]
        p, q = target_probs[:-1].gather(1, drafted), draft_probs.gather(1, drafted)
        chances = torch.where(p >= q, 1.0, p.double() / q.double())[:, 0]  # [drafted]
        kept = (uniforms[:-1] < chances).cumprod(0).sum(0, keepdim=True)  # [1]
        row = target_probs.index_select(0, kept)  # [1, vocab]
        last = kept.clamp(max=gamma - 1)
        after = self._after_rejection_on_device(row, draft_probs.index_select(0, last))
        weights = torch.where(kept < gamma, after, row)
        token = rng.pick(weights, uniforms.gather(0, (kept + 1).clamp(max=gamma)))
        num_accepted, next_token = torch.cat((kept, token)).tolist()
        rng.use(min(num_accepted + 1, gamma) + 1)
        return Verdict(num_accepted, next_token)

    def _after_rejection(self, target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        return residual_distribution(target_probs, draft_probs)

    def _after_rejection_on_device(self, target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        residual = (target_probs - draft_probs).clamp_(min=0)
        total = residual.sum()
        return torch.where(total > 0, residual / total, target_probs)


@VERIFIERS.register("rejection_without_residual")
@dataclass(frozen=True)
class RejectionWithoutResidual(RejectionVerifier):
    """Lossy (`skip_sample_adjustment`): after a rejection draw from p, not from the residual.

    Tokens the drafter favours come out too often. It exists to show what the residual is for.
    """

    is_lossless = False

    def _after_rejection(self, target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        return target_probs

    def _after_rejection_on_device(self, target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        return target_probs


def _count_accepted(
    draft: Draft, target_probs: Tensor, draft_probs: Tensor, rng: Randomness
) -> int:
    p = probs_of_drafted(target_probs, draft.tokens)
    q = probs_of_drafted(draft_probs, draft.tokens)
    for i, (p_i, q_i) in enumerate(zip(p, q, strict=True)):
        if not rng.accepts(1.0 if p_i >= q_i else p_i / q_i):
            return i
    return len(draft.tokens)
