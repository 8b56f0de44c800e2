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


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer's weights; `qk_norm` is Qwen3's, None elsewhere."""

    attention_norm: Norm
    qkv: Linear
    qk_norm: Norm | None
    out: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Pass:
    """What the layers of one forward pass share.

    Attributes:
        cos: of the new positions' rotations, shape `[time, 1, head_dim]`.
        sin: likewise; its first half is negated, so that a roll takes the place of a rotation.
        mask: what attention adds to its scores, shape `[group · time, seen]`; None for one token.
        written: where new keys and values go, two a layer, `[beams, kv_heads, time, head_dim]`.
        seen: keys and values to attend to, two a layer, `[beams, kv_heads, seen, head_dim]`.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    written: tuple[Tensor, ...]
    seen: tuple[Tensor, ...]

    def write(self, place: int, new: Tensor) -> None:
        """Remember new keys or values, `[beams, kv_heads, time, head_dim]`."""
        self.written[place].copy_(new)


class Llama:
    """The network, read from a transformers module.

    Args:
        network: a causal LM whose config `is_in_family`, in the precision to compute in.
        int8: round the weights of the layers to 8 bits; see `Int8Linear`.
    """

    def __init__(self, network: Any, *, int8: bool = False) -> None:
        config, inner = network.config, network.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = inner.layers[0].self_attn.head_dim
        self.group = self.heads // self.kv_heads  # queries that share a key
        weight: Tensor = inner.embed_tokens.weight
        self.embedding = weight.detach()
        self.dtype, self.device = weight.dtype, weight.device
        self.layers = [self._layer(layer, int8) for layer in inner.layers]
        self.norm = _norm(inner.norm)
        self.head = make_linear(network.lm_head.weight.detach(), network.lm_head.bias, int8=int8)
        self._frequencies: Tensor = inner.rotary_emb.inv_freq.float()  # [head_dim / 2]
        self._rope_scale = float(inner.rotary_emb.attention_scaling)

    def _layer(self, layer: Any, int8: bool) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return Layer(
            _norm(layer.input_layernorm),
            _fused(attention.q_proj, attention.k_proj, attention.v_proj, int8=int8),
            self._qk_norm(attention),
            _fused(attention.o_proj, int8=int8),
            _norm(layer.post_attention_layernorm),
            _fused(mlp.gate_proj, mlp.up_proj, int8=int8),
            _fused(mlp.down_proj, int8=int8),
        )

    def _qk_norm(self, attention: Any) -> Norm | None:
        if not hasattr(attention, "q_norm"):
            return None
        rows = [attention.q_norm.weight.detach()] * self.heads
        rows += [attention.k_norm.weight.detach()] * self.kv_heads
        return Norm(torch.stack(rows), attention.q_norm.variance_epsilon)  # [heads, head_dim]

    def rotations(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cosines and signed sines of positions 0 … length − 1, `[length, 1, head_dim]`."""
        positions = torch.arange(length, device=self.device, dtype=torch.float32)
        angles = torch.outer(positions, self._frequencies)[:, None]  # [length, 1, head_dim / 2]
        cos, sin = angles.cos() * self._rope_scale, angles.sin() * self._rope_scale
        both = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        return both[0].to(self.dtype), both[1].to(self.dtype)

    def __call__(self, input_ids: Tensor, step: Pass) -> Tensor:
        """Return the last hidden states of ids `[beams, time]`, shape `[beams · time, hidden]`."""
        beams, time = input_ids.shape
        hidden = F.embedding(input_ids.flatten(), self.embedding)  # [beams · time, hidden]
        for i, layer in enumerate(self.layers):
            qkv = layer.qkv(layer.attention_norm(hidden)).view(beams, time, -1, self.head_dim)
            hidden = hidden + layer.out(self._attend(layer, qkv, step, 2 * i))
            gate, up = layer.gate_up(layer.mlp_norm(hidden)).chunk(2, -1)
            hidden = hidden + layer.down(F.silu(gate).mul_(up))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits of hidden states `[rows, hidden]`, shape `[rows, vocab]`."""
        return self.head(self.norm(hidden))

    def _attend(self, layer: Layer, qkv: Tensor, step: Pass, place: int) -> Tensor:
        """Return what the heads read, shape `[beams · time, heads · head_dim]`.

        Args:
            layer: whose norms are used.
            qkv: queries, keys and values of the new positions,
                `[beams, time, heads + 2 · kv_heads, head_dim]`.
            step: the pass.
            place: of this layer's keys in `step.seen`; values follow.
        """
        beams, time = qkv.shape[:2]
        turned, values = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if layer.qk_norm is not None:
            turned = layer.qk_norm(turned)
        rolled = turned.roll(self.head_dim // 2, -1)
        turned = torch.addcmul(turned * step.cos, rolled, step.sin)
        queries, keys = turned.split((self.heads, self.kv_heads), dim=2)
        step.write(place, keys.transpose(1, 2))
        step.write(place + 1, values.transpose(1, 2))
        # Queries of one group attend to the same keys: they stand below each other as rows.
        queries = queries.unflatten(2, (self.kv_heads, self.group)).permute(0, 2, 3, 1, 4)
        read = F.scaled_dot_product_attention(
            queries.flatten(2, 3),  # [beams, kv_heads, group · time, head_dim]
            step.seen[place],
            step.seen[place + 1],
            attn_mask=step.mask,
        )
        read = read.unflatten(2, (self.group, time)).permute(0, 3, 1, 2, 4)
        rows: Tensor = read.reshape(beams * time, -1)
        return rows


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


def _norm(norm: Any) -> Norm:
    return Norm(norm.weight.detach(), norm.variance_epsilon)


def _fused(*linears: Any, int8: bool) -> Linear:
    """Return one product for several that read the same input."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    biases = [linear.bias for linear in linears]
    if all(bias is None for bias in biases):
        return make_linear(weight, None, int8=int8)
    rows = zip(biases, linears, strict=True)
    filled = [
        weight.new_zeros(linear.out_features) if bias is None else bias.detach()
        for bias, linear in rows
    ]
    return make_linear(weight, torch.cat(filled), int8=int8)
