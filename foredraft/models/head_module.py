"""A head as a module: one decoder layer that reads what its target's layers have made (EAGLE-3).

Li et al. (2025), "EAGLE-3: Scaling up Inference Acceleration of Large Language Models via
Training-Time Test". Its tensors are named as in checkpoints of the `speculators` library.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.models.llama.modeling_llama import (
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

Keys = tuple[Tensor, Tensor]  # keys and values, `[batch, kv_heads, time, head_dim]`


@dataclass(frozen=True)
class HeadConfig:
    """What a head is.

    Attributes:
        layer: transformers' config of its layer, of the Llama or Qwen3 kind.
        layers: after how many of the target's layers stand the states that it reads.
        target_size: numbers of such a state.
        draft_vocab_size: tokens that it can propose.
        norm_before_residual: whether what attention is added to is normed.
    """

    layer: PreTrainedConfig
    layers: tuple[int, ...]
    target_size: int
    draft_vocab_size: int
    norm_before_residual: bool = False


class HeadAttention(nn.Module):
    """Attention whose queries, keys and values are made of embedding and state side by side."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.head_dim = int(config.head_dim)
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        width, bias = 2 * config.hidden_size, bool(getattr(config, "attention_bias", False))
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.head_dim, config.hidden_size, bias=bias)
        is_normed = config.model_type == "qwen3"
        norm = [LlamaRMSNorm(self.head_dim, config.rms_norm_eps) for _ in "qk"]
        self.q_norm: LlamaRMSNorm | None = norm[0] if is_normed else None
        self.k_norm: LlamaRMSNorm | None = norm[1] if is_normed else None

    def asked(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> tuple[Tensor, Keys]:
        """Return rotated queries, and keys and values, `[batch, heads, time, head_dim]` each."""
        query, key, value = (
            part(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = apply_rotary_pos_emb(query, key, *turns)
        return query, (key, value)


class HeadMlp(nn.Module):
    """The gated network of the layer."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        bias = bool(getattr(config, "mlp_bias", False))
        self.gate_proj = nn.Linear(size, inner, bias=bias)
        self.up_proj = nn.Linear(size, inner, bias=bias)
        self.down_proj = nn.Linear(inner, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to states `[…, hidden]`."""
        made: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return made


class HeadLayer(nn.Module):
    """The decoder layer."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        layer = config.layer
        self._norms_first = config.norm_before_residual
        self.self_attn, self.mlp = HeadAttention(layer), HeadMlp(layer)
        size, epsilon = layer.hidden_size, layer.rms_norm_eps
        self.input_layernorm = LlamaRMSNorm(size, epsilon)
        self.hidden_norm = LlamaRMSNorm(size, epsilon)
        self.post_attention_layernorm = LlamaRMSNorm(size, epsilon)

    def asked(
        self, words: Tensor, states: Tensor, turns: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Keys]:
        """Return what attention is added to, its queries, and its keys and values.

        Args:
            words: embeddings, `[batch, time, hidden]`.
            states: likewise.
            turns: cosines and sines of the positions, `[batch, time, head_dim]` each.
        """
        normed = self.hidden_norm(states)
        both = torch.cat((self.input_layernorm(words), normed), dim=-1)
        query, keys = self.self_attn.asked(both, turns)
        return normed if self._norms_first else states, query, keys

    def answered(self, residual: Tensor, read: Tensor) -> Tensor:
        """Return the new states; heads have read `[batch, heads, time, head_dim]`."""
        states = residual + self.self_attn.o_proj(read.transpose(1, 2).flatten(2))
        made: Tensor = states + self.mlp(self.post_attention_layernorm(states))
        return made


class HeadModule(nn.Module):
    """The head.

    Args:
        config: of it.
        tokens: that its columns stand for, ascending, `[columns]`.
        output: its output layer, `[columns, hidden]`: its own, or those rows of its target's.

    Attributes:
        tokens, output: those; they are no part of its weights.
    """

    tokens: Tensor
    output: Tensor

    def __init__(self, config: HeadConfig, tokens: Tensor, output: Tensor) -> None:
        super().__init__()
        layer = config.layer
        self.config = config
        self.fc = nn.Linear(len(config.layers) * config.target_size, layer.hidden_size, bias=False)
        self.layers = nn.ModuleList([HeadLayer(config)])
        self.norm = LlamaRMSNorm(layer.hidden_size, layer.rms_norm_eps)
        self.rotary_emb = rotary_of(layer)
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("output", output, persistent=False)

    @property
    def layer(self) -> HeadLayer:
        """The one there is."""
        [layer] = self.layers
        assert isinstance(layer, HeadLayer)
        return layer

    def turns(self, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions `[batch, time]`."""
        cosines, sines = self.rotary_emb(states, positions)
        return cosines, sines

    def logits(self, states: Tensor) -> Tensor:
        """Return logits of its own tokens, `[…, columns]`."""
        return F.linear(self.norm(states), self.output)

    def forward(
        self, words: Tensor, states: Tensor, positions: Tensor, past: Keys | None = None
    ) -> tuple[Tensor, Keys]:
        """Read tokens behind others.

        Args:
            words: embeddings of the tokens, `[batch, time, hidden]`.
            states: of the tokens before each: `fc` of the target's features, or what this
                returned, `[batch, time, hidden]`.
            positions: of the tokens, `[batch, time]`.
            past: keys and values of the tokens before.

        Returns:
            The new states, and all keys and values.
        """
        layer = self.layer
        residual, query, keys = layer.asked(words, states, self.turns(states, positions))
        if past is not None:
            key, value = (torch.cat(pair, dim=2) for pair in zip(past, keys, strict=True))
            keys = key, value
        time, seen = query.shape[2], keys[0].shape[2]
        mask = torch.ones(time, seen, dtype=torch.bool, device=query.device).tril(seen - time)
        read = F.scaled_dot_product_attention(query, *keys, attn_mask=mask, enable_gqa=True)
        return layer.answered(residual, read), keys


def rotary_of(config: PreTrainedConfig) -> LlamaRotaryEmbedding:
    """Return what turns queries and keys, by a config of the Llama or Qwen3 kind."""
    made: LlamaRotaryEmbedding = LlamaRotaryEmbedding(config)  # type: ignore[arg-type]
    return made
