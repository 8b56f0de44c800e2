"""The Llama family's weights, read part by part for the native runtimes.

Llama, Mistral without a sliding window, Qwen2 and Qwen3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from foredraft.errors import ModelError
from foredraft.native.shapes import check_shapes, found_in

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
STEADY_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies do not depend on the length
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head"
MATRICES = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
ROWS_AT_ONCE = 1024  # of a matrix that are compared at once


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


class Source(ABC):
    """Where the weights of a causal LM are: in a module, or in files that are not read yet.

    Attributes:
        outline: its transformers module, whose tensors may have no numbers.
        config: of that module.
        device: of the weights.
        dtype: of most of them.
        neighbours: whether the rows of query and key lie so that neighbours rotate together, as in
            a GGUF file of the Llama kind; in transformers' order they do not.
        gains_hold_one: whether the gains of norms hold the one that transformers adds to Gemma's.
    """

    neighbours: bool = False
    gains_hold_one: bool = False
    outline: PreTrainedModel
    config: PreTrainedConfig
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter; it may have no numbers."""

    @abstractmethod
    def find(self, name: str) -> Tensor | None:
        """Return a tensor, None if there is none of that name."""

    @abstractmethod
    def dtype_of(self, name: str) -> torch.dtype:
        """Return the precision in which `find` returns a tensor that there is."""


Given: TypeAlias = "PreTrainedModel | Source"


class Weights:
    """What a network of the family is made of, each part read when it is asked for.

    So a layer can be laid out and dropped before the next is read. The halves of a query and of a
    key that rotate together (Su et al., 2021) are made neighbours, so that a rotation is one
    product of complex numbers. Their order does not matter to attention.

    Args:
        network: a causal LM whose config `is_in_family`: a transformers module or a `Source`.
        dtype: what everything is converted to; None leaves each tensor as it is.

    Raises:
        ModelError: its weights are not those that its config promises.
    """

    def __init__(self, network: Given, dtype: torch.dtype | None = None) -> None:
        source = network if isinstance(network, Source) else _Module(network)
        check_shapes(source.outline, is_unread=source is network)
        config, inner = network.config, source.outline.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = int(inner.layers[0].self_attn.head_dim)
        self.inner_size = config.intermediate_size
        self.epsilon = float(config.rms_norm_eps)
        self.num_layers = len(inner.layers)
        rotary = inner.rotary_emb
        self.rotations = Rotations(rotary.inv_freq.float(), float(rotary.attention_scaling))
        self._source = source
        self._dtype = dtype
        self._is_tied = self._ties(config)

    def embedding(self) -> Tensor:
        """Return the embedding, `[vocab, hidden]`."""
        return self._tensor(EMBEDDING)

    def layers(self) -> Iterator[LayerWeights]:
        """Yield the layers in order."""
        return map(self._layer, range(self.num_layers))

    def gain(self) -> Tensor:
        """Return the gain of the last norm, `[hidden]`."""
        return self._tensor("model.norm.weight")

    def head(self, embedding: Tensor) -> Matrix:
        """Return the last product; its weight is `embedding` itself where the two are tied."""
        if self._is_tied:
            return _joined((embedding, self._bias(HEAD, embedding)))
        return _joined(self._linear(HEAD))

    def fit_bfloat16(self) -> bool:
        """Whether every matrix is the same in bfloat16."""
        names = [EMBEDDING, *([] if self._is_tied else [f"{HEAD}.weight"])]
        for place in range(self.num_layers):
            names += [f"model.layers.{place}.{matrix}.weight" for matrix in MATRICES]
        return all(map(self._is_bfloat16, names))

    def _is_bfloat16(self, name: str) -> bool:
        if self._source.dtype_of(name) == torch.bfloat16:
            return True  # no need to read it
        # A part at a time: both copies of a large embedding would be the most ever held.
        parts = self._tensor(name).split(ROWS_AT_ONCE)
        return all(torch.equal(part.bfloat16().float(), part.float()) for part in parts)

    def _ties(self, config: PreTrainedConfig) -> bool:
        """Whether the head is the embedding, which transformers asks of the numbers too."""
        head = self._source.find(f"{HEAD}.weight")
        if head is None:
            return True
        return bool(config.tie_word_embeddings) and torch.equal(head, self.embedding().to(head))

    def _layer(self, place: int) -> LayerWeights:
        prefix = f"model.layers.{place}."
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        queries = self._linear(attention + "q_proj", self.heads)
        keys = self._linear(attention + "k_proj", self.kv_heads)
        return LayerWeights(
            self._tensor(prefix + "input_layernorm.weight"),
            _joined(queries, keys, self._linear(attention + "v_proj")),
            self._rotated_gain(attention + "q_norm.weight"),
            self._rotated_gain(attention + "k_norm.weight"),
            _joined(self._linear(attention + "o_proj")),
            self._tensor(prefix + "post_attention_layernorm.weight"),
            _joined(self._linear(mlp + "gate_proj"), self._linear(mlp + "up_proj")),
            _joined(self._linear(mlp + "down_proj")),
        )

    def _linear(self, name: str, rotated_heads: int = 0) -> tuple[Tensor, Tensor]:
        """Return a weight and its bias, zero if it has none; neighbours if it rotates."""
        weight = self._tensor(f"{name}.weight")
        bias = self._bias(name, weight)
        if rotated_heads:
            return _neighbours(weight, rotated_heads), _neighbours(bias, rotated_heads)
        return weight, bias

    def _bias(self, name: str, weight: Tensor) -> Tensor:
        bias = self._find(f"{name}.bias")
        return weight.new_zeros(len(weight)) if bias is None else bias

    def _rotated_gain(self, name: str) -> Tensor | None:
        gain = self._find(name)
        return None if gain is None else _neighbours(gain, 1)

    def _find(self, name: str) -> Tensor | None:
        found = self._source.find(name)
        return None if found is None else found.to(self._dtype or found.dtype)

    def _tensor(self, name: str) -> Tensor:
        """Return a tensor that there must be.

        Raises:
            ModelError: there is none of that name.
        """
        found = self._find(name)
        if found is None:
            raise ModelError(f"the weights are incomplete: {name!r} is missing; fetch them again")
        return found


class _Module(Source):
    """The tensors of a transformers module, by their names."""

    def __init__(self, network: PreTrainedModel) -> None:
        self.outline, self.config = network, network.config

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.outline.parameters()

    def find(self, name: str) -> Tensor | None:
        found = found_in(self.outline, name)
        return found.detach() if isinstance(found, Tensor) else None

    def dtype_of(self, name: str) -> torch.dtype:
        found = found_in(self.outline, name)
        return found.dtype if isinstance(found, Tensor) else self.outline.dtype


def is_in_family(config: PreTrainedConfig) -> bool:
    """Whether the causal LM of a transformers config is one that this file computes exactly."""
    rope = getattr(config, "rope_parameters", None) or {}
    layer_types = set(getattr(config, "layer_types", None) or ("full_attention",))
    slides = getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None)
    return bool(
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


def _joined(*parts: tuple[Tensor, Tensor]) -> Matrix:
    """Return one product for several weights, with their biases, that read the same input."""
    [weight, bias], *others = parts
    if others:
        weight = torch.cat([weight for weight, _ in parts])
        bias = torch.cat([bias for _, bias in parts])
    return Matrix(weight, bias if bias.any() else None)
