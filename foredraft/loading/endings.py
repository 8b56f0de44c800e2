"""Which tokens end a text: all that any file of the model's folder names.

A default of a config class is no source while a file speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from foredraft.errors import ModelError, quoted

NO_TOKEN = -1  # how some exporters write "none"
REMEDY = "correct it after the model's card, or remove it"


def end_tokens(
    sources: Mapping[str, Any], spoken: Any, default: Any, vocab_size: int
) -> tuple[int, ...]:
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
        found |= {token for token in _ids(name, value) if _is_said(name, token, vocab_size)}
    if type(spoken) is int and 0 <= spoken < vocab_size:
        found.add(spoken)
    if not sources and not found:
        listed = default if isinstance(default, list | tuple) else [default]
        found = {token for token in listed if type(token) is int and 0 <= token < vocab_size}
    return tuple(sorted(found))


def check_end_tokens(name: str, value: Any) -> None:
    """Raise unless a value of `eos_token_id` is an integer, a list of them, or null."""
    _ids(name, value)


def no_tokens(fields: Mapping[str, Any], vocab_size: int) -> Iterator[tuple[str, int]]:
    """Yield each field that should name tokens of the model, with an integer that is none."""
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        value = fields.get(name)
        for token in value if isinstance(value, list) else [value]:
            if type(token) is int and not 0 <= token < vocab_size:
                yield name, token


def _ids(name: str, value: Any) -> list[int]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    for token in listed:
        if type(token) is not int or token < NO_TOKEN:
            raise ModelError(
                f"{name} must be a token id of at least 0, a list of them, or null, not "
                f"{quoted(value)}; {REMEDY}"
            )
    return [token for token in listed if token != NO_TOKEN]


def _is_said(name: str, token: int, vocab_size: int) -> bool:
    if token >= vocab_size:
        raise ModelError(
            f"{name} {token} is outside the vocabulary 0 … {vocab_size - 1}, so it could never end "
            f"a text; {REMEDY}"
        )
    return True
