"""The tokenizer of a GGUF file, made by transformers once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

import numpy as np
import tokenizers
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS,
    GGUF_TOKENIZER_MAPPING,
    GGUF_TOKENIZER_TYPES,
    convert_gguf_tokenizer,
)

from foredraft.cache import keeping, kept
from foredraft.errors import ModelError, foreign
from foredraft.files import Json
from foredraft.loading.documents import shown
from foredraft.loading.gguf_cursor import Texts
from foredraft.loading.gguf_header import GgufHeader

PREFIX, ROOM, FILE = "tokenizer.", "tokenizers", "tokenizer.json"
TOKEN_TEXTS, TOKEN_KINDS = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
# How a text is cut before its pieces are merged, as llama.cpp calls it. transformers knows some of
# the names, and takes any other for GPT-2's; of these each digit is a piece of its own besides.
PRE, BYTES = "tokenizer.ggml.pre", "gpt2"
DIGIT_BY_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
LIKE_GPT2 = ("gpt-2", "default", "")
MAKER = 2  # raised when this file makes another tokenizer of the same header
CONTROL = 3  # the kind of a token that is no text
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
END_IDS = ("eos", "eot", "eom")
# Tokens that end a turn, where a file says no `eot`: those that llama.cpp looks for.
TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>")
SPEECHLESS = "choose a file with a tokenizer, or convert the model again"


def read_tokenizer(header: GgufHeader, vocab_size: int) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a file describes, from the cache if it was made before.

    Raises:
        ModelError: the file describes none, one of a kind that transformers does not make, or one
            that does not fit the network.
    """
    _check(header, vocab_size)
    with foreign(f"making the tokenizer of {shown(header.path)}", SPEECHLESS):
        settings = _settings(header)
        name = f"{ROOM}/{_key(header)}"
        folder = kept(name)
        if folder is not None:
            with suppress(Exception):  # whatever it holds was made from this file: make it anew
                return PreTrainedTokenizerFast(tokenizer_file=str(folder / FILE), **settings)
        backend = _backend(header)
        with suppress(OSError, ValueError), keeping(name) as folder:  # a full disk costs time only
            backend.save(str(folder / FILE), pretty=False)
        return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def end_ids(header: GgufHeader, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every token that ends a text or a turn in it, as the file says or implies."""
    keys = [f"tokenizer.ggml.{name}_token_id" for name in END_IDS]
    said = [header.count(key, 0, len(tokenizer) - 1) for key in keys if key in header.metadata]
    kinds = header.metadata.get(TOKEN_KINDS)
    if keys[1] in header.metadata or not isinstance(kinds, np.ndarray):
        return sorted(set(said))
    vocabulary = tokenizer.get_vocab()
    implied = [vocabulary[text] for text in TURN_ENDS if text in vocabulary]
    return sorted({*said, *(token for token in implied if kinds[token] == CONTROL)})


def odd_pieces(header: GgufHeader) -> str | None:
    """Return how the file wants texts cut if that is not known here, so that tokens may differ."""
    name = header.text(PRE, "")
    known = {*GGUF_PRE_TOKENIZER_SPLITS, *DIGIT_BY_DIGIT, *LIKE_GPT2}
    return name if header.text("tokenizer.ggml.model") == BYTES and name not in known else None


def _key(header: GgufHeader) -> str:
    """Return what the tokenizer depends on: the file's header, and who makes it of that."""
    makers = (header.digest, transformers.__version__, tokenizers.__version__, MAKER)
    return hashlib.sha256(repr(makers).encode()).hexdigest()[:32]


def _settings(header: GgufHeader) -> dict[str, Json]:
    """Return what a tokenizer is told beside its vocabulary."""
    ids = {
        name: header.metadata.get(f"tokenizer.ggml.{known_as}_token_id")
        for name, known_as in SPECIAL.items()
    }
    # Older files have no flag, and llama.cpp then adds the first token to this kind of vocabulary.
    is_sentencepiece = header.text("tokenizer.ggml.model") == "llama"
    return {
        **{
            name: None if i is None else header.text_of(TOKEN_TEXTS, int(str(i)))
            for name, i in ids.items()
        },
        "add_bos_token": header.flag("tokenizer.ggml.add_bos_token", is_sentencepiece),
        "add_eos_token": header.flag("tokenizer.ggml.add_eos_token", False),
        "chat_template": header.metadata.get("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
    }


def _backend(header: GgufHeader) -> Tokenizer:
    """Let transformers make it: its own reader of files decodes too little or takes too long."""
    found: dict[str, Json] = {
        name: _value(header, PREFIX + key)
        for key, name in GGUF_TOKENIZER_MAPPING["tokenizer"].items()
        if PREFIX + key in header.metadata
    }
    made: Tokenizer = convert_gguf_tokenizer(header.architecture, found)[0]
    if header.text("tokenizer.ggml.model") == BYTES and header.text(PRE, "") in DIGIT_BY_DIGIT:
        digits = pre_tokenizers.Digits(individual_digits=True)
        pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
    count = len(found["tokens"])
    if made.get_vocab_size() == count:
        return made
    # Its class adds GPT-2's own end token where the file has none, and no network has a row for it.
    text: Json = json.loads(made.to_str())
    text["added_tokens"] = [one for one in text["added_tokens"] if one["id"] < count]
    return Tokenizer.from_str(json.dumps(text))


def _value(header: GgufHeader, name: str) -> Json:
    value = header.metadata[name]
    if isinstance(value, Texts):
        return header.texts(name)
    return value.tolist() if isinstance(value, np.ndarray) else value


def _check(header: GgufHeader, vocab_size: int) -> None:
    """Raise unless the tokenizer's parts are there, as long as each other, and fit the network."""
    kind = header.metadata.get("tokenizer.ggml.model")
    tokens = header.metadata.get(TOKEN_TEXTS)
    if kind is None or tokens is None:
        raise ModelError(f"{shown(header.path)} holds no tokenizer ({TOKEN_TEXTS}); {SPEECHLESS}")
    if kind not in GGUF_TOKENIZER_TYPES:
        legal = ", ".join(sorted(GGUF_TOKENIZER_TYPES))
        raise header.refusal("tokenizer.ggml.model", f"one of {legal}", kind)
    if not isinstance(tokens, Texts) or not 0 < tokens.count <= vocab_size:
        count = tokens.count if isinstance(tokens, Texts) else tokens
        raise header.refusal(TOKEN_TEXTS, f"1 … {vocab_size:,} texts, the network's tokens", count)
    for name in (TOKEN_KINDS, "tokenizer.ggml.scores"):
        found = header.metadata.get(name)
        if found is not None and not (isinstance(found, np.ndarray) and len(found) == tokens.count):
            length = len(found) if isinstance(found, np.ndarray) else found
            raise header.refusal(name, f"{tokens.count:,} numbers, one a token", length)
    for known_as in (*SPECIAL.values(), *END_IDS):
        if f"tokenizer.ggml.{known_as}_token_id" in header.metadata:
            header.count(f"tokenizer.ggml.{known_as}_token_id", 0, tokens.count - 1)
    if "tokenizer.ggml.merges" in header.metadata:
        if not isinstance(header.metadata["tokenizer.ggml.merges"], Texts):
            raise header.refusal("tokenizer.ggml.merges", "an array of texts", "another value")
    elif "tokenizer.ggml.scores" not in header.metadata:
        raise ModelError(
            f"{shown(header.path)} has neither merges nor scores of tokens; {SPEECHLESS}"
        )
    header.text("tokenizer.chat_template", "")
