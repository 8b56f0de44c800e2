"""The Llama family as plain arithmetic: weights laid out once, no module between the products.

Llama, Mistral without a sliding window, Qwen2 and Qwen3. Knows tensors; what is remembered, and how
much of it can be forgotten, is its caller's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specdec.models.linear import Linear, make_linear

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
STEADY_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies do not depend on the length


class Norm:
    """Root-mean-square normalisation of the last dimension (Zhang and Sennrich, 2019).

    Args:
        weight: of any shape that broadcasts; its last dimension is normalised.
        epsilon: added to the mean square.
    """

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        self._size, self._weight, self._epsilon = list(weight.shape[-1:]), weight, epsilon
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
    """x / √(Σx² + size·ε): a norm whose weight, and √size, stand in the product behind it.

    Args:
        size: of the last dimension.
        epsilon: added to the mean square.
    """

    def __init__(self, size: int, epsilon: float) -> None:
        self._floor = torch.tensor((size * epsilon) ** 0.5)

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
    """

    rotations: Tensor
    mask: Tensor | None
    written: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def write(self, place: int, new: Tensor) -> None:
        """Remember new keys and values of a layer, `[beams, 2 · kv_heads, time, head_dim]`."""
        self.written[place].copy_(new)


class Llama:
    """The network, read from a transformers module.

    The halves of a query and of a key that rotate together (Su et al., 2021) are made neighbours
    when the weights are read, so that a rotation is one product of complex numbers. Their order
    does not matter to attention.

    Args:
        network: a causal LM whose config `is_in_family`, in the precision to compute in.
        int8: round the weights of the layers to 8 bits; see `Int8Linear`.
    """

    def __init__(self, network: Any, *, int8: bool = False) -> None:
        config, inner = network.config, network.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = inner.layers[0].self_attn.head_dim
        self.group = self.heads // self.kv_heads  # queries that share a key
        self.inner_size = config.intermediate_size
        weight: Tensor = inner.embed_tokens.weight
        self.embedding = weight.detach()
        self.dtype, self.device = weight.dtype, weight.device
        # Half precision would round the product of two weights; a GPU has a kernel for norms.
        self._folds = weight.dtype == torch.float32 and weight.device.type == "cpu"
        self.layers = [self._layer(layer, int8) for layer in inner.layers]
        self.norm, gain = self._norm(inner.norm)
        self.head = _fused(_read(network.lm_head), int8=int8, gain=gain)
        self._frequencies: Tensor = inner.rotary_emb.inv_freq.float()  # [head_dim / 2]
        self._rope_scale = float(inner.rotary_emb.attention_scaling)

    def _layer(self, layer: Any, int8: bool) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        queries = _read(attention.q_proj, self.heads)
        keys = _read(attention.k_proj, self.kv_heads)
        attention_norm, attention_gain = self._norm(layer.input_layernorm)
        mlp_norm, mlp_gain = self._norm(layer.post_attention_layernorm)
        return Layer(
            attention_norm,
            _fused(queries, keys, _read(attention.v_proj), int8=int8, gain=attention_gain),
            self._qk_norm(attention),
            _fused(_read(attention.o_proj), int8=int8),
            mlp_norm,
            _fused(_read(mlp.gate_proj), _read(mlp.up_proj), int8=int8, gain=mlp_gain),
            _fused(_read(mlp.down_proj), int8=int8),
        )

    def _norm(self, norm: Any) -> tuple[Norm | UnitNorm, Tensor | None]:
        """Return a norm, and what the columns of the product behind it are multiplied by."""
        weight: Tensor = norm.weight.detach()
        if not self._folds:
            return Norm(weight, norm.variance_epsilon), None
        return UnitNorm(len(weight), norm.variance_epsilon), weight * len(weight) ** 0.5

    def _qk_norm(self, attention: Any) -> Norm | None:
        if not hasattr(attention, "q_norm"):
            return None
        rows = [_neighbours(attention.q_norm.weight.detach(), 1)] * self.heads
        rows += [_neighbours(attention.k_norm.weight.detach(), 1)] * self.kv_heads
        return Norm(torch.stack(rows), attention.q_norm.variance_epsilon)  # [heads, head_dim]

    def rotations(self, length: int) -> Tensor:
        """Return the rotations of positions 0 … length − 1, complex, `[length, head_dim / 2]`."""
        positions = torch.arange(length, device=self.device, dtype=torch.float32)
        angles = torch.outer(positions, self._frequencies)
        return torch.polar(torch.full_like(angles, self._rope_scale), angles)

    def __call__(self, input_ids: Tensor, step: Pass) -> Tensor:
        """Return the last hidden states of ids `[beams, time]`, shape `[beams · time, hidden]`."""
        beams, time = input_ids.shape
        hidden = F.embedding(input_ids.flatten(), self.embedding)  # [beams · time, hidden]
        for i, layer in enumerate(self.layers):
            qkv = layer.qkv(layer.attention_norm(hidden)).view(
                beams, time, -1, self.head_dim // 2, 2
            )
            hidden = layer.out.added(self._attend(layer, qkv, step, i), hidden)
            gate, up = layer.gate_up(layer.mlp_norm(hidden)).split(self.inner_size, -1)
            hidden = layer.down.added(F.silu(gate).mul_(up), hidden)
        return hidden

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
        if time > 1:
            read = read.view(beams, self.heads, time, self.head_dim).transpose(1, 2)
        rows: Tensor = read.reshape(beams * time, -1)
        return rows


def _rotated(qkv: Tensor, rotations: Tensor) -> Tensor:
    """Return pairs `[beams, time, heads, head_dim / 2, 2]` rotated, `[beams, heads, time, …]`."""
    pairs = torch.view_as_complex(qkv.float())
    rotated: Tensor = torch.view_as_real(pairs.transpose(1, 2) * rotations).flatten(-2)
    return rotated


def is_in_family(config: Any) -> bool:
    """Whether the causal LM of a transformers config is one that this file computes exactly."""
    rope = getattr(config, "rope_parameters", None) or {}
    layer_types = set(getattr(config, "layer_types", None) or ("full_attention",))
    slides = getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None)
    return (
        config.model_type in FAMILY
        and getattr(config, "hidden_act", "") == "silu"
        and rope.get("rope_type") in STEADY_ROPE
        and layer_types == {"full_attention"}
        and not slides
        and getattr(config, "quantization_config", None) is None
    )


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    """Put dimension i of each head beside dimension i + head_dim / 2, with which it rotates."""
    pairs: Tensor = rows.unflatten(0, (heads, 2, -1)).transpose(1, 2)
    return pairs.flatten(0, 2)


def _read(linear: Any, rotated_heads: int = 0) -> tuple[Tensor, Tensor]:
    """Return a module's weight and its bias, zero if it has none; neighbours if it rotates."""
    weight = linear.weight.detach()
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
    if rotated_heads:
        return _neighbours(weight, rotated_heads), _neighbours(bias, rotated_heads)
    return weight, bias


def _fused(*parts: tuple[Tensor, Tensor], int8: bool, gain: Tensor | None = None) -> Linear:
    """Return one product for several weights, with their biases, that read the same input.

    Args:
        parts: weights `[out, in]` and biases `[out]`.
        int8: see `Int8Linear`.
        gain: factors of the input, shape `[in]`; None is 1.
    """
    weight = torch.cat([weight for weight, _ in parts])
    weight = weight if gain is None else weight * gain
    bias = torch.cat([bias for _, bias in parts])
    return make_linear(weight, bias if bias.any() else None, int8=int8)
