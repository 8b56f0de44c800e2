"""Randomness: the only two random decisions in the house, and two seeded sources of them.

Every draw goes through `categorical`, every accept/reject through `accepts`. A test can therefore
replace the source by one that enumerates all outcomes with their probabilities.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from specdec.errors import ConfigError, quoted

NOISE_KEPT = 32  # positions; a longer draft has its noise made twice
SMALLEST = np.finfo(np.float64).tiny


class Rng:
    """A seeded source of decisions; independent of device, dtype and torch's global state.

    Args:
        seed: any integer.
    """

    is_keyed: bool = False  # whether two draws at one position share their randomness

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # random.Random takes the size of an integer: −5 and 5 would be one seed.
        self._random = random.Random(seed if seed >= 0 else str(seed))

    def accepts(self, probability: float) -> bool:
        """Return True with the given probability; 0 never, 1 always."""
        return self._random.random() < probability

    def categorical(self, probs: Tensor, position: int) -> int:
        """Draw the token at `position` of the sequence.

        Inverse transform in float64: a float32 sum over a large vocabulary would bias the tail. An
        entry of probability zero is never drawn.

        Args:
            probs: shape `[vocab]`, non-negative, of any positive sum.
            position: index in the sequence, prompt included; plays no part here.
        """
        cumulative = probs.double().cumsum(0)  # [vocab]
        point = self._random.random() * cumulative[-1]
        # The first entry whose cumulative mass exceeds the point has mass of its own.
        index = int(torch.searchsorted(cumulative, point, right=True))
        return (
            index if index < len(probs) else int(probs.nonzero()[-1])
        )  # point rounded up to the sum


class KeyedRng(Rng):
    """Gumbel-max draws whose noise is keyed by seed and absolute position.

    Two draws at one position share their noise, so similar distributions mostly give the same
    token (Daliri, Musco and Suresh, "Coupling without Communication and Drafter-Invariant
    Speculative Decoding", 2024). With exponential e_x the draw is argmax p_x / e_x, which is
    argmax log p_x + g_x with Gumbel noise g = −ln e.

    Args:
        seed: any integer.
    """

    is_keyed = True

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        entropy = (int(seed < 0), abs(seed))
        self._key = np.random.SeedSequence(entropy).generate_state(2, np.uint64)
        self._kept: dict[tuple[int, int, torch.device], Tensor] = {}

    def categorical(self, probs: Tensor, position: int) -> int:
        noise = self._noise(position, len(probs), probs.device)  # [vocab]
        return int((probs.double() / noise).argmax())

    def _noise(self, position: int, vocab: int, device: torch.device) -> Tensor:
        """Return exponential noise; the first entries do not depend on how many there are."""
        key = (position, vocab, device)
        if key not in self._kept:
            bits = np.random.Philox(key=self._key, counter=[0, position, 0, 0])
            noise = np.random.Generator(bits).standard_exponential(vocab)
            # 0/0 is no number
            self._kept[key] = torch.from_numpy(np.maximum(noise, SMALLEST)).to(device)
            if len(self._kept) > NOISE_KEPT:
                del self._kept[next(iter(self._kept))]  # the oldest
        return self._kept[key]


def rng_for(seed: int, *, keyed: bool) -> Rng:
    """Return the source of randomness for a seed; `keyed` is what a coupled verifier asks for.

    Raises:
        ConfigError: the seed is no whole number.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"seed must be a whole number, not {quoted(seed)}")
    return KeyedRng(seed) if keyed else Rng(seed)
