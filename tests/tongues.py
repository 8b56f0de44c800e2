"""Small tokenizers of several kinds, for pairs of models that do not share one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from foredraft.translation import Translation
from foredraft.zoo.tokenizer import train_tokenizer
from tests.tiny import LINES

END = "</s>"
TEXTS = (
    *LINES,
    "Zwölf Boxkämpfer jagen Viktor, été, naïve.",
    "日本語 の 文 😀 😅 ok",
    "a\n\n\tb  c",
)


def of_letters(pieces: Sequence[str], *, end: bool = False) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of single letters and the pairs of them that it merges."""
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [(piece[0], piece[1]) for piece in pieces if len(piece) == 2]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END if end else None)


@cache
def letters(target: tuple[str, ...], drafter: tuple[str, ...], *, end: bool = False) -> Translation:
    """Return the translation between two tokenizers of letters; the drafter's may have an end."""
    return Translation(of_letters(target), of_letters(drafter, end=end))


@cache
def byte_level(vocab_size: int, texts: tuple[str, ...] = TEXTS) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of so many tokens, with special ones and a begin."""
    return train_tokenizer(texts, vocab_size)


@cache
def with_added() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with added tokens, of which one is not special."""
    tokenizer = train_tokenizer(TEXTS, 320)
    tokenizer.add_tokens([AddedToken("lazydog", normalized=False)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    return tokenizer


@cache
def sentence_piece() -> PreTrainedTokenizerFast:
    """Return a tokenizer as SentencePiece makes them: spaces are letters, bytes have tokens."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    special = ["<unk>", "<s>", END, *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [word for text in TEXTS[:3] for word in text.replace(" ", " ▁").split(" ")]
    backend.train_from_iterator(
        words, BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    found = Tokenizer.from_str(_without_added_bytes(backend))
    return PreTrainedTokenizerFast(
        tokenizer_object=found, unk_token="<unk>", bos_token="<s>", eos_token=END
    )


def _without_added_bytes(backend: Tokenizer) -> str:
    """Return the tokenizer with its bytes as pieces of the model, as converted files have them."""
    said = json.loads(backend.to_str())
    said["added_tokens"] = [
        one for one in said["added_tokens"] if not one["content"].startswith("<0x")
    ]
    return json.dumps(said)
