"""Token rejection: the rule of speculative sampling, with and without the residual.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023, algorithm
1; Chen et al., "Accelerating LLM Decoding with Speculative Sampling", 2023.

Derived in `docs/en/02-speculative-theory.md#token-rejection`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft.choices import Acceptance, Choices, Dense, Foresight, Randomness
from foredraft.core import Draft, Verdict
from foredraft.verification.base import VERIFIERS, Verifier, decides_on_device, judged_at_once


@VERIFIERS.register("rejection")
@dataclass(frozen=True)
class RejectionVerifier(Verifier):
    """Accept x_i with probability min(1, p(x_i) / q(x_i)).

    After the first rejection draw from the residual norm(max(0, p − q)); when all stay, draw a
    bonus token from p. A token that was not drawn stays with probability p(x_i).
    """

    accepts_overlap = True
    acceptance = Acceptance.REJECTION

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        if draft.tokens and isinstance(target, Dense) and decides_on_device(rng, target.probs):
            return self.judge_ahead(draft, target.probs, rng, position)
        if (verdict := judged_at_once(self, draft, target, rng)) is not None:
            return verdict
        kept = _count_accepted(draft, target, rng)
        if kept == len(draft.tokens):
            return Verdict(kept, target.draw(kept, rng, position + kept))
        after = self._after_rejection(target, draft.choices, kept)
        return Verdict(kept, after.draw(0, rng, position + kept))

    def judge_ahead(
        self, draft: Draft, target_probs: Tensor, rng: Foresight, position: int
    ) -> Verdict:
        """Decide as `judge` does, with one copy to the host; of a draft of one token or more."""
        gamma, device = len(draft.tokens), target_probs.device
        draft_probs = draft.choices.dense(target_probs)  # [drafted, vocab]
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

    def _after_rejection(self, target: Choices, draft: Choices, row: int) -> Choices:
        """Return what to draw from where the token of a row was rejected, one row."""
        return target.residual(row, draft)

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
    acceptance = Acceptance.REJECTION_WITHOUT_RESIDUAL

    def _after_rejection(self, target: Choices, draft: Choices, row: int) -> Choices:
        return target.row(row)

    def _after_rejection_on_device(self, target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        return target_probs


def _count_accepted(draft: Draft, target: Choices, rng: Randomness) -> int:
    p, q = (choices.probabilities(draft.tokens) for choices in (target, draft.choices))
    for i, (p_i, q_i) in enumerate(zip(p, q, strict=True)):
        if not rng.accepts(1.0 if p_i >= q_i else p_i / q_i):
            return i
    return len(draft.tokens)
