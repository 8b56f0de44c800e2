"""generation_config.json: its fields, the tokens that end a text, and what is not done by itself.

A default of a config class is no source of end tokens while a file speaks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from foredraft.errors import ModelError, quoted, unfit
from foredraft.files import Document, Json
from foredraft.loading.documents import shown

# What changes the text, and the value at which it changes nothing.
SAMPLING: Document = {"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
SHAPING: Document = {
    **{"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "length_penalty": 1.0},
    **{"no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_p": 0.0},
    **{"typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "min_length": 0, "top_h": 0.0},
    **{"min_new_tokens": 0, "num_beams": 1, "penalty_alpha": 0.0, "forced_eos_token_id": None},
    **{"sequence_bias": None, "guidance_scale": 1.0, "exponential_decay_length_penalty": None},
    **{"watermarking_config": None, "stop_strings": None, "dola_layers": None},
}
FORBIDDING: Document = {  # an encoder–decoder model obeys these
    **{"suppress_tokens": None, "begin_suppress_tokens": None, "bad_words_ids": None},
    **{"forced_bos_token_id": None, "forced_decoder_ids": None},
}
NUMBERS = ("temperature", "top_p", "top_k", *(k for k, v in SHAPING.items() if v is not None))
# Padding and BOS play no part while the tokenizer speaks; what is said first does.
SPARE, DECIDING = (
    ("pad_token_id", "bos_token_id"),
    ("decoder_start_token_id", "forced_bos_token_id"),
)
LISTS = ("suppress_tokens", "begin_suppress_tokens")
PAIRS = ("bad_words_ids", "forced_decoder_ids")
LARGE = 1e30  # larger than any setting
NO_TOKEN = -1  # how some exporters write "none"
REMOVE = "correct it after the model's card, or remove it"


def check_generation(path: Path, found: Document, vocab_size: int) -> None:
    """Raise unless the fields of a generation_config.json are what they should be.

    Raises:
        ModelError: naming the file, the field and what is legal.
    """
    for name, value in found.items():
        field = f"{shown(path)}: {name}"
        if name == "eos_token_id":
            end_ids(field, value)
        wanted = None if value is None else _wanted(name, value, vocab_size)
        if wanted:
            raise unfit(field, wanted, value, REMOVE)


def _wanted(name: str, value: Json, vocab_size: int) -> str | None:
    """Return what a field must be; None if it is."""
    if name in NUMBERS and (type(value) not in (int, float) or not abs(value) < LARGE):
        return "a number"
    if name == "do_sample" and type(value) is not bool:
        return "true or false"
    if name in SPARE or name in DECIDING:
        listed = value if isinstance(value, list) and name == "bos_token_id" else [value]
        if not _are_ids(listed) or (name in DECIDING and not _said(listed, vocab_size)):
            return f"a token id, 0 … {vocab_size - 1}"
    rows = [value] if name in LISTS else value if name in PAIRS else []
    sound = isinstance(rows, list) and all(_are_ids(row, of_pairs=name in PAIRS) for row in rows)
    return None if sound else "a list of token ids"


def _are_ids(found: Json, *, of_pairs: bool = False) -> bool:
    if not isinstance(found, list) or (of_pairs and not found):
        return False
    return all(type(one) is int or (one is None and of_pairs) for one in found)


def end_tokens(sources: Document, spoken: Json, default: Json, vocab_size: int) -> tuple[int, ...]:
    """Return every token that ends a generation, sorted.

    Args:
        sources: `eos_token_id` of each file that has one, by the words that name file and field.
        spoken: the tokenizer's end token; None if it has none. One that the model cannot say ends
            nothing.
        default: of the config class, for a model whose files are silent.
        vocab_size: tokens that the model can say.

    Raises:
        ModelError: an end token that is no integer of the vocabulary.
    """
    found = set[int]()
    for name, value in sources.items():
        found.update(end_ids(name, value))
        if found and max(found) >= vocab_size:
            raise ModelError(
                f"{name} {max(found)} is outside the vocabulary 0 … {vocab_size - 1}, so it could "
                f"never end a text; {REMOVE}"
            )
    weaker = [spoken]
    if not sources and not _said(weaker, vocab_size):
        weaker = list(default) if isinstance(default, list | tuple) else [default]
    return tuple(sorted(found | _said(weaker, vocab_size)))


def _said(tokens: list[Json], vocab_size: int) -> set[int]:
    """Return those that are tokens of the model."""
    return {token for token in tokens if type(token) is int and 0 <= token < vocab_size}


def end_ids(name: str, value: Json) -> list[int]:
    """Return the tokens of an `eos_token_id`: an integer, a list of them, or null."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int and token >= NO_TOKEN for token in listed):
        raise unfit(name, "a token id of at least 0, a list of them, or null", value, REMOVE)
    return [token for token in listed if token != NO_TOKEN]


def no_tokens(fields: Document, vocab_size: int) -> Iterator[tuple[str, int]]:
    """Yield each field that should name tokens of the model, with an integer that is none."""
    for name in ("eos_token_id", *SPARE):
        value = fields.get(name)
        for token in value if isinstance(value, list) else [value]:
            if type(token) is int and not 0 <= token < vocab_size:
                yield name, token


def unheard(found: Document, *, is_encoder_decoder: bool) -> str | None:
    """Return a sentence on what a checkpoint asks for and does not get; None if all is done.

    Args:
        found: its generation config, or its config where it has none.
        is_encoder_decoder: such a model obeys what forbids or forces tokens.
    """
    known = {**SAMPLING, **SHAPING, **({} if is_encoder_decoder else FORBIDDING)}
    asked = [name for name, idle in known.items() if found.get(name) not in (None, idle, [])]
    sampling = [name for name in asked if name in SAMPLING]
    rest = asked[len(sampling) :]
    if not asked:
        return None
    listed = ", ".join(f"{name} {quoted(found[name])}" for name in asked)
    how = f"; ask for the sampling with {_sampler(found, sampling)}" if sampling else ""
    lacking = f"; {', '.join(rest)} cannot be asked for here" if rest else ""
    return f"its generation config asks for {listed}, which is not done{how}{lacking}"


def _sampler(found: Document, asked: Collection[str]) -> str:
    """Return the flag for a sampler of these settings, as near as there is one."""
    given = {"temperature": found["temperature"] if "temperature" in asked else 1.0}
    given |= {name: found[name] for name in ("top_k", "top_p") if name in asked}
    name = "topk" * ("top_k" in given) + "nucleus" * ("top_p" in given) or "multinomial"
    return f"--sampler '{name}({', '.join(f'{k}={v}' for k, v in given.items())})'"
