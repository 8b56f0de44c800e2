"""Verifier: a draft and the target's distributions → how many tokens stay, and the next one.

Pure tensor mathematics: no model, no cache, no text. All randomness comes through `rng`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from foredraft.core import Draft, Verdict
from foredraft.ranges import Checked
from foredraft.registry import Registry


class Randomness(Protocol):
    """The two random decisions a verifier may take; see `sampling.rng.Rng`."""

    def accepts(self, probability: float) -> bool:
        """Return True with the given probability."""

    def categorical(self, probs: Tensor, position: int) -> int:
        """Draw the token at a position of the sequence from unnormalised `probs`, `[vocab]`."""


class Foresight(Randomness, Protocol):
    """Randomness that can decide on a device, without a question to the host.

    Attributes:
        foresees: whether it can.
    """

    foresees: bool

    def ahead(self, count: int) -> list[float]:
        """Return the next uniform numbers without using them up."""

    def use(self, count: int) -> None:
        """Use up `count` of the numbers looked at."""

    def categorical_ahead(self, probs: Tensor, position: int) -> Tensor:
        """Draw a token from each row of `[rows, vocab]`, at successive positions, `[rows]`."""

    def pick(self, weights: Tensor, uniforms: Tensor) -> Tensor:
        """Return the token of each row of `[rows, vocab]` at each uniform number, `[rows]`."""


def decides_on_device(rng: Randomness, probs: Tensor) -> TypeGuard[Foresight]:
    """Whether answers on the host would cost a wait, and can be done without."""
    return probs.is_cuda and getattr(rng, "foresees", False)


class Verifier(Checked, ABC):
    """The accept/reject rule; stateless.

    Attributes:
        is_lossless: whether the output distribution is the target's.
        is_coupled: whether all draws at one position must share their noise (`KeyedRng`); every
            other rule needs independent ones.
        accepts_overlap: whether a token drawn from q is kept with probability Σ min(p, q), given
            that those before it are; what a policy may learn from it is then that number.
    """

    is_lossless: bool = True
    is_coupled: bool = False
    accepts_overlap: bool = False

    @abstractmethod
    def judge(self, draft: Draft, target_probs: Tensor, rng: Randomness, position: int) -> Verdict:
        """Decide what stays.

        Args:
            draft: the proposed tokens and the distributions they were drawn from.
            target_probs: what the target would draw from after each prefix of the draft, shape
                `[drafted + 1, vocab]`; the last row follows the whole draft.
            rng: source of decisions.
            position: index in the sequence of the draft's first token.

        Returns:
            The length of the kept prefix and the token after it. With a lossless verifier the
            emitted tokens are distributed exactly as if drawn from the target one by one.
        """

    def judge_greedy(
        self, draft: Draft, choices: list[int], rng: Randomness, position: int
    ) -> Verdict:
        """Decide as `judge` does where the target has one choice at each position.

        With one-hot target distributions every ratio is 0 or 1 or more and every residual is the
        target's choice, so that nothing is left to chance, whatever the rule.

        Args:
            draft: as for `judge`.
            choices: the target's token after each prefix of the draft, `drafted + 1` of them.
            rng: not asked.
            position: as for `judge`.
        """
        pairs = zip(draft.tokens, choices, strict=False)
        kept = next((i for i, (a, b) in enumerate(pairs) if a != b), len(draft.tokens))
        return Verdict(kept, choices[kept])


VERIFIERS: Registry[Verifier] = Registry("verifier")


def residual_distribution(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    """Return max(0, target − draft), normalised; shape `[vocab]`.

    Leviathan et al. (2023), algorithm 1. Where the difference vanishes (p = q, or rounding) a
    rejection has probability zero and the target's own distribution is returned.
    """
    residual = (target_probs - draft_probs).clamp_(min=0)
    total = residual.sum()
    return residual / total if total > 0 else target_probs


def draft_distributions(draft: Draft, target_probs: Tensor) -> Tensor:
    """Return what the draft was drawn from, shape `[drafted, vocab]`, on the target's device.

    A draft without probabilities was not drawn: its distributions are one-hot.
    """
    if draft.probs is not None:
        return draft.probs.to(target_probs)
    index = torch.tensor(draft.tokens, device=target_probs.device)[:, None]  # [drafted, 1]
    return torch.zeros_like(target_probs[: len(draft.tokens)]).scatter_(1, index, 1.0)


def probs_of_drafted(probs: Tensor, tokens: list[int]) -> list[float]:
    """Return the probability of each drafted token, with one copy to the host.

    Args:
        probs: shape `[≥ drafted, vocab]`.
        tokens: `drafted` ids.
    """
    index = torch.tensor(tokens, device=probs.device)[:, None]  # [drafted, 1]
    values: list[float] = probs[: len(tokens)].gather(1, index)[:, 0].tolist()
    return values
