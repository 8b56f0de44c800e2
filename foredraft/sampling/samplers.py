"""The samplers: greedy, multinomial, top-k, nucleus, top-k + nucleus; and that of servers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from foredraft.choices import Rule
from foredraft.ranges import Range
from foredraft.sampling.base import SAMPLERS, Sampler, as_float
from foredraft.sampling.filters import keep_likely, keep_nucleus, largest_of, nucleus_of

Temperature = Annotated[float, Range(0, 10_000, open_low=True)]
TopK = Annotated[int, Range(1, 2**31 - 1)]
TopP = Annotated[float, Range(0, 1, open_low=True)]
MinP = Annotated[float, Range(0, 1)]


@SAMPLERS.register("greedy")
@dataclass(frozen=True)
class GreedySampler(Sampler):
    """All mass on the largest logit (the first of equals).

    Attributes:
        temperature: accepted so that every sampler starts with a temperature; the argmax does not
            depend on it.
    """

    temperature: Temperature = 1.0

    def probs(self, logits: Tensor) -> Tensor:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits, dtype=as_float(logits).dtype).scatter_(-1, best, 1.0)

    @property
    def is_greedy(self) -> bool:
        return True


@SAMPLERS.register("multinomial")
@dataclass(frozen=True)
class MultinomialSampler(Sampler):
    """softmax(logits / temperature).

    Attributes:
        temperature: 1 draws from the model's own distribution.
    """

    temperature: Temperature = 1.0

    @property
    def rule(self) -> Rule:
        return Rule(self.temperature)

    def probs(self, logits: Tensor) -> Tensor:
        return _softmax(logits, self.temperature)


@SAMPLERS.register("topk")
@dataclass(frozen=True)
class TopKSampler(Sampler):
    """The `top_k` likeliest tokens, renormalised (Fan et al., 2018).

    Attributes:
        temperature: temperature of the softmax.
        top_k: more than the vocabulary keeps everything.
    """

    temperature: Temperature = 1.0
    top_k: TopK = 10

    @property
    def rule(self) -> Rule:
        return Rule(self.temperature, top_k=self.top_k)

    def probs(self, logits: Tensor) -> Tensor:
        return _over_top_k(logits, self.top_k, lambda kept: _softmax(kept, self.temperature))


@SAMPLERS.register("nucleus")
@dataclass(frozen=True)
class NucleusSampler(Sampler):
    """The smallest set of tokens with mass ≥ `top_p`, renormalised (Holtzman et al., 2020).

    Attributes:
        temperature: temperature of the softmax.
        top_p: 1 keeps everything.
    """

    temperature: Temperature = 1.0
    top_p: TopP = 0.9

    @property
    def rule(self) -> Rule:
        return Rule(self.temperature, top_p=self.top_p)

    def probs(self, logits: Tensor) -> Tensor:
        logits = as_float(logits)
        if logits.device.type == "cpu" and self.top_p < 1:
            return _over_nuclei(logits, self.top_p, self.temperature)
        return _softmax(keep_nucleus(logits, self.top_p), self.temperature)


@SAMPLERS.register("topknucleus")
@dataclass(frozen=True)
class TopKNucleusSampler(Sampler):
    """Top-k, then nucleus on what is left.

    Attributes:
        temperature: temperature of the softmax.
        top_k: tokens kept at most.
        top_p: mass of what is kept of those.
    """

    temperature: Temperature = 1.0
    top_k: TopK = 10
    top_p: TopP = 0.9

    @property
    def rule(self) -> Rule:
        return Rule(self.temperature, self.top_k, self.top_p)

    def probs(self, logits: Tensor) -> Tensor:
        def probs(kept: Tensor) -> Tensor:
            return _softmax(keep_nucleus(as_float(kept), self.top_p), self.temperature)

        return _over_top_k(logits, self.top_k, probs)


@SAMPLERS.register("tempered")
@dataclass(frozen=True)
class TemperedSampler(Sampler):
    """The temperature first, then top-k, nucleus and min-p on what is left: as servers do it.

    A higher temperature lets more tokens through the filters; with the other samplers it does not.
    min-p: Nguyen et al., "Turning Up the Heat: Min-p Sampling", ICLR 2025.

    Attributes:
        temperature: temperature of the softmax.
        top_k: tokens kept at most; None keeps all.
        top_p: mass of what is kept of those; 1 keeps everything.
        min_p: share of the likeliest token's probability that others must have; 0 keeps everything.
    """

    temperature: Temperature = 1.0
    top_k: TopK | None = None
    top_p: TopP = 1.0
    min_p: MinP = 0.0

    @property
    def rule(self) -> Rule:
        return Rule(self.temperature, self.top_k, self.top_p, self.min_p, temperature_first=True)

    def probs(self, logits: Tensor) -> Tensor:
        scaled = _scaled(logits, self.temperature)

        def probs(kept: Tensor) -> Tensor:
            kept = keep_nucleus(as_float(kept), self.top_p)
            return keep_likely(kept, self.min_p).softmax(-1)

        return _over_top_k(scaled, self.top_k or scaled.shape[-1], probs)


def _over_top_k(logits: Tensor, top_k: int, probs: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `probs` of the `top_k` largest logits of each row, and 0 for all others.

    Args:
        logits: shape `[..., vocab]`.
        top_k: how many; more than the vocabulary means all. Ties are cut to exactly so many.
        probs: logits `[..., kept]` → their probabilities.
    """
    if top_k >= logits.shape[-1]:
        return probs(logits)
    values, indices = largest_of(logits, top_k)
    zeros = torch.zeros_like(logits, dtype=as_float(logits).dtype)
    return zeros.scatter_(-1, indices, probs(values))


def _over_nuclei(logits: Tensor, top_p: float, temperature: float) -> Tensor:
    """Return the softmax over the nucleus of each row `[..., vocab]` on a CPU, 0 for all others."""
    rows = logits.detach().numpy().reshape(-1, logits.shape[-1])
    probs = np.zeros_like(rows)
    for row, out in zip(rows, probs, strict=True):
        tokens = nucleus_of(row, top_p)
        kept = row[tokens]
        weights = np.exp((kept - kept.max()) / _bounded(temperature))
        out[tokens] = weights / weights.sum()
    return torch.from_numpy(probs).view(logits.shape)


def _bounded(temperature: float) -> float:
    return max(temperature, 1e-30)  # below it float32 sees 0; there the result is one-hot already


def _softmax(logits: Tensor, temperature: float) -> Tensor:
    return _scaled(logits, temperature).softmax(-1)


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    # The largest logit is moved to 0 first: a tiny temperature then divides into −∞, never into +∞.
    shifted = as_float(logits) - as_float(logits).amax(-1, keepdim=True)
    return shifted / _bounded(temperature)
