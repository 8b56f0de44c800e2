"""generation_config.json: its fields, and what of it this program does not do by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foredraft.errors import ModelError, quoted
from foredraft.loading.documents import shown
from foredraft.loading.endings import check_end_tokens

# What changes the text, and the value at which it changes nothing.
SAMPLING: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
SHAPING: dict[str, Any] = {
    **{"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "length_penalty": 1.0},
    **{"no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_p": 0.0},
    **{"typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "min_length": 0, "top_h": 0.0},
    **{"min_new_tokens": 0, "num_beams": 1, "penalty_alpha": 0.0, "forced_eos_token_id": None},
    **{"sequence_bias": None, "guidance_scale": 1.0, "exponential_decay_length_penalty": None},
    **{"watermarking_config": None, "stop_strings": None, "dola_layers": None},
}
FORBIDDING: dict[str, Any] = {  # an encoder–decoder model obeys these
    **{"suppress_tokens": None, "begin_suppress_tokens": None, "bad_words_ids": None},
    **{"forced_bos_token_id": None, "forced_decoder_ids": None},
}
NUMBERS = ("temperature", "top_p", "top_k", *(k for k, v in SHAPING.items() if v is not None))
IDS = ("pad_token_id", "bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
LISTS = ("suppress_tokens", "begin_suppress_tokens")
PAIRS = ("bad_words_ids", "forced_decoder_ids")
LARGE = 1e30  # larger than any setting
REMEDY = "correct the file, or remove the field"


def check_generation(path: Path, found: Mapping[str, Any], vocab_size: int) -> None:
    """Raise unless the fields of a generation_config.json are what they should be.

    Args:
        path: of the file, for messages.
        found: what it holds.
        vocab_size: tokens of the model; fields that decide tokens must name some of these.

    Raises:
        ModelError: naming the file, the field and what is legal.
    """
    for name, value in found.items():
        field = f"{shown(path)}: {name}"
        if name == "eos_token_id":
            check_end_tokens(field, value)
        if value is None:
            continue
        if name in NUMBERS and (type(value) not in (int, float) or not abs(value) < LARGE):
            raise ModelError(f"{field} must be a number, not {quoted(value)}; {REMEDY}")
        if name == "do_sample" and type(value) is not bool:
            raise ModelError(f"{field} must be true or false, not {quoted(value)}; {REMEDY}")
        if name in IDS:
            _check_id(field, name, value, vocab_size)
        if (name in LISTS or name in PAIRS) and not _are_ids(value, deep=name in PAIRS):
            raise ModelError(f"{field} must be a list of token ids, not {quoted(value)}; {REMEDY}")


def _check_id(field: str, name: str, value: Any, vocab_size: int) -> None:
    """Padding and BOS play no part while the tokenizer speaks; what is said first does."""
    listed = value if isinstance(value, list) and name.startswith("bos") else [value]
    decides = name in ("decoder_start_token_id", "forced_bos_token_id")
    for token in listed:
        if type(token) is not int or (decides and not 0 <= token < vocab_size):
            raise ModelError(
                f"{field} must be a token id, 0 … {vocab_size - 1}, not {quoted(value)}; {REMEDY}"
            )


def _are_ids(value: Any, *, deep: bool) -> bool:
    if not isinstance(value, list):
        return False
    rows = value if deep else [value]
    return all(
        isinstance(row, list)
        and bool(row or not deep)
        and all(type(one) is int or (one is None and deep) for one in row)
        for row in rows
    )


def unheard(found: Mapping[str, Any], *, is_encoder_decoder: bool) -> str | None:
    """Return a sentence on what a checkpoint asks for and does not get; None if all is done.

    Args:
        found: its generation config, or its config where it has none.
        is_encoder_decoder: such a model obeys what forbids or forces tokens.
    """
    shaping = SHAPING if is_encoder_decoder else SHAPING | FORBIDDING
    sampling = {k: found[k] for k in SAMPLING if _is_asked(found, k, SAMPLING)}
    rest = [name for name in shaping if _is_asked(found, name, shaping)]
    if not sampling and not rest:
        return None
    parts = [f"{name} {quoted(found[name])}" for name in (*sampling, *rest)]
    how = f"; ask for the sampling with {_sampler(sampling)}" if sampling else ""
    lacking = f"; {', '.join(rest)} cannot be asked for here" if rest else ""
    return f"its generation config asks for {', '.join(parts)}, which is not done{how}{lacking}"


def _is_asked(found: Mapping[str, Any], name: str, neutral: Mapping[str, Any]) -> bool:
    value = found.get(name)
    return value is not None and value != neutral[name] and value != []


def _sampler(sampling: Mapping[str, Any]) -> str:
    """Return the flag for a sampler of these settings, as near as there is one."""
    given = {"temperature": sampling.get("temperature", 1.0)}
    given |= {name: sampling[name] for name in ("top_k", "top_p") if name in sampling}
    name = {(False, False): "multinomial", (True, False): "topk", (False, True): "nucleus"}.get(
        ("top_k" in given, "top_p" in given), "topknucleus"
    )
    return f"--sampler '{name}({', '.join(f'{k}={v}' for k, v in given.items())})'"
