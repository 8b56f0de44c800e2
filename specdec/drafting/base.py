"""Drafter: proposes tokens for the target to check."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from specdec.core import Draft, Prompt
from specdec.gamma.base import GammaPolicy
from specdec.sampling.rng import Rng


class Drafter(ABC):
    """Whatever proposes: a small model, n-gram counts, anything else.

    A drafter never sees how tokens are verified, and the loop never sees how they are found.
    """

    @abstractmethod
    def start(self, prompt: Prompt, rng: Rng) -> None:
        """Begin a generation.

        Args:
            prompt: what the target was started with: the tokens the sequence begins with, or what
                its encoder reads.
            rng: the generation's source of randomness, shared with verification.
        """

    @abstractmethod
    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        """Return at most `gamma` tokens that may follow `tokens`; none is a legal answer.

        Args:
            tokens: everything so far, what the sequence began with and its output; not edited.
            gamma: the most tokens wanted, ≥ 0.
            policy: asked before and after each token by drafters that have logits.
        """

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        """Learn from a finished step.

        Args:
            tokens: everything so far, the emitted tokens at its end.
            num_emitted: how many those are, ≥ 1.
            target_logits: the target's, shape `[≥ num_emitted, vocab]`; row i predicted emitted
                token i.
        """
