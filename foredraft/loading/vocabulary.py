"""The files of a tokenizer: strictly read, and of ids that the model has embeddings for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from foredraft.errors import ModelError, quoted
from foredraft.loading.documents import MEGABYTE, REMEDY, read_document, shown
from foredraft.loading.settings import fits, words

MOST_TOKENIZER = 256 * MEGABYTE  # the largest known have some 35
SIDE_FILES = ("special_tokens_map.json", "added_tokens.json")
SIDES = Literal["left", "right"]
HINTS: dict[str, Any] = {
    **{name: str | None for name in ("tokenizer_class", "processor_class")},
    **{name: SIDES for name in ("padding_side", "truncation_side")},
    **{name: bool for name in ("add_prefix_space", "split_special_tokens", "legacy")},
    **{
        name: bool | None
        for name in ("add_bos_token", "add_eos_token", "use_default_system_prompt")
    },
    "clean_up_tokenization_spaces": bool | None,
    **{f"{name}_token": str | dict | None for name in ("bos", "eos", "unk", "sep", "pad", "cls")},
    "model_max_length": int | float | None,
    "chat_template": str | list | dict | None,
    "added_tokens_decoder": dict,
    "auto_map": dict,
    "model_input_names": list[str],
    "extra_special_tokens": list | dict,
    "additional_special_tokens": list | None,
}
MOST_ID = 1 << 24


def check_vocabulary_files(folder: Path, vocab_size: int) -> None:
    """Raise unless a folder's tokenizer can be built without harm and suits its model.

    Added tokens may lie beyond the model's vocabulary (Gemma 3 has one for images); prompts that
    use them are refused then. The tokens that every text consists of may not.

    Args:
        folder: of the model.
        vocab_size: tokens that the model has embeddings for.

    Raises:
        ModelError: naming the file, the field and what is legal.
    """
    for name in SIDE_FILES:
        read_document(folder / name, MOST_TOKENIZER)
    settings = folder / "tokenizer_config.json"
    _check_settings(shown(settings), read_document(settings, MOST_TOKENIZER) or {})
    path = folder / "tokenizer.json"
    found = read_document(path, MOST_TOKENIZER)
    if found is not None:
        _check_added(shown(path), found.get("added_tokens"))
        _check_vocabulary(shown(path), found.get("model"), vocab_size)


def _check_settings(place: str, found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        hint = HINTS.get(name, Any)
        wanted = None if fits(value, hint) else words(hint)
        if name == "model_max_length" and value is not None and not (wanted or value >= 1):
            wanted = "a number of at least 1"
        if name == "added_tokens_decoder" and not (wanted or _are_added(value)):
            wanted = "an object with an object of a text as content for each token id"
        if hint == str | dict | None and isinstance(value, dict) and not _is_text(value):
            wanted = "a text, or an object with the text as content"
        if wanted:
            raise ModelError(f"{place}: {name} must be {wanted}, not {quoted(value)}; {REMEDY}")


def _is_text(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("content"), str)


def _are_added(value: Mapping[str, Any]) -> bool:
    return all(
        key.isdecimal() and int(key[:9]) < MOST_ID and _is_text(one) for key, one in value.items()
    )


def _check_added(place: str, added: Any) -> None:
    if not isinstance(added, list | None):
        raise ModelError(f"{place}: added_tokens must be a list, not {quoted(added)}; {REMEDY}")
    for one in added or ():
        token = one.get("id") if isinstance(one, dict) else None
        if type(token) is not int or not 0 <= token < MOST_ID or not _is_text(one):
            raise ModelError(
                f"{place}: an added token must have an id of 0 … {MOST_ID - 1} and a text as "
                f"content, not {quoted(one)}; {REMEDY}"
            )


def _check_vocabulary(place: str, model: Any, vocab_size: int) -> None:
    if not isinstance(model, dict):
        raise ModelError(f"{place}: model must be an object, not {quoted(model)}; {REMEDY}")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):  # of pairs; their places are the ids
        highest = len(vocabulary) - 1
    elif isinstance(vocabulary, dict) and vocabulary:
        for text, token in vocabulary.items():
            if type(token) is not int or not 0 <= token < MOST_ID:
                raise ModelError(
                    f"{place}: the id of {quoted(text)} must be 0 … {MOST_ID - 1}, not "
                    f"{quoted(token)}; {REMEDY}"
                )
        highest = max(vocabulary.values())
    else:
        raise ModelError(
            f"{place}: model.vocab must be an object with an id for each token, not "
            f"{quoted(vocabulary)}; {REMEDY}"
        )
    if highest >= vocab_size:
        raise ModelError(
            f"{place} has tokens up to id {highest}, and the model has embeddings for 0 … "
            f"{vocab_size - 1} (vocab_size in config.json); give the tokenizer that it was trained "
            "with"
        )
