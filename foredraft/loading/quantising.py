"""A source whose matrices are rounded to blocks when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from transformers import PreTrainedModel

from foredraft.loading.checkpoint import Unmade
from foredraft.loading.gguf_weights import Held
from foredraft.native.blocks import TO_A_BLOCK, quantised

# What `--quantize` makes of a matrix, and of those that are read by the row or decide the token.
MATRIX_KINDS = {"int8": "Q8_0", "int4": "Q4_1"}
END_KIND = "Q8_0"
ENDS = ("model.embed_tokens.weight", "lm_head.weight")


class Quantised(Unmade):
    """What another source finds, its matrices rounded; gains, biases and odd rows as they are.

    Args:
        source: whose matrices are plain.
        name: `int8` or `int4`.
    """

    def __init__(self, source: Unmade, name: str) -> None:
        self.outline, self.config = source.outline, source.config
        self.device, self.dtype = source.device, source.dtype
        self.neighbours, self.gains_hold_one = source.neighbours, source.gains_hold_one
        self._source, self._name = source, name

    def parameters(self) -> Iterator[nn.Parameter]:
        return self._source.parameters()

    def holds(self, name: str) -> bool:
        return self._source.holds(name)

    def find(self, name: str) -> Held | None:
        """Return a tensor, or the blocks of a matrix; None if there is none of that name."""
        found: Held | None = self._source.find(name)
        if not isinstance(found, Tensor):
            return found
        kind = kind_of(name, tuple(found.shape), self._name)
        return found if kind is None else quantised(found, kind)

    def whole(self) -> PreTrainedModel:
        """Return the transformers module with its weights as they were."""
        return self._source.whole()


def kind_of(name: str, shape: tuple[int, ...], quantize: str) -> str | None:
    """Return what a tensor is rounded to; None for what stays as it is."""
    if len(shape) != 2 or shape[1] % TO_A_BLOCK:
        return None
    return END_KIND if name in ENDS else MATRIX_KINDS[quantize]
