"""Verifier: a draft and the target's distributions → how many tokens stay, and the next one.

Pure tensor mathematics: no model, no cache, no text. All randomness comes through `rng`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from specdec.core import Draft, Verdict
from specdec.registry import Registry


class Randomness(Protocol):
    """The two random decisions a verifier may take; see `sampling.rng.Rng`."""

    def accepts(self, probability: float) -> bool:
        """Return True with the given probability."""

    def categorical(self, probs: Tensor) -> int:
        """Draw an index from unnormalised `probs`, shape `[vocab]`."""


class Verifier(ABC):
    """The accept/reject rule; stateless."""

    is_lossless: bool = True

    @abstractmethod
    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness) -> Verdict:
        """Decide what stays.

        Args:
            draft: the proposed tokens and the distributions they were drawn from.
            target_probs: what the target would draw from after each prefix of the draft, shape
                `[drafted + 1, vocab]`; the last row follows the whole draft.
            rng: source of decisions.

        Returns:
            The length of the kept prefix and the token after it. With a lossless verifier the
            emitted tokens are distributed exactly as if drawn from the target one by one.
        """


VERIFIERS: Registry[Verifier] = Registry("verifier")


def residual_distribution(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    """Return max(0, target − draft), normalised; shape `[vocab]`.

    Leviathan et al. (2023), algorithm 1. Where the difference vanishes (p = q, or rounding) a
    rejection has probability zero and the target's own distribution is returned.
    """
    residual = (target_probs - draft_probs).clamp_(min=0)
    total = residual.sum()
    return residual / total if total > 0 else target_probs


def draft_probs_like(draft: Draft, target_probs: Tensor) -> Tensor | None:
    """Return the draft's distributions on the target's device and dtype; None means one-hot."""
    return None if draft.probs is None else draft.probs.to(target_probs)


def probs_of_drafted(probs: Tensor, tokens: list[int]) -> list[float]:
    """Return the probability of each drafted token, with one copy to the host.

    Args:
        probs: shape `[≥ drafted, vocab]`.
        tokens: `drafted` ids.
    """
    index = torch.tensor(tokens, device=probs.device)[:, None]  # [drafted, 1]
    values: list[float] = probs[: len(tokens)].gather(1, index)[:, 0].tolist()
    return values
