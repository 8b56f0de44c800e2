"""How many positions a network has: no more than its table, if it has one, and than it states."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from foredraft.errors import unfit
from foredraft.models.rotary import reach

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NO_LIMIT = 1 << 30  # positions of a model that states none
TABLE = re.compile(r"(.*\.)?(wpe|embed_positions|pos_encoding|(w?pos|positions?)_emb\w*)")
UNSTATED = -1  # how XLNet says that it has no limit
STATED = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length"),
    *("max_target_positions", "n_ctx"),
)


def positions_of(
    config: PreTrainedConfig, network: nn.Module | None = None, names: tuple[str, ...] = ()
) -> int:
    """Return how many positions a network has, all of them computed alike.

    Args:
        config: of transformers.
        network: whose table of positions is asked, if it has one; None asks the config alone.
        names: of settings that are asked before the usual ones.

    Raises:
        ModelError: fewer than 1 is stated.
    """
    positions = [_stated(config, names)]
    if network is not None:
        positions += _tables(network)
    return min(positions)


def _stated(config: PreTrainedConfig, names: tuple[str, ...]) -> int:
    if getattr(config, "alibi", False) is True:  # a slope for any distance (Press et al., 2022)
        return NO_LIMIT
    for name in (*names, *STATED):
        stated = getattr(config, name, None)
        if stated is None or (stated == UNSTATED and type(stated) is int):
            continue
        if type(stated) is not int or stated < 1:
            name = f"{type(config).__name__}: {name}"
            raise unfit(name, "an integer of at least 1", stated, "correct it in config.json")
        return reach(config, int(stated))
    return NO_LIMIT


def _tables(network: nn.Module) -> Iterator[int]:
    """Yield the usable rows of every table of positions in a network."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding) and TABLE.fullmatch(name):
            yield module.weight.shape[0] - _offset(module)
    for name, table in network.named_buffers():
        if isinstance(table, Tensor) and table.ndim == 2 and TABLE.fullmatch(name):
            yield table.shape[0]


def _offset(table: nn.Embedding) -> int:
    """Return how many rows come before position 0: BART and OPT say so, RoBERTa pads."""
    own = getattr(table, "offset", None)
    if isinstance(own, int):
        return own
    return 0 if table.padding_idx is None else table.padding_idx + 1
