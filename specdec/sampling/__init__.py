"""Logits → distribution → token."""

from specdec.sampling.base import SAMPLERS, Sampler
from specdec.sampling.rng import KeyedRng, Rng, rng_for
from specdec.sampling.samplers import (
    GreedySampler,
    MultinomialSampler,
    NucleusSampler,
    TopKNucleusSampler,
    TopKSampler,
)

__all__ = [
    "SAMPLERS",
    "GreedySampler",
    "KeyedRng",
    "MultinomialSampler",
    "NucleusSampler",
    "Rng",
    "Sampler",
    "TopKNucleusSampler",
    "TopKSampler",
    "rng_for",
]
