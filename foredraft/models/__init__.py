"""Tokens → logits, with memories that can forget."""

from foredraft.models.base import Context, Drafted, Feed, Network, Output
from foredraft.models.cache import prune_cache
from foredraft.models.decoder_only import DecoderOnlyModel
from foredraft.models.encoder_decoder import EncoderDecoderModel
from foredraft.models.loading import LoadedModel, LoadOptions, load, load_drafter, load_pair
from foredraft.models.pairing import fit_drafter, fit_target
from foredraft.models.table import TableModel
from foredraft.models.wrapper import Recomputing, Wrapper

__all__ = [
    "Context",
    "DecoderOnlyModel",
    "Drafted",
    "EncoderDecoderModel",
    "Feed",
    "LoadOptions",
    "LoadedModel",
    "Network",
    "Output",
    "Recomputing",
    "TableModel",
    "Wrapper",
    "fit_drafter",
    "fit_target",
    "load",
    "load_drafter",
    "load_pair",
    "prune_cache",
]
