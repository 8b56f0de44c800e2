"""Translation: a text in the target's tokens, and the same text in those of another tokenizer.

What both have in common is bytes: every token spells some, and special ones spell none. Knows
tokenizers; knows no model and no drafting.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from foredraft.errors import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_RUN = 64  # target tokens that are translated together where no word ends among them
REMEDY = "choose a drafter with another tokenizer, or --drafter none"
STRAY = re.compile("([\udc80-\udcff])")  # how `surrogateescape` reads a byte that is no UTF-8
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
MARK, SPACE = "▁", b" "  # SentencePiece's space, and a real one
BEFORE = "\n"  # what stands before a text that is read as the middle of a longer one


def difference(
    ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase, names: tuple[str, str]
) -> str | None:
    """Return how two tokenizers differ; None if every id that both know means the same text.

    Args:
        ours: of the target.
        theirs: of the drafter.
        names: of target and drafter.
    """
    if ours is theirs:
        return None
    one, other = ({i: t for t, i in tokenizer.get_vocab().items()} for tokenizer in (ours, theirs))
    whose = f"the tokenizers of target {names[0]!r}"
    for i in sorted(one.keys() & other.keys()):
        if one[i] != other[i]:
            return (
                f"{whose} and drafter {names[1]!r} differ: id {i} is {one[i]!r} for one and "
                f"{other[i]!r} for the other"
            )
    if other.keys() - one.keys() and one.keys() - other.keys():
        return (
            f"{whose} ({len(one)} tokens) and drafter {names[1]!r} ({len(other)}) each have tokens "
            "that the other lacks"
        )
    return None


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
    return b"".join(_bytes_of_letters().get(letter, letter.encode()) for letter in text)


def _of_sentence_piece(text: str, token: int) -> bytes | None:
    found = BYTE_PIECE.fullmatch(text)
    return bytes([int(found[1], 16)]) if found else text.replace(MARK, " ").encode()


@cache
def _bytes_of_letters() -> dict[str, bytes]:
    """Return GPT-2's letter for each byte: itself where it is printed, else one of those behind."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = {chr(byte): bytes([byte]) for byte in printed}
    return letters | {chr(256 + i): bytes([byte]) for i, byte in enumerate(others)}


class Translation:
    """Two tokenizers, and what can be said in both.

    Args:
        target: the target's tokenizer.
        drafter: the drafter's.
    """

    def __init__(self, target: PreTrainedTokenizerBase, drafter: PreTrainedTokenizerBase) -> None:
        self._tokenizers = target, drafter

    @cached_property
    def target(self) -> Spelling:
        """What the target's tokens say."""
        return Spelling(self._tokenizers[0])

    @cached_property
    def drafter(self) -> Spelling:
        """What the drafter's tokens say."""
        return Spelling(self._tokenizers[1])

    @cached_property
    def special(self) -> dict[int, int]:
        """Tokens of the target that say nothing → the drafter's: of one name, or both end texts."""
        ours, theirs = self.target.special, self.drafter.special
        pairs = {ours[name]: theirs[name] for name in ours.keys() & theirs.keys()}
        ends = [tokenizer.eos_token_id for tokenizer in self._tokenizers]
        if None not in ends and ends[0] not in pairs and ends[1] not in pairs.values():
            pairs[ends[0]] = ends[1]
        return pairs

    @cached_property
    def shared(self) -> dict[int, int]:
        """Tokens of the target → those of the drafter that say the same, each at most once."""
        ours, theirs = self.target.ids, self.drafter.ids
        return {ours[piece]: theirs[piece] for piece in ours.keys() & theirs.keys()} | self.special

    @property
    def coverage(self) -> float:
        """Share of the drafter's tokens that the target spells alike, in [0, 1]."""
        return len(self.shared) / max(1, len(self.drafter.ids))


def translation_between(
    target: PreTrainedTokenizerBase, drafter: PreTrainedTokenizerBase
) -> Translation | None:
    """Return the translation between two tokenizers; None if they are one for every id."""
    is_one = difference(target, drafter, ("", "")) is None
    return None if is_one else Translation(target, drafter)


class Reading:
    """A text in the target's tokens, and the same in the drafter's.

    It grows and shrinks at its end, and only what stands behind the last border before the change
    is translated again. A border lies where a word ends and a space follows: no tokenizer that cuts
    texts into words has a token across it. Where there is none for long, as between ideographs, one
    is made: the draft model then reads the text a little otherwise than it was taught, no more.

    Attributes:
        tokens: the target's.
        translated: the drafter's, with what its tokenizer puts before a text.
    """

    def __init__(self, translation: Translation) -> None:
        self._translation = translation
        self.tokens = list[int]()
        self.translated = list(translation.drafter.begin)
        self._borders = [(0, len(self.translated))]  # in both
        self._changed = 0  # drafter's tokens before this are as they were when last asked

    def copy(self) -> Reading:
        """Return one of its own of the same text."""
        other = copy.copy(self)
        other.tokens, other.translated = [*self.tokens], [*self.translated]
        other._borders = [*self._borders]
        return other

    def changed(self) -> int:
        """Return how many of the drafter's tokens are certainly what they were when last asked."""
        changed, self._changed = self._changed, len(self.translated)
        return changed

    def following(self, data: bytes, given: Sequence[int] = ()) -> list[int]:
        """Return the target's tokens of what is said after the text and some tokens more.

        They are those that the tokenizer gives from the last border on, if it gives the text's own
        before them.
        """
        spelling, begin = self._translation.target, self._borders[-1][0]
        known = [*self.tokens[begin:], *given]
        whole = spelling.said(known) + data
        if begin == 0 and spelling.adds_space:
            whole = whole.removeprefix(SPACE)
        found = spelling.tokens(whole, begins=begin == 0)
        if found[: len(known)] == known:
            return found[len(known) :]
        return spelling.tokens(data)

    def write(self, place: int, tokens: Sequence[int]) -> None:
        """Let the text go on with `tokens` from a place on, whatever stood there.

        Args:
            place: tokens of the target that stay.
            tokens: the target's.
        """
        if self.tokens[place:] == list(tokens):
            return
        self.tokens[place:] = tokens
        while len(self._borders) > 1 and self._borders[-1][0] >= place:
            self._borders.pop()
        first, border = self._borders[-1][0], 0
        for i in range(first + 1, len(self.tokens)):
            if self._is_border(i):
                border = i
            elif i - max(border, first) >= LONGEST_RUN and self._begins_a_letter(i):
                self._put_border(border)
                self._put_border(i)
                first = i
        self._put_border(border)
        self._translate(len(self.tokens))

    def _put_border(self, place: int) -> None:
        if place > self._borders[-1][0]:
            self._translate(place)
            self._borders.append((place, len(self.translated)))

    def _translate(self, end: int) -> None:
        """Translate what stands between the last border and `end`."""
        begin, count = self._borders[-1]
        self._changed = min(self._changed, count)
        del self.translated[count:]
        spelling, drafter = self._translation.target, self._translation.drafter
        run = self.tokens[begin:end]
        for is_special, part in groupby(run, lambda token: spelling.piece(token) is None):
            if is_special:
                known = map(self._translation.special.get, part)
                self.translated += [token for token in known if token is not None]
                continue
            data = spelling.said(list(part))
            begins = begin == 0 and count == len(self.translated)
            if begins and spelling.adds_space:
                data = data.removeprefix(SPACE)
            self.translated += drafter.tokens(data, begins=begins)

    def _is_border(self, place: int) -> bool:
        return self._translation.target.is_border(*self.tokens[place - 1 : place + 1])

    def _begins_a_letter(self, place: int) -> bool:
        after = self._translation.target.piece(self.tokens[place]) or SPACE
        return not 0x80 <= after[0] < 0xC0
