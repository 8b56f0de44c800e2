"""The native runtimes of encoder–decoder models: T5's decoder without the library.

The encoder stays transformers': it runs once a text. What it has read becomes keys and values of
all layers by one product; what the decoder says lies in one preallocated block. A pass is C where
there is a compiler (`CompiledSeq2Seq`), else torch's operations (`NativeSeq2Seq`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.choices import Drawing
from foredraft.core import Prompt
from foredraft.models.base import Context, Drafted, Feed, Network, Output
from foredraft.models.decoder_only import TensorModel
from foredraft.models.encoder import Encoder
from foredraft.models.encoder_decoder import Seq2SeqModel, decoder_positions
from foredraft.native.fused import CompiledModel
from foredraft.native.linear import make_linear
from foredraft.native.network import CHUNK, KeyValueMemory, Source, native_dtype, unknown
from foredraft.native.passes import Passes
from foredraft.native.structures import ACTIVATION_CODES, PANEL
from foredraft.native.t5 import T5, T5Pass
from foredraft.native.t5_weights import T5Weights, has_one_precision, is_t5
from foredraft.ownership import Owned
from foredraft.threads import threads_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CompiledT5(Owned):
    """A T5 decoder laid out for compiled passes.

    Attributes:
        known: tokens that have an embedding.
        passes: which one thread at a time may ask for.
    """

    def __init__(self, network: PreTrainedModel, vocab_size: int) -> None:
        weights = T5Weights(network)
        self.known = weights.vocab_size
        self.passes = Passes(weights, vocab_size, threads_for(network.get_decoder()))
        self._source = make_linear(weights.source().float(), None)
        self._shape = (weights.num_layers, 2, weights.heads, weights.head_dim)

    @property
    def weights(self) -> list[Tensor]:
        """Every weight as it lies in memory."""
        return [*self.passes.laid.tensors, *self._source.weights]

    def read(self, states: Tensor) -> Source:
        """Return keys and values of what an encoder has made of a prompt, `[source, hidden]`.

        They lie as compiled passes remember what is said: `[layers, 2 · heads, capacity · padded
        head_dim]`, the keys of 16 positions transposed.
        """
        length = len(states)
        made = self._source(states.float()).view(length, *self._shape).movedim(0, 3)
        made = F.pad(made, (0, -made.shape[4] % PANEL, 0, -length % PANEL))
        keys, values = made.unbind(1)  # [layers, heads, capacity, padded head_dim]
        turned = keys.unflatten(2, (-1, PANEL)).transpose(3, 4)
        block = torch.cat((turned.flatten(2), values.flatten(2)), dim=1)
        return Source(block, length)


class CompiledSeq2Seq(Seq2SeqModel, CompiledModel):
    """An encoder–decoder whose decoder's passes are compiled C; several texts share one.

    Args:
        network: a transformers module that is `known_seq2seq`, on the CPU.
        decoder: its decoder, laid out.
        vocab_size: columns wanted, see `CausalModel`.
        decoder_start: see `EncoderDecoderModel`.
        encoder: likewise.

    Raises:
        Errors as of `EncoderDecoderModel`.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        decoder: CompiledT5,
        *,
        vocab_size: int | None = None,
        decoder_start: Sequence[int] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        positions = decoder_positions(network)
        super().__init__(decoder.known, vocab_size, positions, torch.device("cpu"))
        self.decoder, self.owner = decoder, decoder.owner
        self._passes = decoder.passes
        self.weight_bytes = self._passes.laid.weight_bytes
        self._begin_with(network, decoder_start, encoder)

    def weights(self) -> Iterator[Tensor]:
        yield from self.encoder.weights()
        yield from self.decoder.weights

    def open(self, prompt: Prompt) -> Context:
        self._passes.count_threads()
        return super().open(prompt)

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        self.check(feeds)
        with self.owner.lock:
            self._read_all(feeds)
            outputs = super().forward(feeds)
            for feed, output in zip(feeds, outputs, strict=True):
                self._forbid(output.logits, feed.context.length - feed.keep)
        return [Output(output.logits) for output in outputs] if self.forbids else outputs

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        if self.forbids:
            return Network.draft(self, feeds, count)
        self.check(feeds, count)
        with self.owner.lock:
            self._read_all(feeds)
            return super().draft(feeds, count)

    def draw(self, feeds: Sequence[Feed], count: int, drawings: Sequence[Drawing]) -> list[Drafted]:
        if self.forbids:
            return Network.draw(self, feeds, count, drawings)
        self.check(feeds, count)
        with self.owner.lock:
            self._read_all(feeds)
            return super().draw(feeds, count, drawings)

    @torch.inference_mode()
    def _read_all(self, feeds: Sequence[Feed]) -> None:
        """Have read what the texts are about."""
        for context in (feed.context for feed in feeds):
            if context.memory.read is None:
                context.memory.read = self.decoder.read(self._read(context.prompt)[0])


class NativeSeq2Seq(Seq2SeqModel, TensorModel):
    """An encoder–decoder whose decoder is computed by torch's operations, on any device.

    Args:
        network: a transformers module that is `known_seq2seq`.
        decoder: its decoder, laid out.
        vocab_size: columns wanted, see `CausalModel`.
        decoder_start: see `EncoderDecoderModel`.
        encoder: likewise.

    Raises:
        Errors as of `EncoderDecoderModel`.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        decoder: T5,
        *,
        vocab_size: int | None = None,
        decoder_start: Sequence[int] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        known, positions = len(decoder.embedding), decoder_positions(network)
        super().__init__(known, vocab_size, positions, network.device)
        self.decoder, self.owner, self.dtype = decoder, decoder.owner, decoder.dtype
        self._begin_with(network, decoder_start, encoder)

    def weights(self) -> Iterator[Tensor]:
        yield from self.encoder.weights()
        yield from self.decoder.weights()

    def _new_memory(self) -> KeyValueMemory:
        t5 = self.decoder
        return KeyValueMemory(t5.num_layers, t5.heads, t5.head_dim, t5.embedding)

    def _pass(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        memory: KeyValueMemory = context.memory
        if memory.read is None:
            memory.read = self.decoder.read(self._read(context.prompt)[0])
        read = memory.read.block
        hidden = [self._hidden(memory, read, part) for part in input_ids[0].split(CHUNK)]
        newest = hidden[0] if len(hidden) == 1 else torch.cat(hidden)
        logits = self.decoder.logits(newest[-keep:])
        self._forbid(logits, memory.length - keep)
        return logits

    def _hidden(self, memory: KeyValueMemory, read: Tensor, input_ids: Tensor) -> Tensor:
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


Decoder: TypeAlias = T5 | CompiledT5


def known_seq2seq(network: PreTrainedModel) -> bool:
    """Whether the decoder of a transformers module is one that is computed here."""
    return is_t5(network.config) and has_one_precision(network)


def laid_out(network: PreTrainedModel, vocab_size: int | None, *, compiled: bool) -> Decoder:
    """Return the decoder of a module, for compiled passes if they know it.

    Args:
        network: a transformers module.
        vocab_size: columns wanted, see `CausalModel`.
        compiled: there is a compiler, and the network is on the CPU.

    Raises:
        ModelError: it is not `known_seq2seq`, or its weights do not fit its config.
    """
    if not known_seq2seq(network):
        raise unknown(network)
    weights = T5Weights(network, native_dtype(network))
    if compiled and network.dtype != torch.float64 and weights.activation in ACTIVATION_CODES:
        return CompiledT5(network, vocab_size or weights.vocab_size)
    return T5(weights)
