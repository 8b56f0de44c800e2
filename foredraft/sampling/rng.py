"""Randomness: the only two random decisions there are, and two seeded sources of them.

Every draw goes through `categorical`, every accept/reject through `accepts`. A test can therefore
replace the source by one that enumerates all outcomes with their probabilities.

On a GPU an answer on the host costs a wait. There a verifier may look at the numbers to come, let
them decide on the device, fetch the whole verdict at once and use up as many as the questions would
have used: the same decisions, in the same order.
"""

from __future__ import annotations

import random
from collections import deque
from itertools import islice
from math import nextafter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.ranges import Seed, checked

DOUBLE = torch.float64
NOISE_KEPT = 32  # positions; a longer draft has its noise made twice
SMALLEST = np.finfo(np.float32).tiny
BLOCK = 256  # entries of a distribution that are summed together
BELOW_ONE = 1 - 2**-53
FRESH_SEEDS = 2**53  # JSON readers hold such numbers exactly


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
        self._ahead = deque[float]()  # numbers looked at and not used

    @property
    def foresees(self) -> bool:
        """Whether its numbers decide; a subclass may decide otherwise and then must be asked."""
        return type(self) in (Rng, KeyedRng)

    def ahead(self, count: int) -> list[float]:
        """Return the next `count` uniform numbers without using them up."""
        while len(self._ahead) < count:
            self._ahead.append(self._random.random())
        return list(islice(self._ahead, count))

    def use(self, count: int) -> None:
        """Use up `count` of the numbers looked at."""
        for _ in range(count):
            self._ahead.popleft()

    def _uniform(self) -> float:
        return self._ahead.popleft() if self._ahead else self._random.random()

    def accepts(self, probability: float) -> bool:
        """Return True with the given probability; 0 never, 1 always."""
        return self._uniform() < probability

    def categorical(self, probs: Tensor, position: int) -> int:
        """Draw the token at `position` of the sequence; an entry of probability zero never comes.

        Args:
            probs: shape `[vocab]`, non-negative, of any positive sum.
            position: index in the sequence, prompt included; plays no part here.
        """
        return token_at(probs, self._uniform())

    def categorical_ahead(self, probs: Tensor, position: int) -> Tensor:
        """Draw as `categorical` would at successive positions, using nothing up.

        Args:
            probs: one distribution a row, shape `[rows, vocab]`.
            position: of the first row.

        Returns:
            Tokens on the device of `probs`, shape `[rows]`; of a source that is not keyed, `use` as
            many as are taken.
        """
        uniforms = torch.tensor(self.ahead(len(probs)), dtype=DOUBLE).to(probs.device)
        return self.pick(probs, uniforms)

    @staticmethod
    def pick(weights: Tensor, uniforms: Tensor) -> Tensor:
        """Return what `inverse_transform` returns for each row, with no question to the host.

        Args:
            weights: shape `[rows, vocab]`, non-negative, each row of any positive sum.
            uniforms: float64 numbers in [0, 1), shape `[rows]`.
        """
        blocks = F.pad(weights, (0, -weights.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
        which, rest = _pick_each(blocks.sum(-1), uniforms)  # [rows]
        within = blocks.take_along_dim(which[:, None, None], 1)[:, 0]  # [rows, BLOCK]
        return which * BLOCK + _pick_each(within, rest)[0]


def token_at(probs: Tensor, uniform: float) -> int:
    """Return the token that a number in [0, 1) draws of `[vocab]`, wherever those are."""
    if probs.is_cuda:
        return int(Rng.pick(probs[None], probs.new_tensor([uniform], dtype=DOUBLE)))
    return inverse_transform(probs, uniform)


def inverse_transform(weights: Tensor, uniform: float) -> int:
    """Return the first index whose cumulative share of the sum exceeds `uniform`.

    First a block is picked by its sum, then an entry of the block: a running sum in float32 over a
    large vocabulary would swallow the tail, and one in float64 is slow on many a GPU.

    Args:
        weights: shape `[vocab]`, non-negative, of any positive sum.
        uniform: in [0, 1).
    """
    entries = weights.detach().to(DOUBLE if weights.dtype == DOUBLE else torch.float32).numpy()
    sums = np.add.reduceat(entries, range(0, len(entries), BLOCK), dtype=np.float64)
    which, rest = _pick(sums, uniform)
    begin = which * BLOCK
    return begin + _pick(entries[begin : begin + BLOCK], rest)[0]


def _pick(weights: np.ndarray[Any, Any], uniform: float) -> tuple[int, float]:
    """Return the index picked, and what is left of the number: uniform in [0, 1) again."""
    ends = weights.cumsum(dtype=np.float64)
    total = float(ends[-1])
    point = min(uniform * total, nextafter(total, 0))  # not rounded up to the sum
    index = int(ends.searchsorted(point, "right"))  # exceeds the point: has weight of its own
    weight = float(weights[index])
    rest = (point - (float(ends[index]) - weight)) / weight
    return index, min(max(rest, 0.0), BELOW_ONE)


def _pick_each(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `_pick` returns for each row of weights `[rows, few]`, `[rows]` each."""
    wide = weights.to(DOUBLE)  # a few hundred sums, not a vocabulary
    ends = wide.cumsum(-1)
    # A sum in parallel may rise by a rounding where the weight is 0: such an entry never counts.
    ends = ends.masked_fill(weights <= 0, 0)
    total = ends.amax(-1)
    point = torch.minimum(uniforms * total, total.nextafter(torch.zeros_like(total)))
    index = (ends > point[:, None]).byte().argmax(-1, keepdim=True)  # the first
    end, weight = ends.gather(-1, index)[:, 0], wide.gather(-1, index)[:, 0]
    rest = (point - (end - weight)) / weight
    return index[:, 0], rest.clamp(0, BELOW_ONE)


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

    def categorical_ahead(self, probs: Tensor, position: int) -> Tensor:
        rows, vocab = probs.shape
        noise = [self._noise(position + i, vocab, probs.device) for i in range(rows)]
        return (probs / torch.stack(noise).to(probs.dtype)).argmax(-1)  # [rows]

    def use(self, count: int) -> None:
        """Nothing: its draws depend on their positions alone."""

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
        ConfigError: the seed is no whole number of 64 bits.
    """
    seed = checked("seed", seed, Seed)
    return KeyedRng(seed) if keyed else Rng(seed)


def fresh_seed() -> int:
    """Return a seed from torch's global generator on the CPU, which `torch.manual_seed` governs."""
    return int(torch.randint(FRESH_SEEDS, (), device="cpu"))
