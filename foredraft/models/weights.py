"""The Llama family's weights, read once from a transformers module for the native runtimes.

Llama, Mistral without a sliding window, Qwen2 and Qwen3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foredraft.models.shapes import check_shapes

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
STEADY_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies do not depend on the length


@dataclass(frozen=True, slots=True)
class Matrix:
    """x → x · weightᵀ + bias; the weight is `[out, in]`, the bias `[out]` or None."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer; the gains `[head_dim]` of queries and keys are Qwen3's, None elsewhere."""

    attention_gain: Tensor
    qkv: Matrix
    query_gain: Tensor | None
    key_gain: Tensor | None
    out: Matrix
    mlp_gain: Tensor
    gate_up: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True)
class Rotations:
    """How far queries and keys turn at a position (Su et al., 2021).

    Attributes:
        frequencies: shape `[head_dim / 2]`.
        scale: of what is turned; other than 1 for some long contexts.
    """

    frequencies: Tensor
    scale: float

    def __call__(self, length: int) -> Tensor:
        """Return the rotations of positions 0 … length − 1, complex, `[length, head_dim / 2]`."""
        device = self.frequencies.device
        positions = torch.arange(length, device=device, dtype=torch.float32)
        angles = torch.outer(positions, self.frequencies)
        return torch.polar(torch.full_like(angles, self.scale), angles)


class Weights:
    """What a network of the family is made of.

    The halves of a query and of a key that rotate together (Su et al., 2021) are made neighbours,
    so that a rotation is one product of complex numbers. Their order does not matter to attention.

    Args:
        network: a causal LM whose config `is_in_family`.

    Raises:
        ModelError: its weights are not those that its config promises.
    """

    def __init__(self, network: Any) -> None:
        check_shapes(network)
        config, inner = network.config, network.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = int(inner.layers[0].self_attn.head_dim)
        self.inner_size = config.intermediate_size
        self.epsilon = float(config.rms_norm_eps)
        self.embedding: Tensor = inner.embed_tokens.weight.detach()  # [vocab, hidden]
        self.layers = [self._layer(layer) for layer in inner.layers]
        self.gain: Tensor = inner.norm.weight.detach()
        self.head = _joined(_read(network.lm_head))
        rotary = inner.rotary_emb
        self.rotations = Rotations(rotary.inv_freq.float(), float(rotary.attention_scaling))

    def _layer(self, layer: Any) -> LayerWeights:
        attention, mlp = layer.self_attn, layer.mlp
        queries = _read(attention.q_proj, self.heads)
        keys = _read(attention.k_proj, self.kv_heads)
        normed = hasattr(attention, "q_norm")
        return LayerWeights(
            layer.input_layernorm.weight.detach(),
            _joined(queries, keys, _read(attention.v_proj)),
            _neighbours(attention.q_norm.weight.detach(), 1) if normed else None,
            _neighbours(attention.k_norm.weight.detach(), 1) if normed else None,
            _joined(_read(attention.o_proj)),
            layer.post_attention_layernorm.weight.detach(),
            _joined(_read(mlp.gate_proj), _read(mlp.up_proj)),
            _joined(_read(mlp.down_proj)),
        )


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


def _joined(*parts: tuple[Tensor, Tensor]) -> Matrix:
    """Return one product for several weights, with their biases, that read the same input."""
    bias = torch.cat([bias for _, bias in parts])
    return Matrix(torch.cat([weight for weight, _ in parts]), bias if bias.any() else None)
