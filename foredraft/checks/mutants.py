"""Verifiers with one deliberate mistake each, seen in real code. Nothing decodes with them.

They show that the tests, and `foredraft verify --mutant NAME`, would notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from foredraft.choices import Choices, Decisive, Dense, OneHot, Randomness
from foredraft.core import Draft, Verdict
from foredraft.registry import Registry
from foredraft.verification.base import Verifier
from foredraft.verification.block import BlockVerifier
from foredraft.verification.exact_match import ExactMatchVerifier
from foredraft.verification.rejection import RejectionVerifier

MUTANTS: Registry[Verifier] = Registry("mutant")
DISLIKED = 0.4  # draft probability below which `discard` throws a drawn token away
T = TypeVar("T", bound=type[Verifier])


def _mutant(name: str) -> Callable[[T], T]:
    def add(cls: T) -> T:
        cls.is_lossless = False
        MUTANTS.register(name)(dataclass(frozen=True)(cls))
        return cls

    return add


@_mutant("redraw")
class Redraw(ExactMatchVerifier):
    """Throws the token that differs away and draws again: the draft's token comes too often."""

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        kept = super().judge(draft, target, rng, position).num_accepted
        return Verdict(kept, target.draw(kept, rng, position + kept))


@_mutant("discard")
class Discard(RejectionVerifier):
    """Discards a drawn token, and what follows it, for its own low probability."""

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        if isinstance(draft.choices, Dense):
            chances = draft.choices.probabilities(draft.tokens)
            end = next((i for i, q in enumerate(chances) if q < DISLIKED), len(chances))
            draft = Draft(draft.tokens[:end], Dense(draft.choices.probs[:end]))
        return super().judge(draft, target, rng, position)


@_mutant("break_block")
class BreakBlock(BlockVerifier):
    """Ends block verification at the first prefix that fails, as token rejection does."""

    def _longest_pass(self, passes: list[float], rng: Randomness) -> int:
        return next((i for i, h in enumerate(passes) if not rng.accepts(h)), len(passes))


@_mutant("soft_one_hot")
class SoftOneHot(RejectionVerifier):
    """Judges a draft that was not drawn as if it had been drawn from soft probabilities."""

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        is_counted = isinstance(draft.choices, OneHot)
        if is_counted and isinstance(target, Dense | Decisive) and draft.tokens:
            one_hot = draft.choices.dense(target.probs)
            draft = Draft(draft.tokens, Dense(0.5 * one_hot + 0.5 / one_hot.shape[-1]))
        return super().judge(draft, target, rng, position)


@_mutant("wrong_q")
class WrongQ(RejectionVerifier):
    """Judges by a sharper distribution than the one the draft was drawn from."""

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        if isinstance(draft.choices, Dense):
            squared = draft.choices.probs**2
            draft = Draft(draft.tokens, Dense(squared / squared.sum(-1, keepdim=True)))
        return super().judge(draft, target, rng, position)


@_mutant("wrong_bonus_row")
class WrongBonusRow(RejectionVerifier):
    """Draws the bonus token from the distribution before the last draft token, not after it."""

    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        verdict = super().judge(draft, target, rng, position)
        kept = verdict.num_accepted
        if kept == 0 or kept < len(draft.tokens):
            return verdict
        return Verdict(kept, target.draw(kept - 1, rng, position + kept))


@_mutant("unscaled_residual")
class UnscaledResidual(BlockVerifier):
    """Block verification with the residual max(0, p − q), its p not scaled by the prefix weight."""

    def _residual(self, weight: float, target: Choices, draft: Choices, row: int) -> Choices:
        return super()._residual(1.0, target, draft, row)
