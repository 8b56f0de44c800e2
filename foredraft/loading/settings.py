"""The fields of a config.json: of which type its config class wants them, and in which range.

Types come from the class, ranges from what a field's name says it is, so that an architecture
needs no line here.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING
from transformers.activations import ACT2FN

from foredraft.errors import ModelError, quoted
from foredraft.loading.documents import shown
from foredraft.models.rotary import check_rotary

LARGE = 1e30  # larger than any setting, and no overflow away from float32's end
MOST_LAYERS, MOST_COUNT, MOST_SIZE, MOST_INT = 512, 1 << 16, 1 << 24, (1 << 31) - 1
LAYERS = re.compile(
    r"n_layers?|num_layers|num_hidden_layers|num_(en|de)coder_layers|(en|de)coder_layers"
)
SIZES = re.compile(
    r"vocab_size|hidden_size|intermediate_size|embedding_size|n_embd|n_inner|head_dim|v_head_dim"
    r"|ffn_dim|ffn_hidden_size|d_model|d_kv|d_ff|d_inner|d_embed|word_embed_proj_dim"
    r"|(en|de)coder_ffn_dim|n_heads?|num_heads|num_attention_heads|num_key_value_heads|num_kv_heads"
    r"|num_(en|de)coder_attention_heads|(en|de)coder_attention_heads|n_head_kv|rotary_dim"
    r"|max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length|sliding_window"
    r"|max_(source|target)_positions|max_(en|de)coder_position_embeddings|num_mel_bins"
    r"|original_max_position_embeddings|relative_attention_num_buckets|relative_max_distance"
    r"|relative_attention_max_distance|num_buckets|attention_window|expansion_ratio|ngram"
)
COUNTS = re.compile(r"(num|n)_.*|.*(layers|heads|experts|groups|blocks|labels|buckets)")
POSITIONS = re.compile(r"(original_)?max_position_embeddings|sliding_window")
SHARES = re.compile(
    r".*(dropout|pdrop|dropout_rate|dropout_prob|layerdrop|_drop)|dropout|initializer_range"
)
SMALL = re.compile(r".*(eps|epsilon)")
NOT_NEGATIVE = re.compile(r"initializer_factor|init_std|.*(capping|softcap)")
USUAL = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "quick_gelu")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "dense_act_fn", "afn")
# What transformers touches before its classes check the types of their fields.
REWRITTEN: dict[str, Any] = {
    **{name: dict[str, Any] | None for name in ("quantization_config", "compression_config")},
    **{name: str | dict[str, Any] | None for name in ("dtype", "torch_dtype")},
    **{
        name: str | dict[str, Any] | None
        for name in ("attn_implementation", "_attn_implementation")
    },
    **{"layer_types": list[str] | None, "id2label": dict[str, Any] | None, "num_labels": int},
    **{"auto_map": dict[str, Any], "per_layer_config": dict[str, Any] | list[Any] | None},
    **{"return_dict": bool, "transformers_version": str | None, "architectures": list[str] | None},
}
WORDS: dict[Any, str] = {
    **{int: "an integer", float: "a number", bool: "true or false", str: "a text"},
    **{list: "a list", tuple: "a list", dict: "an object", type(None): "null"},
}


def check_config(path: Path, config: dict[str, Any], *, trusted: bool) -> None:
    """Raise unless a network can be built from a config.json without harm.

    Args:
        path: of the file, for messages.
        config: what it holds.
        trusted: code that comes with the model may be run.

    Raises:
        ModelError: naming the file, the field and what is legal.
    """
    kind = config.get("model_type")
    has_code = isinstance(config.get("auto_map"), dict) and bool(config["auto_map"])
    if isinstance(kind, str) and kind in CONFIG_MAPPING.keys():  # noqa: SIM118 - a lazy mapping
        _check_fields(f"{shown(path)}: ", config, CONFIG_MAPPING[kind])
    elif not has_code:
        raise ModelError(
            f"{shown(path)}: model_type must name an architecture that this transformers knows "
            f"(llama, qwen2, t5, …), not {quoted(kind)}; correct it, or update transformers"
        )
    elif not trusted:
        raise ModelError(
            f"{shown(path)}: model_type {quoted(kind)} is known to the code in this folder only, "
            "which is not run; read it, then give --trust-remote-code"
        )
    else:
        _check_fields(f"{shown(path)}: ", config, None)


def _check_fields(place: str, config: dict[str, Any], kind: Any) -> None:
    """Check the fields of a config, and of those inside it.

    Args:
        place: what messages say before a field's name.
        config: the fields.
        kind: their config class; None if it is not known.
    """
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    hints = {field.name: field.type for field in fields}
    aliases = getattr(kind, "attribute_map", {})
    for name, value in config.items():
        own = aliases.get(name, name)
        sized = LAYERS.fullmatch(own) or SIZES.fullmatch(own)
        usual: Any = int | None if hints and sized else Any  # read by some, declared by none
        _check_type(place, name, value, hints.get(own, usual))
        _check_value(place, name, value)
        if own != name:
            _check_value(place, own, value)
        if isinstance(value, dict):
            _check_fields(f"{place}{name}.", value, _kind_inside(kind, name, value))
    check_rotary(place, config, kind)


def _kind_inside(kind: Any, name: str, value: dict[str, Any]) -> Any:
    """Return the class of a config inside another; None if it is none, or nobody knows."""
    model_type = value.get("model_type")
    if isinstance(model_type, str) and model_type in CONFIG_MAPPING.keys():  # noqa: SIM118
        return CONFIG_MAPPING[model_type]
    inside = getattr(kind, "sub_configs", {}).get(name)
    return inside if dataclasses.is_dataclass(inside) else None


def _check_type(place: str, name: str, value: Any, hint: Any) -> None:
    hint = REWRITTEN.get(name, hint)
    is_type = name in ("dtype", "torch_dtype") and isinstance(value, str)
    if is_type and not _is_float_type(value.removeprefix("torch.")):
        raise ModelError(
            f"{place}{name} must be float32, bfloat16 or float16, not {quoted(value)}; correct it, "
            "or leave it out"
        )
    if not fits(value, hint):
        raise ModelError(
            f"{place}{name} must be {words(hint)}, not {quoted(value)}; correct the file, or "
            "fetch the model again"
        )


def _is_float_type(name: str) -> bool:
    found = getattr(torch, name, None)
    return isinstance(found, torch.dtype) and found.is_floating_point and found.itemsize > 1


def _check_value(place: str, name: str, value: Any) -> None:
    """Raise unless a number is in the range of what its name says it is."""
    if name in ACTIVATIONS and value is not None and not (type(value) is str and value in ACT2FN):
        raise ModelError(
            f"{place}{name} {quoted(value)} is no activation function; legal: "
            f"{', '.join(name for name in USUAL if name in ACT2FN)}, …; correct it"
        )
    if name == "return_dict" and value is False:
        raise ModelError(f"{place}return_dict must be true, not false; leave it out")
    if type(value) not in (int, float):
        return
    low, high = _range(name, is_integer=type(value) is int)
    if not low <= value <= high:
        legal = (
            f"{low:,g} … {high:,g}"
            if high < LARGE
            else f"at least {low:g}"
            if low == 0
            else "a finite number"
        )
        raise ModelError(
            f"{place}{name} must be {legal}, not {quoted(value)}; correct the file, or fetch the "
            "model again"
        )


def _range(name: str, *, is_integer: bool) -> tuple[float, float]:
    """Return what a number of this name may be, from … to."""
    if LAYERS.fullmatch(name):
        return 1, MOST_LAYERS
    if POSITIONS.fullmatch(name):
        return 1, MOST_INT
    if SIZES.fullmatch(name):
        return 1, MOST_SIZE
    if SHARES.fullmatch(name) or SMALL.fullmatch(name):
        return 0, 1
    if NOT_NEGATIVE.fullmatch(name):
        return 0, LARGE
    if not is_integer or "theta" in name:
        return -LARGE, LARGE
    return -MOST_INT, MOST_COUNT if COUNTS.fullmatch(name) else MOST_INT


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a type; what is no type of JSON's is nobody's business here."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in inside)
    if origin is typing.Annotated:
        return fits(value, inside[0])
    if origin in (list, tuple):
        each = inside[0] if inside else Any
        return isinstance(value, list) and (
            origin is tuple or all(fits(one, each) for one in value)
        )
    plain = origin or hint
    if plain is None or plain is type(None):
        return value is None
    if plain in (int, float, bool, str):
        return type(value) is plain
    if plain in (list, tuple):
        return isinstance(value, list)
    return plain is Any or not isinstance(plain, type) or isinstance(value, dict)


def words(hint: Any) -> str:
    """Return what a type is called in a sentence."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(words(one) for one in inside))
    if origin is typing.Literal:
        return " or ".join(map(quoted, inside))
    if origin in (list, tuple) and inside and inside[0] in WORDS:
        return f"a list, each {WORDS[inside[0]]}"
    return str(WORDS.get(origin or hint, "an object"))
