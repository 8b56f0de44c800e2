"""Block verification: the draft is judged as a whole, and kept as far as the whole allows.

Sun et al., "Block Verification Accelerates Speculative Decoding", ICLR 2025, algorithm 2. Never
fewer accepted tokens in expectation than token by token; equal for gamma 1 and for one-hot drafts.

Derived in `docs/en/02b-proofs.md#block-verification`.
"""

from __future__ import annotations

from dataclasses import dataclass

from foredraft.choices import Acceptance, Choices, Randomness
from foredraft.core import Draft, Verdict
from foredraft.verification.base import VERIFIERS, Verifier, judged_at_once


@VERIFIERS.register("block")
@dataclass(frozen=True)
class BlockVerifier(Verifier):
    """Keep the longest prefix that passes its own test, even if a shorter one fails.

    With p_0 = 1 and p_i = min(1, p_{i−1} · p(x_i) / q(x_i)), prefix i passes with probability
    h_i = Z_i / (Z_i + 1 − p_i), where Z_i = Σ_x max(0, p_i · p(x | x_≤i) − q(x | x_≤i)), and
    h_γ = p_γ. After prefix τ < γ the next token comes from norm(max(0, p_τ · p − q)), after the
    whole draft from p.
    """

    accepts_overlap = True
    acceptance = Acceptance.BLOCK

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        if (verdict := judged_at_once(self, draft, target, rng)) is not None:
            return verdict
        gamma = len(draft.tokens)
        if gamma == 0:
            return Verdict(0, target.draw(0, rng, position))
        weights = prefix_weights(draft, target)
        kept = self._longest_pass(pass_probabilities(weights, target, draft.choices), rng)
        if kept == gamma:
            return Verdict(kept, target.draw(kept, rng, position + kept))
        after = self._residual(weights[kept], target, draft.choices, kept)
        return Verdict(kept, after.draw(0, rng, position + kept))

    def _longest_pass(self, passes: list[float], rng: Randomness) -> int:
        # From the longest down: the first to pass is the last of all that would.
        return next((i for i in range(len(passes), 0, -1) if rng.accepts(passes[i - 1])), 0)

    def _residual(self, weight: float, target: Choices, draft: Choices, row: int) -> Choices:
        return target.residual(row, draft, weight)


def prefix_weights(draft: Draft, target: Choices) -> list[float]:
    """Return p_0 … p_γ, `drafted + 1` numbers in [0, 1]."""
    weights = [1.0]
    p, q = (choices.probabilities(draft.tokens) for choices in (target, draft.choices))
    for p_i, q_i in zip(p, q, strict=True):
        joint = weights[-1] * p_i
        weights.append(1.0 if joint >= q_i else joint / q_i)
    return weights


def pass_probabilities(weights: list[float], target: Choices, draft: Choices) -> list[float]:
    """Return h_1 … h_γ."""
    inner = range(1, len(draft))
    passes = []
    for z, weight in zip(target.surpluses(inner, draft, weights[1:-1]), weights[1:-1], strict=True):
        lack = 1 - weight
        passes.append(z / (z + lack) if z + lack > 0 else 1.0)
    return [*passes, weights[-1]]
