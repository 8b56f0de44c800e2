"""The decoder of T5 as plain arithmetic: weights laid out once, no module between the products.

Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text transformer"
(2020). Scores are not scaled; where a key stands is said by what is added to them, the same in all
layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.native.linear import Linear, make_linear
from foredraft.native.llama import Norm, UnitNorm, numbers
from foredraft.native.network import Source
from foredraft.native.t5_weights import T5Weights
from foredraft.native.weights import LayerWeights, Matrix
from foredraft.ownership import Owned

NOWHERE = float("-inf")
ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "exact_gelu": F.gelu,
    "gelu": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's products; keys and values of what was read are made for all layers at once."""

    attention_norm: Norm | UnitNorm
    qkv: Linear
    out: Linear
    source_norm: Norm | UnitNorm
    source_query: Linear
    source_out: Linear
    mlp_norm: Norm | UnitNorm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class T5Pass:
    """What the layers of one forward pass share; tuples hold one tensor a layer.

    Attributes:
        mask: what is added to scores, shape `[heads, time, seen]`.
        written: where new keys and values go, `[2 · heads, time, head_dim]`.
        keys: to attend to, `[heads, seen, head_dim]`.
        values: likewise.
        source_keys: of what the encoder has read, `[heads, source, head_dim]`.
        source_values: likewise.
    """

    mask: Tensor
    written: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    source_keys: tuple[Tensor, ...]
    source_values: tuple[Tensor, ...]


class T5(Owned):
    """The decoder.

    Args:
        weights: in the precision to compute in.
    """

    def __init__(self, weights: T5Weights) -> None:
        self.heads, self.head_dim = weights.heads, weights.head_dim
        self.num_layers, self.inner_size = weights.num_layers, weights.inner_size
        self.embedding = weights.embedding()
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        # Half precision would round the product of two weights, and scores; a GPU has kernels.
        self._is_plain = self.dtype.itemsize > 2 and self.device.type == "cpu"
        self._epsilon, self._activation = weights.epsilon, ACTIVATION[weights.activation]
        self.layers = list(map(self._layer, weights.layers()))
        self.source = make_linear(weights.source(), None)
        last = weights.gain()
        self.norm, gain = self._norm(last.to(self.dtype) if last.is_cuda else last)
        self.head = _linear(gain, weights.head(self.embedding))
        self._nearness, self._line, self._reach = weights.nearness, self.embedding, 0

    def _layer(self, layer: LayerWeights) -> Layer:
        assert layer.source_gain is not None
        attention_norm, attention_gain = self._norm(layer.attention_gain)
        source_norm, source_gain = self._norm(layer.source_gain)
        mlp_norm, mlp_gain = self._norm(layer.mlp_gain)
        return Layer(
            attention_norm,
            _linear(attention_gain, layer.query, layer.key, layer.value),
            _linear(None, layer.output),
            source_norm,
            _linear(source_gain, layer.source_query),
            _linear(None, layer.source_output),
            mlp_norm,
            _linear(mlp_gain, layer.gate, layer.up),
            _linear(None, layer.down),
        )

    def _norm(self, gain: Tensor) -> tuple[Norm | UnitNorm, Tensor | None]:
        """Return a norm, and what the columns of the product behind it are multiplied by."""
        if not self._is_plain:
            return Norm(gain, self._epsilon), None
        return UnitNorm(len(gain), self._epsilon), gain * len(gain) ** 0.5

    def weights(self) -> Iterator[Tensor]:
        """Yield every weight as it lies in memory; gains that are folded lie in their products."""
        yield self.embedding
        for layer in self.layers:
            for part in (layer.attention_norm, layer.qkv, layer.out):
                yield from part.weights
            for part in (layer.source_norm, layer.source_query, layer.source_out):
                yield from part.weights
            for part in (layer.mlp_norm, layer.gate_up, layer.down):
                yield from part.weights
        for part in (self.source, self.norm, self.head):
            yield from part.weights
        yield self._nearness.table

    def read(self, states: Tensor) -> Source:
        """Return keys and values of what an encoder has made of a prompt, `[source, hidden]`.

        They lie as `[layers, 2, heads, source, head_dim]`.
        """
        made = self.source(states).view(len(states), self.num_layers, 2, self.heads, self.head_dim)
        return Source(made.movedim(0, 3).contiguous(), len(states))

    def mask(self, begin: int, time: int) -> Tensor:
        """Return what is added to the scores of positions begin … begin + time − 1.

        Returns:
            Shape `[heads, time, begin + time]`; −∞ where a row may not look.
        """
        seen = begin + time
        if seen > self._reach:
            self._reach = max(seen, 2 * self._reach, 256)
            near = self._nearness(self._reach).flip(1)
            self._line = torch.cat((near, torch.full_like(near, NOWHERE)), dim=1)
        # Row i is what lies in the line from `reach − 1 − begin − i` on.
        windows = self._line.unfold(1, seen, 1)
        return windows[:, self._reach - seen : self._reach - begin].flip(1)

    def __call__(self, input_ids: Tensor, step: T5Pass) -> Tensor:
        """Return the last hidden states of ids `[time]`, shape `[time, hidden]`."""
        hidden = F.embedding(input_ids, self.embedding)
        for i, layer in enumerate(self.layers):
            qkv = self._by_head(layer.qkv(layer.attention_norm(hidden)))
            queries, new = qkv.split((self.heads, 2 * self.heads))
            step.written[i].copy_(new)
            heard = self._attend(queries, step.keys[i], step.values[i], step.mask)
            hidden = layer.out.added(heard, hidden)
            queries = self._by_head(layer.source_query(layer.source_norm(hidden)))
            heard = self._attend(queries, step.source_keys[i], step.source_values[i], None)
            hidden = layer.source_out.added(heard, hidden)
            hidden = layer.down.added(self._inside(layer, hidden), hidden)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits of hidden states `[rows, hidden]`, shape `[rows, vocab]`."""
        return self.head(self.norm(hidden))

    def _by_head(self, rows: Tensor) -> Tensor:
        """Return rows `[time, heads · head_dim]` as `[heads, time, head_dim]`."""
        return rows.view(len(rows), -1, self.head_dim).transpose(0, 1)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return what the heads read, shape `[time, heads · head_dim]`."""
        if not self._is_plain:
            q, k, v = queries[None], keys[None], values[None]
            added = None if mask is None else mask[None]
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=1.0)[0]
        else:  # with so few rows quicker than the library's kernel
            turned = keys.transpose(1, 2)
            if mask is None:
                scores = torch.bmm(queries, turned)
            else:
                scores = torch.baddbmm(mask, queries, turned)
            read = torch.bmm(torch.softmax(scores, -1), values)
        return read.transpose(0, 1).reshape(queries.shape[1], -1)

    def _inside(self, layer: Layer, hidden: Tensor) -> Tensor:
        """Return the activations in the middle of the feed-forward part, `[time, inner]`."""
        gate_up = layer.gate_up(layer.mlp_norm(hidden))
        if gate_up.shape[1] == self.inner_size:
            return self._activation(gate_up)
        gate, up = gate_up.split(self.inner_size, 1)
        inside: Tensor = self._activation(gate) * up
        return inside


def _linear(gain: Tensor | None, *matrices: Matrix | None) -> Linear:
    """Return one product with the matrices there are; `gain` are factors of their input, `[in]`."""
    weights = [numbers(matrix.weight) for matrix in matrices if matrix]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    return make_linear(weight if gain is None else weight * gain, None)
