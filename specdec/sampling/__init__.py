"""Logits → distribution → token."""

from specdec.sampling.base import SAMPLERS, Sampler
from specdec.sampling.rng import Rng
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
    "MultinomialSampler",
    "NucleusSampler",
    "Rng",
    "Sampler",
    "TopKNucleusSampler",
    "TopKSampler",
]
