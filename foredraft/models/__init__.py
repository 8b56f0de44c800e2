"""Tokens → logits, with a memory that can forget."""

from foredraft.models.base import LanguageModel, Recomputing
from foredraft.models.cache import prune_cache
from foredraft.models.decoder_only import DecoderOnlyModel
from foredraft.models.encoder_decoder import EncoderDecoderModel
from foredraft.models.loading import LoadedModel, LoadOptions, load, load_drafter, load_pair
from foredraft.models.pairing import fit_drafter, fit_target
from foredraft.models.table import TableModel

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
