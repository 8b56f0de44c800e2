"""The Llama family as plain arithmetic: weights laid out once, no module between the products.

Knows tensors; what is remembered, and how much of it can be forgotten, is its caller's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.errors import ModelError
from foredraft.models.features import stacked
from foredraft.native.linear import Linear, make_linear
from foredraft.native.weights import LayerWeights, Matrix, Weight, Weights


class Norm:
    """Root-mean-square normalisation of the last dimension (Zhang and Sennrich, 2019)."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        self._size, self._weight, self._epsilon = list(weight.shape[-1:]), weight, epsilon
        self.weights = (weight,)
        size = weight.shape[-1]
        self._scaled = weight.float() * size**0.5
        self._floor = torch.tensor((size * epsilon) ** 0.5, device=weight.device)

    def __call__(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            normal: Tensor = F.rms_norm(x, self._size, eps=self._epsilon)
            return normal * self._weight
        # √(Σx² + size·ε) by two small operations; the composite of the library takes six.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale: Tensor = self._scaled / torch.hypot(norm, self._floor)
        return (x * scale).to(x.dtype)


class UnitNorm:
    """x / √(Σx² + size·ε): a norm whose weight, and √size, stand in the product behind it."""

    def __init__(self, size: int, epsilon: float) -> None:
        self._floor = torch.tensor((size * epsilon) ** 0.5)
        self.weights: tuple[Tensor, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.div(x, torch.hypot(norm, self._floor))


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer's weights; `qk_norm` is Qwen3's, None elsewhere."""

    attention_norm: Norm | UnitNorm
    qkv: Linear
    qk_norm: Norm | None
    out: Linear
    mlp_norm: Norm | UnitNorm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Pass:
    """What the layers of one forward pass share.

    Attributes:
        rotations: of the new positions, complex, shape `[heads + 2 · kv_heads, time,
            head_dim / 2]`; 1 for values.
        mask: what attention adds to its scores, shape `[group · time, seen]`; None for one token.
        written: where new keys and values go, one a layer, `[beams, 2 · kv_heads, time, head_dim]`.
        keys: to attend to, one a layer, `[beams, kv_heads, seen, head_dim]`.
        values: likewise.
        watched: numbers of layers after which the states are taken down.
        states: those, in the order of the layers, `[beams · time, hidden]` each.
    """

    rotations: Tensor
    mask: Tensor | None
    written: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    watched: tuple[int, ...] = ()
    states: dict[int, Tensor] = field(default_factory=dict)

    def write(self, place: int, new: Tensor) -> None:
        """Remember new keys and values of a layer, `[beams, 2 · kv_heads, time, head_dim]`."""
        self.written[place].copy_(new)

    def watch(self, layers: int, hidden: Tensor) -> None:
        """Take down the states after so many layers, if somebody asks for them."""
        if layers in self.watched:
            self.states[layers] = hidden

    @property
    def features(self) -> Tensor:
        """What was taken down, side by side as it was asked for: `[beams · time, width]`."""
        return stacked([self.states[layers] for layers in self.watched])


class Llama:
    """The network.

    Args:
        weights: in the precision to compute in; of layers that are alike, see `is_plain`.
    """

    def __init__(self, weights: Weights) -> None:
        self.heads, self.kv_heads = weights.heads, weights.kv_heads
        self.head_dim, self.inner_size = weights.head_dim, weights.inner_size
        self.group = self.heads // self.kv_heads  # queries that share a key
        self.embedding = numbers(weights.embedding())
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        # Half precision would round the product of two weights; a GPU has a kernel for norms.
        self._folds = self.dtype == torch.float32 and self.device.type == "cpu"
        self.epsilon = weights.epsilon
        self.layers = list(map(self._layer, weights.layers()))
        self.last_gain, head = weights.gain(), weights.head(self.embedding)
        self.norm, gain = self._norm(self.last_gain)
        self.output = numbers(head.weight)  # [vocab, hidden]; no copy where no gain is folded
        self.head = self._linear([head], gain)
        [self.rotations] = weights.rotations

    def _layer(self, layer: LayerWeights) -> Layer:
        attention_norm, attention_gain = self._norm(layer.attention_gain)
        mlp_norm, mlp_gain = self._norm(layer.mlp_gain)
        return Layer(
            attention_norm,
            self._linear([layer.query, layer.key, layer.value], attention_gain),
            self._qk_norm(layer),
            self._linear([layer.output]),
            mlp_norm,
            self._linear([layer.gate, *([layer.up] if layer.up else [])], mlp_gain),
            self._linear([layer.down]),
        )

    def _linear(self, matrices: list[Matrix], gain: Tensor | None = None) -> Linear:
        """Return one product with matrices; `gain` are factors of their input, `[in]`."""
        weights = [numbers(matrix.weight) for matrix in matrices]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        bias = None
        if any(matrix.bias is not None for matrix in matrices):
            biases = zip(matrices, weights, strict=True)
            bias = torch.cat([w.new_zeros(len(w)) if m.bias is None else m.bias for m, w in biases])
        return make_linear(weight if gain is None else weight * gain, bias)

    def _norm(self, gain: Tensor) -> tuple[Norm | UnitNorm, Tensor | None]:
        """Return a norm, and what the columns of the product behind it are multiplied by."""
        if not self._folds:
            return Norm(gain, self.epsilon), None
        return UnitNorm(len(gain), self.epsilon), gain * len(gain) ** 0.5

    def _qk_norm(self, layer: LayerWeights) -> Norm | None:
        if layer.query_gain is None or layer.key_gain is None:
            return None
        rows = [layer.query_gain] * self.heads + [layer.key_gain] * self.kv_heads
        return Norm(torch.stack(rows), self.epsilon)  # [heads, head_dim]

    def __call__(self, input_ids: Tensor, step: Pass) -> Tensor:
        """Return the last hidden states of ids `[beams, time]`, shape `[beams · time, hidden]`."""
        beams, time = input_ids.shape
        hidden = F.embedding(input_ids.flatten(), self.embedding)  # [beams · time, hidden]
        step.watch(0, hidden)
        for i, layer in enumerate(self.layers):
            qkv = layer.qkv(layer.attention_norm(hidden)).view(
                beams, time, -1, self.head_dim // 2, 2
            )
            hidden = layer.out.added(self._attend(layer, qkv, step, i), hidden)
            gate, up = layer.gate_up(layer.mlp_norm(hidden)).split(self.inner_size, -1)
            hidden = layer.down.added(F.silu(gate).mul_(up), hidden)
            step.watch(i + 1, hidden)
        return hidden

    def weights(self) -> Iterator[Tensor]:
        """Yield every weight as it lies in memory; gains that are folded lie in their products."""
        yield self.embedding
        for layer in self.layers:
            for part in (layer.attention_norm, layer.qkv, layer.qk_norm, layer.out):
                yield from part.weights if part else ()
            for part in (layer.mlp_norm, layer.gate_up, layer.down):
                yield from part.weights
        yield from (*self.norm.weights, *self.head.weights)

    def for_all_heads(self, rotations: Tensor) -> Tensor:
        """Return rotations `[time, head_dim / 2]` as a `Pass` takes them."""
        time, half = rotations.shape
        every = rotations.new_ones(self.heads + 2 * self.kv_heads, time, half)
        every[: self.heads + self.kv_heads] = rotations
        return every

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits of hidden states `[rows, hidden]`, shape `[rows, vocab]`."""
        return self.head(self.norm(hidden))

    def _attend(self, layer: Layer, qkv: Tensor, step: Pass, place: int) -> Tensor:
        """Return what the heads read, shape `[beams · time, heads · head_dim]`.

        Args:
            layer: whose norms are used.
            qkv: queries, keys and values of the new positions,
                `[beams, time, heads + 2 · kv_heads, head_dim / 2, 2]`; for Qwen3 edited.
            step: the pass.
            place: index of the layer.
        """
        beams, time = qkv.shape[:2]
        if layer.qk_norm is not None:
            queries_and_keys = qkv[:, :, : self.heads + self.kv_heads].flatten(3)
            queries_and_keys.copy_(layer.qk_norm(queries_and_keys))
        queries, new = _rotated(qkv, step.rotations).split((self.heads, 2 * self.kv_heads), dim=1)
        step.write(place, new)
        if self.group > 1:  # queries that attend to the same keys stand below each other as rows
            queries = queries.reshape(beams, self.kv_heads, self.group * time, self.head_dim)
        read = F.scaled_dot_product_attention(
            queries.to(self.dtype), step.keys[place], step.values[place], attn_mask=step.mask
        )
        if time > 1:  # on CUDA what is read lies as the kernel that was chosen left it
            read = read.reshape(beams, self.heads, time, self.head_dim).transpose(1, 2)
        rows: Tensor = read.reshape(beams * time, -1)
        return rows


def numbers(weight: Weight) -> Tensor:
    """Return a weight of numbers; raise `ModelError` if it is quantised."""
    if not isinstance(weight, Tensor):
        raise ModelError(
            f"a weight is quantised ({weight.kind}), which needs the compiled pass on a CPU; "
            "install gcc or clang, or use --runtime transformers"
        )
    return weight


def _rotated(qkv: Tensor, rotations: Tensor) -> Tensor:
    """Return pairs `[beams, time, heads, head_dim / 2, 2]` rotated, `[beams, heads, time, …]`."""
    pairs = torch.view_as_complex(qkv.float())
    rotated: Tensor = torch.view_as_real(pairs.transpose(1, 2) * rotations).flatten(-2)
    return rotated
