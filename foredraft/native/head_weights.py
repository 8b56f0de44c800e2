"""The weights of a head, read part by part for the compiled pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foredraft.native.shapes import rotations_of
from foredraft.native.weights import LayerWeights, Matrix, Rotations, Weight, neighbours

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from foredraft.models.head_module import HeadModule

Round = Callable[[Tensor], Weight]


class HeadWeights:
    """What a head of one layer is made of, in the order in which a pass reads it.

    Args:
        module: the head, with its tables of tokens and its output layer.
        embedding: of the target, or its own, `[vocab, hidden]`; None: that of `Laid`'s `words`.
        rounded: what its matrices are rounded to.

    Attributes:
        tokens: that the columns of its logits stand for, ascending, `[columns]`.
        residual_is_normed: see `HeadConfig`.
    """

    num_layers, embedding_scale, nearness = 1, 1.0, None

    def __init__(self, module: HeadModule, embedding: Tensor | None, rounded: Round) -> None:
        config = module.config.layer
        self._module, self._embedding, self._rounded = module, embedding, rounded
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.inner_size = int(config.head_dim), config.intermediate_size
        self.epsilon, self.activation = float(config.rms_norm_eps), "silu"
        self.query_scale = 1 / math.sqrt(self.head_dim)
        self.rotations = [Rotations(*found) for found in rotations_of(module.rotary_emb)]
        self.turned = 2 * len(self.rotations[0].frequencies)
        self.residual_is_normed = module.config.norm_before_residual
        self.tokens = module.tokens.to(torch.int64).contiguous()

    def embedding(self) -> Weight:
        """Return the embedding, `[vocab, hidden]`."""
        assert self._embedding is not None, "it is the target's"
        return self._embedding

    def head(self) -> Matrix:
        """Return the last product, of as many columns as there are tokens."""
        return Matrix(self._rounded(self._module.output.detach()), None)

    def gain(self) -> Tensor:
        """Return the gain of the last norm, `[hidden]`."""
        return self._module.norm.weight.detach()

    def word_gain(self) -> Tensor:
        """Return the gain of the embeddings' norm, `[hidden]`."""
        return self._module.layer.input_layernorm.weight.detach()

    def fuse(self) -> Matrix:
        """Return what makes a state of the target's features, `[hidden, width]`."""
        return self._matrix(self._module.fc)

    def layers(self) -> Iterator[LayerWeights]:
        """Yield the layer; its products before attention read embedding and state side by side."""
        layer = self._module.layer
        attention, mlp = layer.self_attn, layer.mlp
        yield LayerWeights(
            attention_gain=layer.hidden_norm.weight.detach(),
            attention_end_gain=None,
            query=self._matrix(attention.q_proj, self.heads),
            key=self._matrix(attention.k_proj, self.kv_heads),
            value=self._matrix(attention.v_proj),
            query_gain=self._gain(attention.q_norm),
            key_gain=self._gain(attention.k_norm),
            output=self._matrix(attention.o_proj),
            mlp_gain=layer.post_attention_layernorm.weight.detach(),
            mlp_end_gain=None,
            gate=self._matrix(mlp.gate_proj),
            up=self._matrix(mlp.up_proj),
            down=self._matrix(mlp.down_proj),
            turns=0,
        )

    def _matrix(self, linear: nn.Linear, heads: int = 0) -> Matrix:
        """Return a product; of queries and keys what rotates together is made neighbours."""
        # The type says that there always is a bias.
        weight, bias = linear.weight.detach(), getattr(linear, "bias", None)
        if heads:
            weight = neighbours(weight, heads, self.turned)
            bias = None if bias is None else neighbours(bias, heads, self.turned)
        return Matrix(self._rounded(weight), None if bias is None else bias.detach())

    def _gain(self, norm: LlamaRMSNorm | None) -> Tensor | None:
        return None if norm is None else neighbours(norm.weight.detach(), 1, self.turned)
