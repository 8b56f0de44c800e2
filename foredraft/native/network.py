"""The native runtime: the Llama family without the library between the products.

One preallocated block holds all keys and values, rollback moves a pointer, and a pass makes its
views once for all layers. Architectures outside `weights.FAMILY` keep `DecoderOnlyModel`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from foredraft.errors import ModelError
from foredraft.models.base import Context
from foredraft.models.decoder_only import CausalModel, TensorModel
from foredraft.models.positions import positions_of
from foredraft.native.linear import has_bfloat16_products
from foredraft.native.llama import Llama, Pass
from foredraft.native.pages import zeros
from foredraft.native.weights import Given, Weights, is_in_family, is_plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 256  # the memory grows by doubling, in multiples of this many positions
CHUNK = 512  # tokens fed at once; a longer prompt is fed in several passes
ROWS = 16  # of every pass after the prompt, where passes must not depend on their size
KEYS = 512  # keys are then attended to in multiples of this: the block of torch's CPU attention
PROOF = (3, 1, 4, 1, 5, 9, 2, 6)  # tokens whose logits must be those of transformers
NEVER = float("-inf")


class Source(NamedTuple):
    """Keys and values, in all layers, of what an encoder has read; never written again.

    Attributes:
        block: laid out as those that read it want it.
        length: positions.
    """

    block: Tensor
    length: int


class KeyValueMemory:
    """Keys and values of one text in all layers, `[layers, 1, 2 · kv_heads, capacity, head_dim]`.

    Positions beyond `length` are garbage that the next write covers.

    Attributes:
        read: what the encoder of a decoder has read; None without one, and before the first pass.
        first: positions before it are not attended to: they were never fed.
        capacity: positions there is room for.
        place: address of the block, and bytes from a layer to the next and from a head to the next;
            every pass asks, and it changes seldom.
    """

    read: Source | None = None
    first = 0

    def __init__(self, num_layers: int, kv_heads: int, head_dim: int, like: Tensor) -> None:
        self.length = 0
        # Zeros: what attention multiplies by weight 0 must be a number.
        self._lie_in(like.new_zeros(num_layers, 1, 2 * kv_heads, 0, head_dim))

    def _lie_in(self, block: Tensor) -> None:
        layer, _, head, *_ = block.stride()
        self.block, self.capacity = block, block.shape[3]
        self.place = block.data_ptr(), layer * block.itemsize, head * block.itemsize

    @property
    def position_bytes(self) -> int:
        """Bytes of a position."""
        layers, one, heads, _, size = self.block.shape
        return layers * one * heads * size * self.block.itemsize

    def reserve(self, end: int) -> bool:
        """Make room for `end` positions; return whether the block has moved."""
        if end <= self.capacity:
            return False
        layers, one, heads, _, size = self.block.shape
        capacity = -(-max(end, 2 * self.capacity) // BLOCK) * BLOCK
        grown = zeros(layers, one, heads, capacity, size, like=self.block)
        grown[:, :, :, : self.capacity] = self.block
        self._lie_in(grown)
        return True

    def restart(self) -> None:
        self.length, self.read, self.first = 0, None, 0

    def rollback_to(self, length: int) -> None:
        self.length = length

    def copy(self) -> Self:
        other = copy.copy(self)
        other._lie_in(self.block.clone())
        return other


class NativeModel(TensorModel):
    """A Llama, Mistral, Qwen2 or Qwen3 network computed without transformers.

    Args:
        network: a transformers causal LM whose config `is_in_family`; its weights are taken over.
        vocab_size: columns wanted, see `CausalModel`.
        invariant: feed `ROWS` rows in every pass after the prompt, padded, and attend to keys in
            multiples of `KEYS`: a token's logits then do not depend, to the bit, on how many tokens
            share its pass.

    Raises:
        ModelError: another architecture, or weights that do not fit its config.
    """

    memory_kind: ClassVar[type[KeyValueMemory]] = KeyValueMemory

    def __init__(
        self,
        network: Given,
        *,
        vocab_size: int | None = None,
        invariant: bool = False,
    ) -> None:
        check_is_in_family(network)
        if not is_plain(network.config):
            raise unknown(network)
        self.llama = llama = Llama(Weights(network, native_dtype(network)))
        config = network.config
        positions = positions_of(config)
        super().__init__(int(config.vocab_size), vocab_size, positions, network.device)
        self.dtype = llama.dtype
        self.position_bytes = self._new_memory().position_bytes
        self.num_watchable, self.state_size = len(llama.layers), llama.embedding.shape[1]
        self.invariant = invariant
        self._rotations = llama.rotations(0)
        self._steps, self._middle = torch.empty(0), 0

    def weights(self) -> Iterator[Tensor]:
        yield from self.llama.weights()

    def embedding(self) -> Tensor:
        return self.llama.embedding.float()

    def output_rows(self, tokens: Tensor) -> Tensor:
        return self.llama.output[tokens.to(self.device)].float()

    def last_norm(self) -> tuple[Tensor, float]:
        return self.llama.last_gain.float(), self.llama.epsilon

    def _new_memory(self) -> KeyValueMemory:
        llama = self.llama
        return self.memory_kind(len(llama.layers), llama.kv_heads, llama.head_dim, llama.embedding)

    def _pass(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        if self.invariant:
            return self._in_fixed_passes(context, input_ids, keep)
        return self.llama.logits(self._in_passes(context, input_ids, keep))

    def _in_passes(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        """Feed ids `[1, time]`; return the newest hidden states, `[keep, hidden]`."""
        parts = input_ids.split(CHUNK, dim=1)
        hidden = [self._hidden(context, part, part.shape[1]) for part in parts]
        return hidden[0][-keep:] if len(hidden) == 1 else torch.cat(hidden)[-keep:]

    def _in_fixed_passes(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        """Feed ids `[1, time]`, the last `keep` in passes of one size; return logits of those."""
        before = input_ids.shape[1] - keep
        if before:
            self._in_passes(context, input_ids[:, :before], 1)
        kept = []
        for part in input_ids[:, before:].split(ROWS, dim=1):
            padded = part.new_zeros(1, ROWS)
            padded[:, : part.shape[1]] = part
            hidden = self._hidden(context, padded, part.shape[1])
            kept.append(self.llama.logits(hidden)[: part.shape[1]])
        return torch.cat(kept)  # [keep, vocab]

    def _hidden(self, context: Context, input_ids: Tensor, count: int) -> Tensor:
        """Feed ids `[1, time]` and remember the first `count`; return `[time, hidden]`."""
        memory, features = context.memory, context.features
        time, begin = input_ids.shape[1], memory.length
        end = begin + time
        seen = -(-end // KEYS) * KEYS if self.invariant else end
        self._make_room(memory, seen)
        block, heads = memory.block, self.llama.kv_heads
        step = Pass(
            self.llama.for_all_heads(self._rotations[begin:end]),
            self._mask(memory, time, seen),
            block[:, :, :, begin:end].unbind(0),
            block[:, :, :heads, :seen].unbind(0),
            block[:, :, heads:, :seen].unbind(0),
            features.layers if features else (),
        )
        hidden = self.llama(input_ids, step)
        if features:
            features.write(begin, step.features[:count])
        memory.length = begin + count
        return hidden

    def _make_room(self, memory: KeyValueMemory, end: int) -> None:
        """Have memory and rotations for `end` positions."""
        memory.reserve(end)
        if len(self._rotations) < memory.capacity:
            self._rotations = self.llama.rotations(memory.capacity)

    def _mask(self, memory: KeyValueMemory, time: int, seen: int) -> Tensor | None:
        """Return 0 where row i may look, up to position length + i, and −∞ elsewhere."""
        if seen == memory.length + 1:
            return None
        # One staircase serves every pass: row i of it ends `middle + i` columns from the left.
        if self._middle < memory.capacity or len(self._steps) < time:
            self._middle = max(self._middle, memory.capacity)
            self._steps = self._staircase(self._middle, time)
        first = self._middle - memory.length
        mask = self._steps[:time, first : first + seen]
        # A copy: CUDA's attention reads a mask from aligned addresses, and a part of one has none.
        return mask.repeat(self.llama.group, 1)

    def _staircase(self, middle: int, time: int) -> Tensor:
        rows = min(CHUNK, -(-time // ROWS) * ROWS)
        columns = torch.arange(2 * middle + CHUNK, device=self.device)
        ends = torch.arange(rows, device=self.device)[:, None] + middle
        mask = torch.zeros(rows, len(columns), dtype=self.dtype, device=self.device)
        return mask.masked_fill_(columns > ends, NEVER)


def check_is_in_family(network: Given) -> None:
    """Raise `ModelError` unless the native runtime computes a transformers module exactly."""
    if not is_in_family(network.config):
        raise unknown(network)


def unknown(network: Given) -> ModelError:
    """Return what is said of a network that a runtime of ours does not compute."""
    return ModelError(
        f"the native runtime does not know {type(network).__name__} (or a setting of it); "
        "use --runtime auto or --runtime transformers"
    )


def prove_equal(native: CausalModel, network: PreTrainedModel) -> float:
    """Return the largest difference between the logits of both runtimes on a short text.

    Where it is more than float32 usually rounds, both are compared with float64: some networks lose
    more (Gemma 3, whose states are large), and ours may be twice as far from it as transformers'.

    Raises:
        ModelError: they differ by more than rounding explains.
    """
    tokens = [t % native._num_embeddings for t in PROOF]
    if native.dtype != network.dtype:  # computed more exactly than the network is by itself
        network = copy.deepcopy(network)
        nn.Module.to(network, native.dtype)
    theirs = _logits(network, tokens)
    context = native.open(tokens)
    first = context.extend(tokens[:5], keep=5)
    ours = torch.cat((first, context.extend(tokens[5:], keep=len(tokens) - 5)))
    gap, legal = _gap(ours, theirs), native.rounding(theirs)
    if not gap <= legal and native.dtype == torch.float32:
        exact = _logits(copy.deepcopy(network).double(), tokens)
        gap, legal = _gap(ours, exact), max(legal, 2 * _gap(theirs, exact))
    if not gap <= legal:
        raise ModelError(
            f"the native runtime differs from transformers by {gap:.3g} in a logit, more than "
            f"rounding explains ({legal:.3g}); use --runtime transformers"
        )
    return gap


def _logits(network: PreTrainedModel, tokens: list[int]) -> Tensor:
    ids = torch.tensor([tokens], device=network.device)
    said = {"decoder_input_ids": ids} if network.config.is_encoder_decoder else {}
    with torch.inference_mode():
        made = network(ids, use_cache=False, **said)
    logits: Tensor = made.logits[0]
    return logits


def _gap(ours: Tensor, theirs: Tensor) -> float:
    columns = min(ours.shape[1], theirs.shape[1])
    gaps = (ours[:, :columns].double() - theirs[:, :columns].double()).abs()
    return float(gaps[~ours[:, :columns].isneginf()].max())  # what is forbidden is not compared


def native_dtype(network: Given) -> torch.dtype:
    """Return the precision that is quick on a network's device."""
    on_cpu = network.device.type == "cpu"
    slow = on_cpu and network.dtype == torch.bfloat16 and not has_bfloat16_products()
    return torch.float32 if slow else network.dtype
