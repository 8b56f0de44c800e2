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

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

SEQ2SEQ_FAMILY = ("t5", "mt5")
SEQ2SEQ_ACTIVATIONS = ("relu", "gelu", "gelu_new", "silu")
LAID_OUT = (torch.float64, torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class T5Layer:
    """One decoder layer; matrices are `[out, in]`, gains `[hidden]`.

    Attributes:
        source_key: makes keys of what the encoder has read.
        up: what the activated gate is multiplied by; None in the first T5, which has none.
    """

    attention_gain: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    source_gain: Tensor
    source_query: Tensor
    source_key: Tensor
    source_value: Tensor
    source_output: Tensor
    mlp_gain: Tensor
    gate: Tensor
    up: Tensor | None
    down: Tensor


class T5Weights:
    """What a T5 decoder is made of, each part read when it is asked for.

    Args:
        network: a transformers module whose decoder `is_t5`.
        dtype: what everything is converted to.

    Raises:
        ModelError: its weights are not those that its config promises.
    """

    def __init__(self, network: PreTrainedModel, dtype: torch.dtype) -> None:
        config = network.config
        self._network, self._dtype, self._config = network, dtype, config
        self.heads, self.head_dim = int(config.num_heads), int(config.d_kv)
        self.hidden, self.inner_size = int(config.d_model), int(config.d_ff)
        self.num_layers = int(config.num_decoder_layers)
        self.epsilon = float(config.layer_norm_epsilon)
        self.activation = str(config.dense_act_fn)
        self.head_scale = self.hidden**-0.5 if _scales_its_output(config) else 1.0
        self.vocab_size = int(config.vocab_size)

    def embedding(self) -> Tensor:
        """Return the decoder's embedding, `[vocab, hidden]`."""
        return self._find("decoder.embed_tokens.weight", self.vocab_size, self.hidden)

    def gain(self) -> Tensor:
        """Return the gain of the last norm, `[hidden]`."""
        return self._find("decoder.final_layer_norm.weight", self.hidden)

    def head(self) -> Tensor:
        """Return the last product, `[vocab, hidden]`; its input is yet to be scaled."""
        return self._find("lm_head.weight", self.vocab_size, self.hidden)

    def layers(self) -> Iterator[T5Layer]:
        """Yield the layers in order."""
        return map(self._layer, range(self.num_layers))

    def bias(self, length: int) -> Tensor:
        """Return what attention adds for a distance of 0 … length − 1, shape `[heads, length]`.

        A key so far before its query falls in a bucket: near ones have their own, far ones share
        one with others, by the logarithm (Raffel et al., 2020, section 2.1).
        """
        buckets = int(self._config.relative_attention_num_buckets)
        furthest = int(self._config.relative_attention_max_distance)
        name = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        table = self._find(name, buckets, self.heads)
        near = buckets // 2
        distances = torch.arange(length, device=table.device)
        # In single precision and this order, as transformers does: elsewhere another bucket begins.
        far = torch.log(distances.clamp(min=near).float() / near) / math.log(furthest / near)
        shared = (near + (far * (buckets - near)).long()).clamp(max=buckets - 1)
        return table[torch.where(distances < near, distances, shared)].t().contiguous()

    def _layer(self, place: int) -> T5Layer:
        own, source, mlp = (f"decoder.block.{place}.layer.{part}." for part in range(3))
        hidden, read, inner = self.hidden, self.heads * self.head_dim, self.inner_size
        names = [f"{own}SelfAttention.", f"{source}EncDecAttention."]
        query, key, value, source_query, source_key, source_value = (
            self._find(f"{name}{part}.weight", read, hidden) for name in names for part in "qkv"
        )
        output, source_output = (self._find(f"{name}o.weight", hidden, read) for name in names)
        gains = (self._find(f"{part}layer_norm.weight", hidden) for part in (own, source, mlp))
        attention_gain, source_gain, mlp_gain = gains
        inside = f"{mlp}DenseReluDense."
        first = ("wi_0", "wi_1") if self._config.is_gated_act else ("wi",)
        gate, *up = (self._find(f"{inside}{name}.weight", inner, hidden) for name in first)
        return T5Layer(
            attention_gain=attention_gain,
            query=query,
            key=key,
            value=value,
            output=output,
            source_gain=source_gain,
            source_query=source_query,
            source_key=source_key,
            source_value=source_value,
            source_output=source_output,
            mlp_gain=mlp_gain,
            gate=gate,
            up=up[0] if up else None,
            down=self._find(f"{inside}wo.weight", hidden, inner),
        )

    def _find(self, name: str, *shape: int) -> Tensor:
        found = check_tensor(name, found_in(self._network, name), shape, self._network.device)
        return found.detach().to(self._dtype)


def is_t5(config: PreTrainedConfig) -> bool:
    """Whether the decoder of a transformers config is one that is computed here."""
    return bool(
        config.model_type in SEQ2SEQ_FAMILY
        and config.is_encoder_decoder
        and getattr(config, "dense_act_fn", None) in SEQ2SEQ_ACTIVATIONS
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
