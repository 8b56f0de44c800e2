"""The weights of the Llama family and its cousins, read part by part for the native runtimes.

Llama, Mistral, Qwen2, Qwen3, SmolLM3, Gemma 3 and Phi-3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from foredraft.errors import ModelError
from foredraft.files import Document
from foredraft.native.blocks import Blocks
from foredraft.native.shapes import check_shapes, found_in, rotations_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

PLAIN = ("llama", "mistral", "qwen2", "qwen3")
FAMILY = (*PLAIN, "smollm3", "gemma3_text", "phi3")
STEADY_ROPE = ("default", "linear", "llama3", "yarn")  # frequencies do not depend on the length
ACTIVATIONS = ("silu", "gelu_pytorch_tanh")
CAPS = ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head"
SLIDING, FULL = "sliding_attention", "full_attention"

Weight: TypeAlias = Tensor | Blocks  # `[out, in]`


@dataclass(frozen=True, slots=True)
class Matrix:
    """x → x · weightᵀ + bias; the weight is `[out, in]`, the bias `[out]` or None."""

    weight: Weight
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer.

    Attributes:
        attention_gain: of the norm before attention, `[hidden]`.
        attention_end_gain: of the norm behind it, which Gemma has; None elsewhere.
        query_gain: of a norm of each query, `[head_dim]`, which Qwen3 and Gemma 3 have.
        up: what the activated gate is multiplied by; None where nothing is gated.
        window: how many positions are attended to; 0: all.
        turns: which `Weights.rotations` queries and keys get; None: they are not rotated.
        source_gain: of the norm before attention to what an encoder has read; None where no layer
            of the network reads it, like all that follows.
        source_query: of that attention.
        source_output: likewise.
    """

    attention_gain: Tensor
    attention_end_gain: Tensor | None
    query: Matrix
    key: Matrix
    value: Matrix
    query_gain: Tensor | None
    key_gain: Tensor | None
    output: Matrix
    mlp_gain: Tensor
    mlp_end_gain: Tensor | None
    gate: Matrix
    up: Matrix | None
    down: Matrix
    window: int = 0
    turns: int | None = None
    source_gain: Tensor | None = None
    source_query: Matrix | None = None
    source_output: Matrix | None = None


@dataclass(frozen=True, slots=True)
class Rotations:
    """How far queries and keys turn at a position (Su et al., 2021).

    Attributes:
        frequencies: shape `[turned / 2]`, of the first `turned` dimensions of a head.
        scale: of what is turned; other than 1 for some long contexts.
    """

    frequencies: Tensor
    scale: float

    def __call__(self, length: int) -> Tensor:
        """Return the rotations of positions 0 … length − 1, complex, `[length, turned / 2]`."""
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
        neighbours: whether the dimensions of queries and keys that rotate together stand side by
            side, not half a head apart.
        gains_hold_one: whether 1 is in Gemma's gains already.
    """

    neighbours = False
    gains_hold_one = False
    outline: PreTrainedModel
    config: PreTrainedConfig
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter; it may have no numbers."""

    @abstractmethod
    def find(self, name: str) -> Weight | None:
        """Return a tensor or, of matrices, blocks; None if there is none of that name."""

    def holds(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return self.find(name) is not None


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
        attention = inner.layers[0].self_attn
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.inner_size = int(attention.head_dim), config.intermediate_size
        self.epsilon = float(config.rms_norm_eps)
        self.num_layers = len(inner.layers)
        self.query_scale = float(attention.scaling)
        self.embedding_scale = float(getattr(inner.embed_tokens, "scalar_embed_scale", 1.0))
        self.activation = "silu" if _activation(config) == "silu" else "gelu"
        self.rotations = [Rotations(*found) for found in rotations_of(inner.rotary_emb)]
        self.turned = 2 * len(self.rotations[0].frequencies)
        self.nearness = None  # rotations say where a key stands
        self._config = config
        self._source = source
        self._dtype = dtype
        self._is_tied = self._ties(config)
        self._lacks_one = config.model_type.startswith("gemma") and not source.gains_hold_one

    def embedding(self) -> Weight:
        """Return the embedding, `[vocab, hidden]`."""
        return self._present(EMBEDDING)

    def layers(self) -> Iterator[LayerWeights]:
        """Yield the layers in order."""
        return map(self._layer, range(self.num_layers))

    def gain(self) -> Tensor:
        """Return the gain of the last norm, `[hidden]`."""
        return self._gain("model.norm.weight")

    def head(self, embedding: Weight) -> Matrix:
        """Return the last product; its weight is `embedding` itself where the two are tied."""
        weight = embedding if self._is_tied else self._present(f"{HEAD}.weight")
        return Matrix(weight, self._bias(HEAD))

    def _ties(self, config: PreTrainedConfig) -> bool:
        """Whether the head is the embedding, which transformers asks of the numbers too."""
        if not self._source.holds(f"{HEAD}.weight"):
            return True
        head, embedding = self._find(f"{HEAD}.weight"), self.embedding()
        if not (isinstance(head, Tensor) and isinstance(embedding, Tensor)):
            return False
        return bool(config.tie_word_embeddings) and torch.equal(head, embedding.to(head))

    def _layer(self, place: int) -> LayerWeights:
        prefix = f"model.layers.{place}."
        attention, norm = f"{prefix}self_attn.", prefix + "{}_layernorm.weight"
        after = "post_attention" if self._source.holds(norm.format("pre_feedforward")) else None
        query, key, value = self._side_by_side(attention, "qkv_proj", "q_proj", "k_proj", "v_proj")
        gate, up = self._side_by_side(f"{prefix}mlp.", "gate_up_proj", "gate_proj", "up_proj")
        window, turns = self._reach(place)
        return LayerWeights(
            attention_gain=self._gain(norm.format("input")),
            attention_end_gain=self._gain(norm.format(after)) if after else None,
            query=self._turned(query, self.heads),
            key=self._turned(key, self.kv_heads),
            value=value,
            query_gain=self._rotated_gain(attention + "q_norm.weight"),
            key_gain=self._rotated_gain(attention + "k_norm.weight"),
            output=self._matrix(attention + "o_proj"),
            mlp_gain=self._gain(norm.format("pre_feedforward" if after else "post_attention")),
            mlp_end_gain=self._gain(norm.format("post_feedforward")) if after else None,
            gate=gate,
            up=up,
            down=self._matrix(f"{prefix}mlp.down_proj"),
            window=window,
            turns=turns,
        )

    def _reach(self, place: int) -> tuple[int, int | None]:
        """Return the window of a layer and which rotations it has."""
        config = self._config
        types = getattr(config, "layer_types", None) or [SLIDING] * self.num_layers
        slides = types[place] == SLIDING and getattr(config, "use_sliding_window", True)
        window = slides and getattr(config, "sliding_window", None)
        rotated = getattr(config, "no_rope_layers", None) or [1] * self.num_layers
        table = 1 if len(self.rotations) > 1 and slides else 0
        return window or 0, table if rotated[place] else None

    def _side_by_side(self, prefix: str, together: str, *names: str) -> list[Matrix]:
        """Return matrices that one tensor may hold below each other: of Phi-3."""
        if not self._source.holds(f"{prefix}{together}.weight"):
            return [self._matrix(prefix + name) for name in names]
        whole = self._matrix(prefix + together)
        heads = [self.heads, self.kv_heads, self.kv_heads]
        sizes = [count * self.head_dim for count in heads]
        sizes = sizes if len(names) == len(sizes) else [self.inner_size] * len(names)
        ends = list(accumulate(sizes))
        parts = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        return [_changed(whole, itemgetter(part)) for part in parts]

    def _turned(self, matrix: Matrix, heads: int) -> Matrix:
        if self._source.neighbours:
            return matrix
        return _changed(matrix, lambda rows: neighbours(rows, heads, self.turned))

    def _matrix(self, name: str) -> Matrix:
        return Matrix(self._present(f"{name}.weight"), self._bias(name))

    def _bias(self, name: str) -> Tensor | None:
        """Return a bias; one of zeros is none."""
        bias = self._find(f"{name}.bias")
        return bias if isinstance(bias, Tensor) and bool(bias.any()) else None

    def _gain(self, name: str) -> Tensor:
        gain = self._present(name)
        if not isinstance(gain, Tensor):
            raise ModelError(f"{name!r} is quantised; legal: numbers; convert the model again")
        return gain + 1 if self._lacks_one else gain

    def _rotated_gain(self, name: str) -> Tensor | None:
        if not self._source.holds(name):
            return None
        gain = self._gain(name)
        return gain if self._source.neighbours else neighbours(gain, 1, self.turned)

    def _find(self, name: str) -> Weight | None:
        found = self._source.find(name)
        return found.to(self._dtype) if self._dtype and isinstance(found, Tensor) else found

    def _present(self, name: str) -> Weight:
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


def is_in_family(config: PreTrainedConfig) -> bool:
    """Whether the causal LM of a transformers config is one that the compiled pass computes."""
    ropes = _ropes(config)
    return bool(
        config.model_type in FAMILY
        and _activation(config) in ACTIVATIONS
        and ropes
        and all(rope.get("rope_type") in STEADY_ROPE for rope in ropes)
        and set(getattr(config, "layer_types", None) or (FULL,)) <= {FULL, SLIDING}
        and not any(getattr(config, cap, None) for cap in CAPS)
        and getattr(config, "quantization_config", None) is None
    )


def is_plain(config: PreTrainedConfig) -> bool:
    """Whether a network of the family is one whose layers are alike, as torch computes them too."""
    slides = getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None)
    types = set(getattr(config, "layer_types", None) or (FULL,))
    return is_in_family(config) and config.model_type in PLAIN and types == {FULL} and not slides


def _activation(config: PreTrainedConfig) -> str:
    return str(getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", ""))


def _ropes(config: PreTrainedConfig) -> list[Document]:
    """Return the settings of every rotation: one, or one for each type of layers."""
    rope: Document = getattr(config, "rope_parameters", None) or {}
    inside: list[Document] = [part for part in rope.values() if isinstance(part, dict)]
    return inside or [rope]


def _changed(matrix: Matrix, change: Callable[[Tensor], Tensor]) -> Matrix:
    """Return a matrix of other rows, whether they are numbers or blocks."""
    weight, bias = matrix.weight, matrix.bias
    if isinstance(weight, Blocks):
        weight = replace(weight, rows=change(weight.rows))
    else:
        weight = change(weight)
    return Matrix(weight, None if bias is None else change(bias))


def neighbours(rows: Tensor, heads: int, turned: int) -> Tensor:
    """Put dimension i of each head beside i + turned / 2, with which it rotates."""
    by_head = rows.unflatten(0, (heads, -1))
    pairs = by_head[:, :turned].unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
    return torch.cat((pairs, by_head[:, turned:]), dim=1).flatten(0, 1)
