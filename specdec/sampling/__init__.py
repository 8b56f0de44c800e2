"""Logits → distribution → token."""

from specdec.sampling.base import Sampler, SAMPLERS
from specdec.sampling.rng import Rng
from specdec.sampling.samplers import (
    GreedySampler,
    MultinomialSampler,
    NucleusSampler,
    TopKNucleusSampler,
    TopKSampler,
)

__all__ = [
    "GreedySampler",
    "MultinomialSampler",
    "NucleusSampler",
    "Rng",
    "Sampler",
    "TopKNucleusSampler",
    "TopKSampler",
    "SAMPLERS",
]
