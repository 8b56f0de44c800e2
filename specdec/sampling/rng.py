"""Randomness: the only two random decisions in the house, and two seeded sources of them.

Every draw goes through `categorical`, every accept/reject through `accepts`. A test can therefore
replace the source by one that enumerates all outcomes with their probabilities.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from specdec.errors import ConfigError, quoted

NOISE_KEPT = 32  # positions; a longer draft has its noise made twice
SMALLEST = np.finfo(np.float32).tiny
BLOCK = 256  # entries of a distribution that are summed together


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
        """Draw the token at `position` of the sequence; an entry of probability zero never comes.

        Args:
            probs: shape `[vocab]`, non-negative, of any positive sum.
            position: index in the sequence, prompt included; plays no part here.
        """
        return inverse_transform(probs, self._random.random())


def inverse_transform(weights: Tensor, uniform: float) -> int:
    """Return the first index whose cumulative share of the sum exceeds `uniform`.

    First a block is picked by its sum, then an entry of the block: a running sum in float32 over a
    large vocabulary would swallow the tail, and one in float64 is slow on many a GPU.

    Args:
        weights: shape `[vocab]`, non-negative, of any positive sum.
        uniform: in [0, 1).
    """
    blocks = F.pad(weights, (0, -len(weights) % BLOCK)).view(-1, BLOCK)  # [blocks, BLOCK]
    which, rest = _pick(blocks.sum(-1).tolist(), uniform)
    return which * BLOCK + _pick(blocks[which].tolist(), rest)[0]


def _pick(weights: list[float], uniform: float) -> tuple[int, float]:
    """Return the index picked, and what is left of the number: uniform in [0, 1) again."""
    ends = list(accumulate(weights))
    point = uniform * ends[-1]
    index = bisect_right(ends, point)  # the first that exceeds the point has weight of its own
    if index == len(ends):  # the point was rounded up to the sum
        index = max(i for i, weight in enumerate(weights) if weight > 0)
    rest = (point - (ends[index] - weights[index])) / weights[index]
    return index, min(max(rest, 0.0), 1 - 2**-53)


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
        return int((probs / noise.to(probs.dtype)).argmax())

    def _noise(self, position: int, vocab: int, device: torch.device) -> Tensor:
        """Return exponential noise; the first entries do not depend on how many there are."""
        key = (position, vocab, device)
        if key not in self._kept:
            bits = np.random.Philox(key=self._key, counter=[0, position, 0, 0])
            noise = np.random.Generator(bits).standard_exponential(vocab)
            noise = np.maximum(noise, SMALLEST)  # 0/0 is no number
            self._kept[key] = torch.from_numpy(noise).float().to(device)
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
