"""The metadata of a GGUF file → the fields of a transformers config, or a refusal by name.

Knows what llama.cpp's keys mean. What decides a token and is not computed here is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedConfig

from foredraft.errors import ModelError, foreign, quoted
from foredraft.files import Json
from foredraft.loading.documents import shown
from foredraft.loading.gguf_families import ARCHITECTURES, ROPE_FACTORS, Architecture
from foredraft.loading.gguf_header import GgufHeader
from foredraft.loading.settings import MOST_INT, check_config

MOST_LAYERS, MOST_SIZE, LARGEST = 512, 1 << 24, 1e30
# Keys whose meaning is not computed here, with the values at which they mean nothing.
UNKNOWN = re.compile(
    r".*(expert|moe|softcap|alibi|clamp|temperature|sections|ssm\.|lora|mla|altup|shared_kv|laurel"
    r"|attention\.scale|output_scale|residual_scale|logit_scale|embedding_scale|sparsity|pooling"
    r"|nextn|yarn_log_mult|attn_factor|ext_factor|scaling\.alpha|_length_swa|count_swa|layout"
    r"|parallel_residual|embedding_length_(out|per)|swin_norm|deepstack|causal).*"
)
NEUTRAL = {
    **{"attention.causal": (True,), "rope.scaling.attn_factor": (0, 1)},
    **{"rope.scaling.yarn_attn_factor": (0, 1), "rope.scaling.yarn_ext_factor": (-1, 1)},
    **{"attention.scale": (0,), "tensor_data_layout": ()},
}
FACTORS = ("logit_scale", "residual_scale", "embedding_scale")
GEMMA3_PATTERN, GEMMA3_LOCAL_THETA = 6, 10_000.0  # llama.cpp's, where a file is silent
GEMMA3_27B_LAYERS = 62  # of the one size whose scores are scaled by hidden_size / heads
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ANOTHER = "choose another file, or the model's safetensors"


def architecture_of(header: GgufHeader) -> Architecture:
    """Return the architecture that a file names.

    Raises:
        ModelError: it is not one of ours, or the file is one part of a model.
    """
    name = header.architecture
    if name not in ARCHITECTURES:
        raise ModelError(
            f"{shown(header.path)}: the architecture {quoted(name)} is not known here; legal: "
            f"{', '.join(ARCHITECTURES)}; {ANOTHER}"
        )
    if header.count("split.count", 0, MOST_INT, 0) > 1:
        raise ModelError(
            f"{shown(header.path)} is one of several parts of a model; join them with llama.cpp "
            "(llama-gguf-split --merge)"
        )
    return ARCHITECTURES[name]


def read_config(header: GgufHeader) -> tuple[dict[str, Json], PreTrainedConfig]:
    """Return the fields that a config.json would have, and the config that they make.

    Raises:
        ModelError: naming the key and what is legal.
    """
    fields = Metadata(header).fields()
    check_config(header.path, fields, trusted=False)
    what = f"making a config of the metadata of {shown(header.path)}"
    with foreign(what, ANOTHER):
        config: PreTrainedConfig = AutoConfig.for_model(**fields)
    return fields, config


class Metadata:
    """The keys of a file's architecture."""

    def __init__(self, header: GgufHeader) -> None:
        self.header, self.architecture = header, architecture_of(header)
        self.prefix = f"{header.architecture}."
        self.layers = self._count("block_count", MOST_LAYERS)
        self._check_layers()
        self._check_known()
        self.heads = self._count("attention.head_count", MOST_SIZE)
        self.hidden = self._count("embedding_length", MOST_SIZE)
        own = self.hidden // self.heads or None
        self.head_dim = self._count("attention.key_length", MOST_SIZE, own)
        self.length = self._count("context_length", MOST_INT)

    def fields(self) -> dict[str, Json]:
        """Return the fields of a config."""
        tensors, values = (
            self.header.tensors,
            self._count("attention.value_length", MOST_SIZE, self.head_dim),
        )
        if values != self.head_dim:
            raise self._refusal("attention.value_length", f"{self.head_dim}, as of keys", values)
        embedding = tensors.get("token_embd.weight")
        if embedding is None:
            raise ModelError(f"{shown(self.header.path)} has no token_embd.weight; {ANOTHER}")
        common: dict[str, Json] = {
            "model_type": self.architecture.model_type,
            "vocab_size": embedding.shape[0],
            "hidden_size": self.hidden,
            "intermediate_size": self._count("feed_forward_length", MOST_SIZE),
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self._count("attention.head_count_kv", MOST_SIZE, self.heads),
            "head_dim": self.head_dim,
            "max_position_embeddings": self.length,
            "rms_norm_eps": self._number("attention.layer_norm_rms_epsilon", 0, 1),
            "tie_word_embeddings": "output.weight" not in tensors,
            **{
                f"{name}_token_id": self._token(f"{known_as}_token_id", embedding.shape[0])
                for name, known_as in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
            },
        }
        return common | dict(self._own())

    def _own(self) -> Iterator[tuple[str, Json]]:
        """Yield what an architecture has of its own."""
        kind, rope = self.architecture.model_type, self._rope()
        if kind == "gemma3_text":
            yield from self._gemma3(rope)
            return
        window = self._window()
        if kind in ("llama", "smollm3"):
            yield "attention_bias", "blk.0.attn_q.bias" in self.header.tensors
            yield "mlp_bias", "blk.0.ffn_up.bias" in self.header.tensors
        if kind == "qwen3":
            yield "attention_bias", "blk.0.attn_q.bias" in self.header.tensors
        if window and kind in ("llama", "mistral", "phi3"):
            yield "model_type", "mistral" if kind == "llama" else kind
            yield "sliding_window", window
        elif window:
            raise self._refusal("attention.sliding_window", "0, or absent", window)
        elif kind in ("mistral", "phi3"):
            yield "sliding_window", None
        if kind == "phi3":
            share = self._rotated() / self.head_dim
            cut = int(self.head_dim * share) < self._rotated()  # what transformers makes of it
            rope["partial_rotary_factor"] = math.nextafter(share, 2) if cut else share
            name = "rope.scaling.original_context_length"
            yield "original_max_position_embeddings", self._count(name, MOST_INT, self.length)
        elif self._rotated() != self.head_dim:
            legal = f"{self.head_dim}, all of a head"
            raise self._refusal("rope.dimension_count", legal, self._rotated())
        yield "rope_parameters", rope

    def _gemma3(self, rope: dict[str, Json]) -> Iterator[tuple[str, Json]]:
        window = self._window()
        pattern = self.header.metadata.get(f"{self.prefix}attention.sliding_window_pattern")
        if isinstance(pattern, np.ndarray) and len(pattern) == self.layers:
            slides = [bool(one) for one in pattern]
        else:
            name = "attention.sliding_window_pattern"
            every = self._count(name, MOST_INT, GEMMA3_PATTERN)
            slides = [(place + 1) % every > 0 for place in range(self.layers)]
        kinds = ("full_attention", "sliding_attention")
        yield "layer_types", [kinds[one and bool(window)] for one in slides]
        yield "sliding_window", window or self.length
        local = self._number("rope.freq_base_swa", 1, LARGEST, GEMMA3_LOCAL_THETA)
        own = {"rope_type": "default", "rope_theta": float(local)}
        yield "rope_parameters", dict(zip(kinds, (rope, own), strict=True))
        is_27b = self.layers == GEMMA3_27B_LAYERS
        yield "query_pre_attn_scalar", self.hidden // self.heads if is_27b else self.head_dim

    def _rope(self) -> dict[str, Json]:
        """Return how far positions turn queries and keys, as transformers states it."""
        theta = float(self._number("rope.freq_base", 1, LARGEST, 10_000.0))
        kind = self.header.text(f"{self.prefix}rope.scaling.type", "linear")
        old = self._number("rope.scale_linear", 0, LARGEST, 1)
        factor = float(self._number("rope.scaling.factor", 0, LARGEST, old))
        steady: dict[str, Json] = {"rope_type": "default", "rope_theta": theta}
        if ROPE_FACTORS in self.header.tensors:
            return steady | self._llama3(theta)
        if kind == "none" or (kind in ("linear", "yarn") and factor in (0.0, 1.0)):
            return steady
        if kind not in ("linear", "yarn") or self.architecture.model_type == "phi3":
            raise self._refusal("rope.scaling.type", "none, linear or yarn", kind)
        scaled = steady | {"rope_type": kind, "factor": factor}
        if kind == "linear":
            return scaled
        name = "rope.scaling.original_context_length"
        scaled["original_max_position_embeddings"] = self._count(name, MOST_INT, self.length)
        for name in ("beta_fast", "beta_slow"):
            if f"{self.prefix}rope.scaling.yarn_{name}" in self.header.metadata:
                scaled[name] = float(self._number(f"rope.scaling.yarn_{name}", 0, LARGEST))
        return scaled

    def _llama3(self, theta: float) -> dict[str, Json]:
        """Return Llama 3's scaling, of which a file holds what it comes to."""
        placed = self.header.tensors[ROPE_FACTORS]
        half = self.head_dim // 2
        if placed.kind != "F32" or math.prod(placed.shape) != half:
            raise ModelError(
                f"{shown(self.header.path)}: {ROPE_FACTORS} must be {half} numbers of kind F32, "
                f"not {list(placed.shape)} of {placed.kind}; {ANOTHER}"
            )
        held = torch.frombuffer(
            self.header.content, dtype=torch.float32, count=half, offset=placed.begin
        )
        found = LLAMA3 | {"rope_type": "llama3", "factor": float(held.max())}
        if not torch.allclose(held, llama3_factors(half, theta, float(held.max())), rtol=1e-3):
            raise ModelError(
                f"{shown(self.header.path)}: {ROPE_FACTORS} holds other factors than Llama 3's "
                f"({', '.join(f'{name} {value:g}' for name, value in LLAMA3.items())}), which are "
                f"not computed here; {ANOTHER}"
            )
        return found

    def _check_layers(self) -> None:
        """Raise unless as many layers lie in the file: a network is not built for nothing."""
        numbers = (name.split(".")[1] for name in self.header.tensors if name.startswith("blk."))
        held = len({number for number in numbers if number.isdecimal()})
        if held != self.layers:
            raise self._refusal("block_count", f"{held}, as many layers as it has", self.layers)

    def _check_known(self) -> None:
        """Raise if the metadata asks for what is not computed here."""
        for name, value in self.header.metadata.items():
            own = name.removeprefix(self.prefix)
            if own == name or not UNKNOWN.fullmatch(own):
                continue
            neutral: tuple[object, ...] = NEUTRAL.get(own, (0, False))
            neutral = (0, 1) if own in FACTORS else neutral
            if isinstance(value, np.ndarray) or value not in neutral:
                raise ModelError(
                    f"{shown(self.header.path)}: {name} ({quoted(value)}) asks for what is not "
                    f"computed here; {ANOTHER}"
                )

    def _window(self) -> int:
        return self.header.count(f"{self.prefix}attention.sliding_window", 0, MOST_INT, 0)

    def _rotated(self) -> int:
        return self._count("rope.dimension_count", self.head_dim, self.head_dim)

    def _token(self, name: str, vocab_size: int) -> int | None:
        name = f"tokenizer.ggml.{name}"
        if name not in self.header.metadata:
            return None
        return self.header.count(name, 0, vocab_size - 1)

    def _count(self, name: str, most: int, default: int | None = None) -> int:
        return self.header.count(self.prefix + name, 1, most, default)

    def _number(
        self, name: str, low: float, high: float, default: float | None = None
    ) -> int | float:
        return self.header.number(self.prefix + name, low, high, default)

    def _refusal(self, name: str, legal: str, value: object) -> ModelError:
        return self.header.refusal(self.prefix + name, legal, value)


def llama3_factors(half: int, theta: float, factor: float) -> torch.Tensor:
    """Return what llama.cpp divides Llama 3's frequencies by, shape `[head_dim / 2]`."""
    turns = theta ** (torch.arange(half, dtype=torch.float64) / half) * 2 * math.pi
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    length = LLAMA3["original_max_position_embeddings"]
    smooth = ((length / turns - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).float()
