"""The native runtime of encoder–decoder models: T5's decoder without the library.

The encoder stays transformers': it runs once a text. What it has read becomes keys and values of
all layers by one product; what the decoder says lies in one preallocated block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from foredraft.models.base import Context
from foredraft.models.encoder import Encoder
from foredraft.models.encoder_decoder import Seq2SeqModel, decoder_positions
from foredraft.native.network import CHUNK, KeyValueMemory, native_dtype, unknown
from foredraft.native.t5 import T5, T5Pass
from foredraft.native.t5_weights import T5Weights, has_one_precision, is_t5

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SourceMemory(KeyValueMemory):
    """Keys and values of what is said, and of what was read, which is never forgotten.

    Attributes:
        read: `[layers, 2, heads, source, head_dim]`; None until the first pass.
    """

    read: Tensor | None = None

    def restart(self) -> None:
        super().restart()
        self.read = None


class NativeSeq2Seq(Seq2SeqModel):
    """An encoder–decoder whose decoder is computed without transformers.

    Args:
        network: a transformers module that is `known_seq2seq`.
        decoder: its decoder, if it is laid out already.
        vocab_size: columns wanted, see `CausalModel`.
        decoder_start: see `EncoderDecoderModel`.
        encoder: likewise.

    Raises:
        ModelError: another architecture, or weights that do not fit its config; or as for
            `EncoderDecoderModel`.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        decoder: T5 | None = None,
        *,
        vocab_size: int | None = None,
        decoder_start: Sequence[int] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self.decoder = decoder or laid_out(network)
        known = len(self.decoder.embedding)
        super().__init__(known, vocab_size, decoder_positions(network), network.device)
        self.dtype = self.decoder.dtype
        self._begin_with(network, decoder_start, encoder)

    def weights(self) -> Iterator[Tensor]:
        yield from (tensor for _, tensor in sorted(self.encoder.module.state_dict().items()))
        yield from self.decoder.weights()

    def _new_memory(self) -> SourceMemory:
        t5 = self.decoder
        return SourceMemory(t5.num_layers, t5.heads, t5.head_dim, t5.embedding)

    def _pass(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        memory: SourceMemory = context.memory
        if memory.read is None:
            memory.read = self.decoder.read(self._read(context.prompt)[0])
        hidden = [self._hidden(memory, memory.read, part) for part in input_ids[0].split(CHUNK)]
        newest = hidden[0] if len(hidden) == 1 else torch.cat(hidden)
        logits = self.decoder.logits(newest[-keep:])
        self._forbid(logits, memory.length - keep)
        return logits

    def _hidden(self, memory: SourceMemory, read: Tensor, input_ids: Tensor) -> Tensor:
        """Feed ids `[time]` and remember them; return their hidden states, `[time, hidden]`."""
        begin, time, heads = memory.length, len(input_ids), self.decoder.heads
        end = begin + time
        memory.reserve(end)
        said = memory.block[:, 0]
        step = T5Pass(
            self.decoder.mask(begin, time),
            said[:, :, begin:end].unbind(0),
            said[:, :heads, :end].unbind(0),
            said[:, heads:, :end].unbind(0),
            read[:, 0].unbind(0),
            read[:, 1].unbind(0),
        )
        hidden = self.decoder(input_ids, step)
        memory.length = end
        return hidden


def known_seq2seq(network: PreTrainedModel) -> bool:
    """Whether the decoder of a transformers module is one that is computed here."""
    return is_t5(network.config) and has_one_precision(network)


def laid_out(network: PreTrainedModel) -> T5:
    """Return the decoder of a module; raise `ModelError` unless it is `known_seq2seq`."""
    if not known_seq2seq(network):
        raise unknown(network)
    return T5(T5Weights(network, native_dtype(network)))
