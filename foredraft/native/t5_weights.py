"""The weights of T5's decoder and its cousins, read part by part: T5, T5 v1.1, FLAN-T5, mT5.

Their encoder stays transformers': it runs once a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from foredraft.native.shapes import check_tensor, found_in
from foredraft.native.weights import LayerWeights, Matrix, Rotations, Weight

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

SEQ2SEQ_FAMILY = ("t5", "mt5")
ACTIVATION_NAMES = {"relu": "relu", "gelu_new": "gelu", "silu": "silu", "gelu": "exact_gelu"}
LAID_OUT = (torch.float64, torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Nearness:
    """What attention adds to a score by how far before its query a key stands.

    Near distances have a number of their own, far ones share one with others, by the logarithm
    (Raffel et al., 2020, section 2.1).

    Attributes:
        table: shape `[buckets, heads]`.
        furthest: a distance that falls in the last bucket, as do all beyond it.
    """

    table: Tensor
    furthest: int

    def __call__(self, length: int) -> Tensor:
        """Return what is added for a distance of 0 … length − 1, shape `[heads, length]`."""
        buckets = len(self.table)
        near = buckets // 2
        distances = torch.arange(length, device=self.table.device)
        # In single precision and this order, as transformers does: elsewhere another bucket begins.
        far = torch.log(distances.clamp(min=near).float() / near) / math.log(self.furthest / near)
        shared = (near + (far * (buckets - near)).long()).clamp(max=buckets - 1)
        return self.table[torch.where(distances < near, distances, shared)].t().contiguous()


class T5Weights:
    """What a T5 decoder is made of, each part read when it is asked for.

    Args:
        network: a transformers module whose decoder `is_t5`.
        dtype: what everything is converted to; None leaves each tensor as it is.

    Raises:
        ModelError: its weights are not those that its config promises.
    """

    def __init__(self, network: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
        config = network.config
        self._network, self._dtype, self._config = network, dtype, config
        self.heads = self.kv_heads = int(config.num_heads)
        self.head_dim, self.turned = int(config.d_kv), 0
        self.embedding_scale = self.query_scale = 1.0
        self.rotations: list[Rotations] = []
        self.hidden, self.inner_size = int(config.d_model), int(config.d_ff)
        self.num_layers = int(config.num_decoder_layers)
        self.epsilon = float(config.layer_norm_epsilon)
        self.activation = ACTIVATION_NAMES[config.dense_act_fn]
        self.vocab_size = int(config.vocab_size)
        buckets = int(config.relative_attention_num_buckets)
        name = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        furthest = int(config.relative_attention_max_distance)
        self.nearness = Nearness(self._find(name, buckets, self.heads), furthest)

    def embedding(self) -> Tensor:
        """Return the decoder's embedding, `[vocab, hidden]`."""
        return self._find("decoder.embed_tokens.weight", self.vocab_size, self.hidden)

    def gain(self) -> Tensor:
        """Return the gain of the last norm, by which the head's input is scaled too, `[hidden]`."""
        gain = self._find("decoder.final_layer_norm.weight", self.hidden)
        scale = self.hidden**-0.5 if _scales_its_output(self._config) else 1.0
        return gain.to(torch.promote_types(gain.dtype, torch.float32)) * scale

    def head(self, embedding: Weight) -> Matrix:
        """Return the last product; its weight is `embedding` itself where they are equal."""
        weight = self._find("lm_head.weight", self.vocab_size, self.hidden)
        is_tied = isinstance(embedding, Tensor) and torch.equal(weight, embedding)
        return Matrix(embedding if is_tied else weight, None)

    def source(self) -> Tensor:
        """Return what makes keys and values of what was read, `[layers · 2 · read, hidden]`."""
        names = [f"decoder.block.{i}.layer.1.EncDecAttention." for i in range(self.num_layers)]
        shape = (self.heads * self.head_dim, self.hidden)
        return torch.cat([self._find(f"{n}{part}.weight", *shape) for n in names for part in "kv"])

    def layers(self) -> Iterator[LayerWeights]:
        """Yield the layers in order."""
        return map(self._layer, range(self.num_layers))

    def _layer(self, place: int) -> LayerWeights:
        own, source, mlp = (f"decoder.block.{place}.layer.{part}." for part in range(3))
        hidden, read, inner = self.hidden, self.heads * self.head_dim, self.inner_size
        attention, reading = f"{own}SelfAttention.", f"{source}EncDecAttention."
        inside = f"{mlp}DenseReluDense."
        gate, up = ("wi_0", "wi_1") if self._config.is_gated_act else ("wi", None)
        return LayerWeights(
            attention_gain=self._find(f"{own}layer_norm.weight", hidden),
            attention_end_gain=None,
            query=self._matrix(f"{attention}q", read, hidden),
            key=self._matrix(f"{attention}k", read, hidden),
            value=self._matrix(f"{attention}v", read, hidden),
            query_gain=None,
            key_gain=None,
            output=self._matrix(f"{attention}o", hidden, read),
            mlp_gain=self._find(f"{mlp}layer_norm.weight", hidden),
            mlp_end_gain=None,
            gate=self._matrix(inside + gate, inner, hidden),
            up=self._matrix(inside + up, inner, hidden) if up else None,
            down=self._matrix(f"{inside}wo", hidden, inner),
            source_gain=self._find(f"{source}layer_norm.weight", hidden),
            source_query=self._matrix(f"{reading}q", read, hidden),
            source_output=self._matrix(f"{reading}o", hidden, read),
        )

    def _matrix(self, name: str, *shape: int) -> Matrix:
        return Matrix(self._find(f"{name}.weight", *shape), None)

    def _find(self, name: str, *shape: int) -> Tensor:
        found = check_tensor(name, found_in(self._network, name), shape, self._network.device)
        return found.detach().to(self._dtype or found.dtype)


def is_t5(config: PreTrainedConfig) -> bool:
    """Whether the decoder of a transformers config is one that is computed here."""
    return bool(
        config.model_type in SEQ2SEQ_FAMILY
        and config.is_encoder_decoder
        and getattr(config, "dense_act_fn", None) in ACTIVATION_NAMES
        and getattr(config, "quantization_config", None) is None
    )


def has_one_precision(network: PreTrainedModel) -> bool:
    """Whether all weights are of one precision, which can be computed in: float16 overflows."""
    kinds = {weight.dtype for weight in network.parameters()}
    return len(kinds) == 1 and kinds <= set(LAID_OUT)


def _scales_its_output(config: PreTrainedConfig) -> bool:
    """Whether the head's input is scaled: in the first T5, which has no head of its own."""
    stated = getattr(config, "scale_decoder_outputs", None)  # since transformers 5.24 or so
    if stated is None:
        stated = config.model_type == "t5" and config.tie_word_embeddings
    return bool(stated)
