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

from foredraft.errors import ModelError, quoted, unfit
from foredraft.files import Document
from foredraft.loading.documents import shown
from foredraft.models.rotary import check_rotary

LARGE = 1e30  # larger than any setting, and no overflow away from float32's end
MOST_INT = (1 << 31) - 1
LAYERS = r"n_layers?|num_layers|num_hidden_layers|num_(en|de)coder_layers|(en|de)coder_layers"
POSITIONS = r"(original_)?max_position_embeddings|sliding_window"
SIZES = (
    r"vocab_size|hidden_size|intermediate_size|embedding_size|n_embd|n_inner|head_dim|v_head_dim"
    r"|ffn_dim|ffn_hidden_size|d_model|d_kv|d_ff|d_inner|d_embed|word_embed_proj_dim"
    r"|(en|de)coder_ffn_dim|n_heads?|num_heads|num_attention_heads|num_key_value_heads|num_kv_heads"
    r"|num_(en|de)coder_attention_heads|(en|de)coder_attention_heads|n_head_kv|rotary_dim"
    r"|n_positions|n_ctx|max_seq_len|max_sequence_length"
    r"|max_(source|target)_positions|max_(en|de)coder_position_embeddings|num_mel_bins"
    r"|relative_attention_num_buckets|relative_max_distance"
    r"|relative_attention_max_distance|num_buckets|attention_window|expansion_ratio|ngram"
)
SHARES = (
    r".*(dropout|pdrop|dropout_rate|dropout_prob|layerdrop|_drop|eps|epsilon)|initializer_range"
)
SIZED = re.compile(f"{LAYERS}|{POSITIONS}|{SIZES}")
# What a number of a name is, from … to; the first that fits counts.
RANGES = tuple(
    (re.compile(pattern), low, high)
    for pattern, low, high in (
        (LAYERS, 1, 512),
        (POSITIONS, 1, MOST_INT),
        (SIZES, 1, 1 << 24),
        (SHARES, 0, 1),
        (r"initializer_factor|init_std|.*(capping|softcap)", 0, LARGE),
    )
)
COUNTS = re.compile(r"(num|n)_.*|.*(layers|heads|experts|groups|blocks|labels|buckets)")
MOST_COUNT = 1 << 16
USUAL = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "quick_gelu")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "dense_act_fn", "afn")
# What transformers touches before its classes check the types of their fields.
REWRITTEN: dict[str, object] = {
    **dict.fromkeys(("quantization_config", "compression_config", "id2label"), dict | None),
    **dict.fromkeys(("dtype", "torch_dtype"), str | dict | None),
    **dict.fromkeys(("attn_implementation", "_attn_implementation"), str | dict | None),
    **dict.fromkeys(("layer_types", "architectures"), list[str] | None),
    **{"num_labels": int, "auto_map": dict, "per_layer_config": dict | list | None},
    **{"return_dict": bool, "transformers_version": str | None},
}
WORDS: dict[object, str] = {
    **{int: "an integer", float: "a number", bool: "true or false", str: "a text"},
    **{list: "a list", tuple: "a list", dict: "an object", type(None): "null"},
}
CORRECTED = "correct the file, or fetch the model again"


def check_config(path: Path, config: Document, *, trusted: bool) -> None:
    """Raise unless a network can be built from a config.json without harm; see `read_folder`.

    Raises:
        ModelError: naming the file, the field and what is legal.
    """
    place, model_type = f"{shown(path)}: ", config.get("model_type")
    kind = _kind_of(model_type)
    has_code = isinstance(config.get("auto_map"), dict) and bool(config["auto_map"])
    if kind is None and not has_code:
        raise ModelError(
            f"{place}model_type must name an architecture that this transformers knows "
            f"(llama, qwen2, t5, …), not {quoted(model_type)}; correct it, or update transformers"
        )
    if kind is None and not trusted:
        raise ModelError(
            f"{place}model_type {quoted(model_type)} is known to the code in this folder only, "
            "which is not run; read it, then give --trust-remote-code"
        )
    _check_fields(place, config, kind)


def _kind_of(model_type: object) -> type | None:
    """Return the config class of a model type; None if nobody knows it."""
    known = isinstance(model_type, str) and model_type in CONFIG_MAPPING
    return CONFIG_MAPPING[str(model_type)] if known else None


def _check_fields(place: str, config: Document, kind: type | None) -> None:
    """Check the fields of a config of a class, which may be unknown, and of those inside it."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    hints: dict[str, object] = {field.name: field.type for field in fields}
    aliases = getattr(kind, "attribute_map", {})
    for name, value in config.items():
        own = aliases.get(name, name)
        # Some sizes are read by others and declared by none.
        usual = int | None if hints and SIZED.fullmatch(own) else object
        _check_type(place, name, value, REWRITTEN.get(name, hints.get(own, usual)))
        for known_as in dict.fromkeys((name, own)):
            _check_value(place, known_as, value)
        if isinstance(value, dict):
            inside = _kind_of(value.get("model_type")) or getattr(kind, "sub_configs", {}).get(name)
            _check_fields(f"{place}{name}.", value, inside)
    check_rotary(place, config, kind)


def _check_type(place: str, name: str, value: object, hint: object) -> None:
    is_type = name in ("dtype", "torch_dtype") and isinstance(value, str)
    if is_type and not _is_float_type(str(value).removeprefix("torch.")):
        remedy = "correct it, or leave it out"
        raise unfit(f"{place}{name}", "float32, bfloat16 or float16", value, remedy)
    if not fits(value, hint):
        raise unfit(f"{place}{name}", words(hint), value, CORRECTED)


def _is_float_type(name: str) -> bool:
    found = getattr(torch, name, None)
    return isinstance(found, torch.dtype) and found.is_floating_point and found.itemsize > 1


def _check_value(place: str, name: str, value: object) -> None:
    """Raise unless a number is in the range of what its name says it is."""
    if name in ACTIVATIONS and value is not None and not (type(value) is str and value in ACT2FN):
        raise ModelError(
            f"{place}{name} {quoted(value)} is no activation function; legal: "
            f"{', '.join(name for name in USUAL if name in ACT2FN)}, …; correct it"
        )
    if name == "return_dict" and value is False:
        raise ModelError(f"{place}return_dict must be true, not false; leave it out")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    low, high = _range(name, is_integer=isinstance(value, int))
    if not low <= value <= high:
        legal = f"{low:,g} … {high:,g}" if high < LARGE else "a finite number"
        legal = f"at least {low:g}" if high == LARGE and low == 0 else legal
        raise unfit(f"{place}{name}", legal, value, CORRECTED)


def _range(name: str, *, is_integer: bool) -> tuple[float, float]:
    """Return what a number of this name may be, from … to."""
    for pattern, low, high in RANGES:
        if pattern.fullmatch(name):
            return low, high
    if not is_integer or "theta" in name:
        return -LARGE, LARGE
    return -MOST_INT, MOST_COUNT if COUNTS.fullmatch(name) else MOST_INT


def fits(value: object, hint: object) -> bool:
    """Whether a value of JSON is of a type; what is no type of JSON's is nobody's business here."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in inside)
    if origin is typing.Annotated:
        return fits(value, inside[0])
    plain = origin or hint
    if plain is None:
        return value is None
    if plain in (int, float, bool, str, type(None)):
        return type(value) is plain
    if plain in (list, tuple):
        every = inside[0] if inside and plain is list else object
        return isinstance(value, list) and all(fits(one, every) for one in value)
    is_anything = plain in (Any, object) or not isinstance(plain, type)
    return is_anything or isinstance(value, dict)


def words(hint: object) -> str:
    """Return what a type is called in a sentence."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(words(one) for one in inside))
    if origin is typing.Literal:
        return " or ".join(map(quoted, inside))
    if origin in (list, tuple) and inside and inside[0] in WORDS:
        return f"a list, each {WORDS[inside[0]]}"
    return WORDS.get(origin or hint, "an object")
