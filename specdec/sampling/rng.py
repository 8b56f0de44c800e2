"""Randomness: the only two random decisions in the house, and a seeded source of them.

Every draw goes through `categorical`, every accept/reject through `accepts`. A test can therefore
replace the source by one that enumerates all outcomes with their probabilities.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor


class Rng:
    """A seeded source of decisions; independent of device, dtype and torch's global state.

    Args:
        seed: any integer.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)

    def accepts(self, probability: float) -> bool:
        """Return True with the given probability; 0 never, 1 always."""
        return self._random.random() < probability

    def categorical(self, probs: Tensor) -> int:
        """Draw an index from `probs`, shape `[vocab]`, non-negative, of any positive sum.

        Inverse transform in float64: a float32 sum over a large vocabulary would bias the tail. An
        entry of probability zero is never drawn.
        """
        cumulative = probs.double().cumsum(0)  # [vocab]
        point = self._random.random() * cumulative[-1]
        # The first entry whose cumulative mass exceeds the point has mass of its own.
        index = int(torch.searchsorted(cumulative, point, right=True))
        return (
            index if index < len(probs) else int(probs.nonzero()[-1])
        )  # point rounded up to the sum

    def below(self, n: int) -> int:
        """Draw an integer in `[0, n)`, uniformly."""
        return self._random.randrange(n)
