"""The tokenizer of a GGUF file, put together once and kept in the user's cache.

transformers reads these files too, but where and how changes from one of its versions to the next,
and some of them cut text otherwise than the model was taught (transformers 5.17 cuts every Llama 3
file as GPT-2 would). So the parts are put together here, see `gguf_pieces`.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

import numpy as np
import tokenizers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from foredraft.cache import keeping, kept
from foredraft.errors import ModelError, foreign
from foredraft.files import Json
from foredraft.loading.documents import shown
from foredraft.loading.gguf_cursor import Texts
from foredraft.loading.gguf_header import GgufHeader
from foredraft.loading.gguf_pieces import (
    CONTROL,
    CUTS,
    GPT2,
    NORMAL,
    Cut,
    byte_level,
    sentence_pieces,
)

ROOM, FILE = "tokenizers", "tokenizer.json"
TOKEN_TEXTS, TOKEN_KINDS = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
MERGES, SCORES = "tokenizer.ggml.merges", "tokenizer.ggml.scores"
KIND, PRE = "tokenizer.ggml.model", "tokenizer.ggml.pre"
BYTES, PIECES = "gpt2", "llama"  # kinds of tokenizer: GPT-2's, SentencePiece's
MAKER = 3  # raised when this file makes another tokenizer of the same header
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
    return name if header.text(KIND) == BYTES and name not in CUTS else None


def _key(header: GgufHeader) -> str:
    """Return what the tokenizer depends on: the file's header, and who makes it of that."""
    makers = (header.digest, tokenizers.__version__, MAKER)
    return hashlib.sha256(repr(makers).encode()).hexdigest()[:32]


def _settings(header: GgufHeader) -> dict[str, Json]:
    """Return what a tokenizer is told beside its vocabulary."""
    ids = {
        name: header.metadata.get(f"tokenizer.ggml.{known_as}_token_id")
        for name, known_as in SPECIAL.items()
    }
    # Older files have no flag, and llama.cpp then adds the first token to such vocabularies.
    is_begun = header.text(KIND) == PIECES or _cut(header).begins
    return {
        **{
            name: None if i is None else header.text_of(TOKEN_TEXTS, int(str(i)))
            for name, i in ids.items()
        },
        "add_bos_token": header.flag("tokenizer.ggml.add_bos_token", is_begun),
        "add_eos_token": header.flag("tokenizer.ggml.add_eos_token", False),
        "chat_template": header.metadata.get("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
    }


def _cut(header: GgufHeader) -> Cut:
    return CUTS.get(header.text(PRE, ""), CUTS[GPT2])


def _backend(header: GgufHeader) -> Tokenizer:
    tokens = header.texts(TOKEN_TEXTS)
    kinds = _numbers(header, TOKEN_KINDS) or [NORMAL] * len(tokens)
    merges = header.texts(MERGES) if MERGES in header.metadata else None
    if header.text(KIND) == BYTES:
        return byte_level(tokens, kinds, merges or (), _cut(header))
    has_prefix = header.flag("tokenizer.ggml.add_space_prefix", True)
    unknown = header.metadata.get("tokenizer.ggml.unknown_token_id")
    return sentence_pieces(
        tokens,
        kinds,
        _numbers(header, SCORES),
        merges,
        architecture=header.architecture,
        has_prefix=has_prefix,
        unknown=None if unknown is None else tokens[int(str(unknown))],
    )


def _numbers(header: GgufHeader, name: str) -> list[Json]:
    found = header.metadata.get(name)
    return found.tolist() if isinstance(found, np.ndarray) else []


def _check(header: GgufHeader, vocab_size: int) -> None:
    """Raise unless the tokenizer's parts are there, as long as each other, and fit the network."""
    kind = header.metadata.get(KIND)
    tokens = header.metadata.get(TOKEN_TEXTS)
    if kind is None or tokens is None:
        raise ModelError(f"{shown(header.path)} holds no tokenizer ({TOKEN_TEXTS}); {SPEECHLESS}")
    if kind not in (BYTES, PIECES):
        raise header.refusal(KIND, f"{BYTES} or {PIECES}", kind)
    if not isinstance(tokens, Texts) or not 0 < tokens.count <= vocab_size:
        count = tokens.count if isinstance(tokens, Texts) else tokens
        raise header.refusal(TOKEN_TEXTS, f"1 … {vocab_size:,} texts, the network's tokens", count)
    for name in (TOKEN_KINDS, SCORES):
        found = header.metadata.get(name)
        if found is not None and not (isinstance(found, np.ndarray) and len(found) == tokens.count):
            length = len(found) if isinstance(found, np.ndarray) else found
            raise header.refusal(name, f"{tokens.count:,} numbers, one a token", length)
    for known_as in (*SPECIAL.values(), *END_IDS):
        if f"tokenizer.ggml.{known_as}_token_id" in header.metadata:
            header.count(f"tokenizer.ggml.{known_as}_token_id", 0, tokens.count - 1)
    _check_merges(header)
    header.text("tokenizer.chat_template", "")


def _check_merges(header: GgufHeader) -> None:
    """Raise unless the file says how pieces are merged, or how good each token is."""
    if MERGES in header.metadata:
        if not isinstance(header.metadata[MERGES], Texts):
            raise header.refusal(MERGES, "an array of texts", "another value")
    elif header.text(KIND) == BYTES or SCORES not in header.metadata:
        missing = MERGES if header.text(KIND) == BYTES else f"{MERGES} and no {SCORES}"
        raise ModelError(f"{shown(header.path)} holds no {missing}; {SPEECHLESS}")
