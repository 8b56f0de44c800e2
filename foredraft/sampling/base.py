"""Sampler: logits → exactly the distribution that tokens are drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from foredraft.choices import Choices, Dense, OneHot
from foredraft.logits import likeliest
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

    def choices(self, logits: Tensor) -> Choices:
        """Return what is drawn from, of logits `[rows, vocab]`: a row each."""
        return OneHot(likeliest(logits)) if self.is_greedy else Dense(self.probs(logits))

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token has all the mass in every distribution."""
        return False


SAMPLERS: Registry[Sampler] = Registry("sampler")


def as_float(logits: Tensor) -> Tensor:
    """Return half-precision logits as float32; wider ones as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
