"""Loops: plain, beam, speculative."""

from specdec.decoding.autoregressive import autoregressive_steps
from specdec.decoding.beam import BeamSettings, beam_search
from specdec.decoding.difference import Difference, first_difference
from specdec.decoding.sequence import Sequence
from specdec.decoding.speculative import Speculation, speculative_steps

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
