"""Tokens → logits, with memories that can forget: interfaces, and adapters for modules."""

from foredraft.models.base import Context, Drafted, Feed, Network, Output
from foredraft.models.cache import prune_cache
from foredraft.models.decoder_only import DecoderOnlyModel
from foredraft.models.encoder_decoder import EncoderDecoderModel, Seq2SeqModel
from foredraft.models.head import HeadModel
from foredraft.models.table import TableModel
from foredraft.models.wrapper import Recomputing, Wrapper

__all__ = [
    "Context",
    "DecoderOnlyModel",
    "Drafted",
    "EncoderDecoderModel",
    "Feed",
    "HeadModel",
    "Network",
    "Output",
    "Recomputing",
    "Seq2SeqModel",
    "TableModel",
    "Wrapper",
    "prune_cache",
]
