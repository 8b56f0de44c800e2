"""Loops: plain, beam, speculative."""

from foredraft.decoding.autoregressive import autoregressive_steps
from foredraft.decoding.beam import BeamSettings, beam_search
from foredraft.decoding.difference import Difference, first_difference
from foredraft.decoding.sequence import Sequence
from foredraft.decoding.speculative import Speculation, speculative_steps

__all__ = [
    "BeamSettings",
    "Difference",
    "Sequence",
    "Speculation",
    "autoregressive_steps",
    "beam_search",
    "first_difference",
    "speculative_steps",
]
