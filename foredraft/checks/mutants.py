"""Verifiers with one deliberate mistake each, seen in real code. Nothing decodes with them.

They show that the tests, and `foredraft verify --mutant NAME`, would notice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft.core import Draft, Verdict
from foredraft.registry import Registry
from foredraft.verification.base import Randomness, Verifier
from foredraft.verification.block import BlockVerifier
from foredraft.verification.exact_match import ExactMatchVerifier
from foredraft.verification.rejection import RejectionVerifier

MUTANTS: Registry[Verifier] = Registry("mutant")
DISLIKED = 0.4  # draft probability below which `discard` throws a drawn token away


class Mistaken(Verifier):
    """Makes its mistake under greedy sampling as well, where right rules take a shorter way."""

    def judge_greedy(
        self, draft: Draft, choices: list[int], rng: Randomness, position: int
    ) -> Verdict:
        one_hot = torch.zeros(len(choices), max([*choices, *draft.tokens]) + 1)
        one_hot.scatter_(1, torch.tensor(choices)[:, None], 1.0)  # [drafted + 1, vocab]
        return self.judge(draft, one_hot, rng, position)


@MUTANTS.register("redraw")
@dataclass(frozen=True)
class Redraw(Mistaken, ExactMatchVerifier):
    """Throws the token that differs away and draws again: the draft's token comes too often."""

    is_lossless = False

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        kept = super().judge(draft, target_probs, rng, position).num_accepted
        return Verdict(kept, rng.categorical(target_probs[kept], position + kept))


@MUTANTS.register("discard")
@dataclass(frozen=True)
class Discard(Mistaken, RejectionVerifier):
    """Discards a drawn token, and what follows it, for its own low probability."""

    is_lossless = False

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        if draft.probs is not None:
            chances = [float(row[t]) for row, t in zip(draft.probs, draft.tokens, strict=True)]
            end = next((i for i, q in enumerate(chances) if q < DISLIKED), len(chances))
            draft = Draft(draft.tokens[:end], draft.probs[:end])
        rows = target_probs[: len(draft.tokens) + 1]
        return super().judge(draft, rows, rng, position)


@MUTANTS.register("break_block")
@dataclass(frozen=True)
class BreakBlock(Mistaken, BlockVerifier):
    """Ends block verification at the first prefix that fails, as token rejection does."""

    is_lossless = False

    def _longest_pass(self, passes: list[float], rng: Randomness) -> int:
        return next((i for i, h in enumerate(passes) if not rng.accepts(h)), len(passes))


@MUTANTS.register("soft_one_hot")
@dataclass(frozen=True)
class SoftOneHot(Mistaken, RejectionVerifier):
    """Judges a draft that was not drawn as if it had been drawn from soft probabilities."""

    is_lossless = False

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        if draft.probs is None and draft.tokens:
            index = torch.tensor(draft.tokens, device=target_probs.device)[:, None]
            soft = torch.full_like(target_probs[:-1], 0.5 / target_probs.shape[-1])
            draft = Draft(draft.tokens, soft.scatter_(1, index, 0.5))
        return super().judge(draft, target_probs, rng, position)


@MUTANTS.register("wrong_q")
@dataclass(frozen=True)
class WrongQ(Mistaken, RejectionVerifier):
    """Judges by a sharper distribution than the one the draft was drawn from."""

    is_lossless = False

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        if draft.probs is not None:
            squared = draft.probs**2
            draft = Draft(draft.tokens, squared / squared.sum(-1, keepdim=True))
        return super().judge(draft, target_probs, rng, position)


@MUTANTS.register("wrong_bonus_row")
@dataclass(frozen=True)
class WrongBonusRow(Mistaken, RejectionVerifier):
    """Draws the bonus token from the distribution before the last draft token, not after it."""

    is_lossless = False

    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        shifted = target_probs.clone()
        shifted[-1] = target_probs[max(0, len(draft.tokens) - 1)]
        return super().judge(draft, shifted, rng, position)


@MUTANTS.register("unscaled_residual")
@dataclass(frozen=True)
class UnscaledResidual(Mistaken, BlockVerifier):
    """Block verification with the residual max(0, p − q), its p not scaled by the prefix weight."""

    is_lossless = False

    def _residual(self, weight: float, target_probs: Tensor, draft_probs: Tensor) -> Tensor:
        return super()._residual(1.0, target_probs, draft_probs)
