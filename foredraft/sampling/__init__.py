"""Logits → distribution → token."""

from foredraft.sampling.base import SAMPLERS, Sampler
from foredraft.sampling.controls import Control, ControlledText, Controls
from foredraft.sampling.rng import KeyedRng, Rng, fresh_seed, rng_for
from foredraft.sampling.samplers import (
    GreedySampler,
    MultinomialSampler,
    NucleusSampler,
    TemperedSampler,
    TopKNucleusSampler,
    TopKSampler,
)

__all__ = [
    "SAMPLERS",
    "Control",
    "ControlledText",
    "Controls",
    "GreedySampler",
    "KeyedRng",
    "MultinomialSampler",
    "NucleusSampler",
    "Rng",
    "Sampler",
    "TemperedSampler",
    "TopKNucleusSampler",
    "TopKSampler",
    "fresh_seed",
    "rng_for",
]
