"""Spelling: the bytes that each token of a tokenizer says, and the tokens that say some bytes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

from foredraft.errors import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEDY = "choose a drafter with another tokenizer, or --drafter none"
STRAY = re.compile("([\udc80-\udcff])")  # how `surrogateescape` reads a byte that is no UTF-8
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
MARK, SPACE = "▁", b" "  # SentencePiece's space, and a real one
BEFORE = "\n"  # what stands before a text that is read as the middle of a longer one


class Spelling:
    """What the tokens of a tokenizer say, in bytes, and which tokens say some bytes.

    Args:
        tokenizer: a Hugging Face tokenizer; what belongs to it stays as it is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._backend = None
        if backend is not None:  # a copy: its settings are ours, and so is the time it is used
            self._backend = copy.deepcopy(backend)
            self._backend.no_padding()
            self._backend.no_truncation()
            # "<|end|>" that is written out in a text is text.
            self._backend.encode_special_tokens = True

    @cached_property
    def pieces(self) -> list[bytes | None]:
        """What each id says; None: it is special, or nobody knows."""
        vocabulary = self.tokenizer.get_vocab()
        pieces: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
        added = self.tokenizer.added_tokens_decoder
        special = {*self.tokenizer.all_special_ids, *(i for i, t in added.items() if t.special)}
        for text, i in vocabulary.items():
            if i not in special:
                pieces[i] = added[i].content.encode() if i in added else self._rule(text, i)
        return pieces

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The token that says some bytes; of several a real piece, and of those the first."""
        vocabulary = self.tokenizer.get_vocab()
        bytewise = {i for text, i in vocabulary.items() if BYTE_PIECE.fullmatch(text)}
        order = sorted(range(len(self.pieces)), key=lambda i: (i not in bytewise, -i))
        return {piece: i for i in order if (piece := self.pieces[i])}

    @cached_property
    def special(self) -> dict[str, int]:
        """The tokens that say nothing, by their names."""
        vocabulary = self.tokenizer.get_vocab()
        return {text: i for text, i in vocabulary.items() if self.pieces[i] is None}

    @cached_property
    def begin(self) -> list[int]:
        """What the tokenizer puts before every text."""
        with foreign("the drafter's tokenizer", REMEDY):
            around = list(self.tokenizer("")["input_ids"])
        first = self.tokenizer.bos_token_id
        return around[:1] if first is not None and around[:1] == [first] else []

    @cached_property
    def adds_space(self) -> bool:
        """Whether a text gets a space before its first word, as SentencePiece does it."""
        return (self.said(self._read("a")) or b"").startswith(SPACE)

    def said(self, tokens: Sequence[int]) -> bytes:
        """Return what tokens say together."""
        return b"".join(self.piece(token) or b"" for token in tokens)

    def piece(self, token: int) -> bytes | None:
        """Return what a token says; None: it is special, or no token of this tokenizer."""
        return self.pieces[token] if 0 <= token < len(self.pieces) else None

    def is_border(self, token: int, next_token: int) -> bool:
        """Whether a word ends with a token and a space follows, or one of both is special."""
        before, after = self.piece(token), self.piece(next_token)
        if before is None or after is None:
            return True
        letter = before[-4:].decode("utf-8", "ignore")[-1:]
        is_whole = bool(letter) and before.endswith(letter.encode())
        return after.startswith(SPACE) and is_whole and not letter.isspace()

    def tokens(self, data: bytes, *, begins: bool = False) -> list[int]:
        """Return the tokens of some bytes; those that are no UTF-8 have tokens of their own.

        Args:
            data: what is said.
            begins: whether the text begins with it.
        """
        found = list[int]()
        for part in STRAY.split(data.decode("utf-8", "surrogateescape")):
            if STRAY.fullmatch(part):
                token = self.ids.get(part.encode("utf-8", "surrogateescape"))
                found += [] if token is None else [token]
            elif part:
                is_middle = self.adds_space and not (begins and not found)
                found += self._read_within(part) if is_middle else self._read(part)
        return found

    def _read(self, text: str) -> list[int]:
        with foreign("the tokenizer", REMEDY):
            if self._backend is None:
                return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _read_within(self, text: str) -> list[int]:
        """Return the tokens of a text that stands behind another one, without a space of theirs."""
        found = self._read(BEFORE + text)
        before = SPACE + BEFORE.encode()
        for count in range(1, len(found)):
            if self.said(found[:count]) == before:
                return found[count:]
        return self._read(text)

    @cached_property
    def _rule(self) -> Callable[[str, int], bytes | None]:
        """How a token of the vocabulary is spelled, by how the tokenizer decodes."""
        decoder = getattr(self._backend, "decoder", None)
        steps = "" if decoder is None else json.loads(decoder.__getstate__())
        told = json.dumps(steps, ensure_ascii=False)
        if "ByteLevel" in told:
            return _of_byte_level
        if "Metaspace" in told or "ByteFallback" in told or MARK in told:
            return _of_sentence_piece
        return self._decoded

    def _decoded(self, text: str, token: int) -> bytes | None:
        """Return what a token adds to a text that ends with it already."""
        with foreign("the tokenizer", REMEDY):
            once, twice = (self.tokenizer.decode([token] * count) for count in (1, 2))
        return str(twice)[len(str(once)) :].encode()


def _of_byte_level(text: str, token: int) -> bytes | None:
    return b"".join(bytes_of_letters().get(letter, letter.encode()) for letter in text)


def _of_sentence_piece(text: str, token: int) -> bytes | None:
    found = BYTE_PIECE.fullmatch(text)
    return bytes([int(found[1], 16)]) if found else text.replace(MARK, " ").encode()


@cache
def bytes_of_letters() -> dict[str, bytes]:
    """Return GPT-2's letter for each byte: itself where it is printed, else one of those behind."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = {chr(byte): bytes([byte]) for byte in printed}
    return letters | {chr(256 + i): bytes([byte]) for i, byte in enumerate(others)}
