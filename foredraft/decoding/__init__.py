"""Loops: plain, beam, speculative."""

from foredraft.decoding.beam import BeamSettings, beam_search
from foredraft.decoding.difference import Difference, first_difference
from foredraft.decoding.request import Request
from foredraft.decoding.speculative import (
    Speculation,
    autoregressive_steps,
    begin,
    shared_step,
    speculative_steps,
    step,
    watch,
)

__all__ = [
    "BeamSettings",
    "Difference",
    "Request",
    "Speculation",
    "autoregressive_steps",
    "beam_search",
    "begin",
    "first_difference",
    "shared_step",
    "speculative_steps",
    "step",
    "watch",
]
