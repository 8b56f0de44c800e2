"""Tokens → logits, with a memory that can forget."""

from specdec.models.base import LanguageModel, Recomputing
from specdec.models.cache import prune_cache
from specdec.models.decoder_only import DecoderOnlyModel
from specdec.models.encoder_decoder import EncoderDecoderModel
from specdec.models.loading import LoadedModel, LoadOptions, load, load_drafter, load_pair
from specdec.models.pairing import fit_drafter, fit_target
from specdec.models.table import TableModel

__all__ = [
    "DecoderOnlyModel",
    "EncoderDecoderModel",
    "LanguageModel",
    "LoadOptions",
    "LoadedModel",
    "Recomputing",
    "TableModel",
    "fit_drafter",
    "fit_target",
    "load",
    "load_drafter",
    "load_pair",
    "prune_cache",
]
