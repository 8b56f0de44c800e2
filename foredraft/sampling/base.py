"""Sampler: logits → exactly the distribution that tokens are drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from foredraft.choices import Choices, Dense, OneHot
from foredraft.logits import likeliest, num_decided
from foredraft.ranges import Checked
from foredraft.registry import Registry


class Sampler(Checked, ABC):
    """Turns logits into the distribution that is drawn from; holds no state.

    Filters come first, temperature last: top-k, then nucleus on what is left, then
    softmax(logits / temperature). So `temperature` never changes which tokens survive.
    """

    @abstractmethod
    def probs(self, logits: Tensor) -> Tensor:
        """Return the distribution.

        Args:
            logits: shape `[..., vocab]`; not edited.

        Returns:
            Probabilities, shape `[..., vocab]`, float32 (float64 stays float64).
        """

    def choices(self, logits: Tensor) -> tuple[Choices, int]:
        """Return what is drawn from, of logits `[rows, vocab]`: a row each.

        Returns:
            The choices, and how many rows come before the first whose logits decide nothing, since
            the largest is no number; what stands for that row and those behind it means nothing.
        """
        if self.is_greedy:
            tokens, decided = likeliest(logits)
            return OneHot(tokens), decided
        decided, rows = num_decided(logits), logits.shape[0]
        if decided < rows:
            logits = torch.cat((logits[:decided], torch.zeros_like(logits[decided:])))
        return Dense(self.probs(logits)), decided

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token has all the mass in every distribution."""
        return False


SAMPLERS: Registry[Sampler] = Registry("sampler")


def as_float(logits: Tensor) -> Tensor:
    """Return half-precision logits as float32; wider ones as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
