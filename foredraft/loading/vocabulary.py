"""The files of a tokenizer: strictly read, and of ids that the model has embeddings for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from foredraft.errors import ModelError, quoted, unfit
from foredraft.files import Document, Json
from foredraft.loading.documents import MEGABYTE, REMEDY, read_document, shown
from foredraft.loading.settings import fits, words

MOST_TOKENIZER = 256 * MEGABYTE  # the largest known have some 35
SIDE_FILES = ("special_tokens_map.json", "added_tokens.json")
TOKENS = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls")]
HINTS: dict[str, object] = {
    **dict.fromkeys(("tokenizer_class", "processor_class"), str | None),
    **dict.fromkeys(("padding_side", "truncation_side"), Literal["left", "right"]),
    **dict.fromkeys(("add_prefix_space", "split_special_tokens", "legacy"), bool),
    **dict.fromkeys(("add_bos_token", "add_eos_token", "use_default_system_prompt"), bool | None),
    "clean_up_tokenization_spaces": bool | None,
    **dict.fromkeys(TOKENS, str | dict | None),
    "model_max_length": int | float | None,
    "chat_template": str | list | dict | None,
    **dict.fromkeys(("added_tokens_decoder", "auto_map"), dict),
    "model_input_names": list[str],
    "extra_special_tokens": list | dict,
    "additional_special_tokens": list | None,
}
MOST_ID = 1 << 24


def check_vocabulary_files(folder: Path, vocab_size: int) -> None:
    """Raise unless a folder's tokenizer can be built without harm and suits its model.

    Added tokens may lie beyond the model's vocabulary (Gemma 3 has one for images); prompts that
    use them are refused then. The tokens that every text consists of may not.

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


def _check_settings(place: str, found: Document) -> None:
    for name, value in found.items():
        hint = HINTS.get(name, object)
        wanted = None if fits(value, hint) else words(hint)
        if name == "model_max_length" and value is not None and not (wanted or value >= 1):
            wanted = "a number of at least 1"
        if name == "added_tokens_decoder" and not (wanted or _are_added(value)):
            wanted = "an object with an object of a text as content for each token id"
        if name in TOKENS and isinstance(value, dict) and not _is_text(value):
            wanted = "a text, or an object with the text as content"
        if wanted:
            raise unfit(f"{place}: {name}", wanted, value, REMEDY)


def _is_text(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("content"), str)


def _is_id(token: object) -> bool:
    return type(token) is int and 0 <= token < MOST_ID


def _are_added(value: Document) -> bool:
    return all(key.isdecimal() and _is_id(int(key[:9])) and _is_text(value[key]) for key in value)


def _check_added(place: str, added: Json) -> None:
    if not isinstance(added, list | None):
        raise unfit(f"{place}: added_tokens", "a list", added, REMEDY)
    for one in added or ():
        if not _is_text(one) or not _is_id(one.get("id")):
            wanted = f"an object with an id of 0 … {MOST_ID - 1} and a text as content"
            raise unfit(f"{place}: an added token", wanted, one, REMEDY)


def _check_vocabulary(place: str, model: Json, vocab_size: int) -> None:
    if not isinstance(model, dict):
        raise unfit(f"{place}: model", "an object", model, REMEDY)
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):  # of pairs; their places are the ids
        highest = len(vocabulary) - 1
    elif isinstance(vocabulary, dict) and vocabulary:
        for text, token in vocabulary.items():
            if not _is_id(token):
                legal = f"0 … {MOST_ID - 1}"
                raise unfit(f"{place}: the id of {quoted(text)}", legal, token, REMEDY)
        highest = max(vocabulary.values())
    else:
        wanted = "an object with an id for each token"
        raise unfit(f"{place}: model.vocab", wanted, vocabulary, REMEDY)
    if highest >= vocab_size:
        raise ModelError(
            f"{place} has tokens up to id {highest}, and the model has embeddings for 0 … "
            f"{vocab_size - 1} (vocab_size in config.json); give the tokenizer that it was trained "
            "with"
        )
