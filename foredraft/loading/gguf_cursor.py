"""Values read from the bytes of a GGUF file, none of which is followed out of the file.

A file is hostile until its header has been read: nothing is looped over, reserved or decoded that
the file is not large enough to hold.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from foredraft.errors import ModelError
from foredraft.loading.documents import shown

MOST_ITEMS = 1 << 22  # of an array
MOST_TEXT = 1 << 24  # bytes
REFETCH = "fetch the file again"
# Kinds of values; 8 is a text, 9 an array.
NUMBER_FORMS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}
BOOL, TEXT, ARRAY = 7, 8, 9


@dataclass(frozen=True, slots=True)
class Texts:
    """An array of texts that are not decoded yet: its first byte in the file, and how many."""

    begin: int
    count: int


Value: TypeAlias = "int | float | bool | str | Texts | np.ndarray"


class Cursor:
    """A place in the bytes of a file, from which values are read; it never leaves them."""

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self.content, self.path = content, path
        self.place, self.size = 0, len(content)

    def corrupt(self, why: str) -> ModelError:
        """Return the refusal of this file."""
        return ModelError(f"{shown(self.path)} is no sound GGUF file: {why}; {REFETCH}")

    def skip(self, length: int, what: str) -> int:
        """Go forward; return where that began."""
        begin = self.place
        if length > self.size - begin:
            raise self.corrupt(
                f"{what} at byte {begin:,} would need {length:,} bytes, and the file has "
                f"{self.size - begin:,} more"
            )
        self.place = begin + length
        return begin

    def number(self, kind: str, what: str) -> int | float:
        """Read a number of a kind of `struct`."""
        form = f"<{kind}"
        found: int | float = struct.unpack_from(
            form, self.content, self.skip(struct.calcsize(form), what)
        )[0]
        return found

    def count(self, kind: str, what: str, most: int, least_bytes: int) -> int:
        """Read how many things of at least so many bytes follow."""
        found = int(self.number(kind, f"the number of {what}"))
        fitting = min(most, (self.size - self.place) // least_bytes)
        if found > fitting:
            raise self.corrupt(f"it says that {found:,} {what} follow, legal: 0 … {fitting:,}")
        return found

    def text(self, what: str, most: int = MOST_TEXT) -> str:
        """Read a text."""
        length = self.count("Q", f"bytes of {what}", most, 1)
        begin = self.skip(length, what)
        try:
            return self.content[begin : self.place].decode()
        except UnicodeDecodeError as error:
            raise self.corrupt(f"{what} is not UTF-8 (byte {error.start})") from None

    def texts(self, count: int, what: str) -> Texts:
        """Walk over texts without decoding them: a vocabulary has hundreds of thousands."""
        begin = place = self.place
        content, last, length_of = self.content, self.size - 8, struct.Struct("<Q").unpack_from
        for _ in range(count):
            if place > last:
                place = self.size + 1
                break
            place += 8 + length_of(content, place)[0]
        if place > self.size:
            raise self.corrupt(f"the file ends inside {what}, an array of {count:,} texts")
        self.place = place
        return Texts(begin, count)

    def kinds(self) -> tuple[int, ...]:
        """Return the kind of the value that follows, and of what an array holds; reads nothing."""
        here = self.content[self.place : self.place + 8]
        kind = int.from_bytes(here[:4], "little")
        return (kind, int.from_bytes(here[4:], "little")) if kind == ARRAY else (kind,)

    def value(self, what: str) -> Value:
        """Read a value of metadata: its kind, then itself."""
        kind = int(self.number("I", f"the kind of {what}"))
        if kind == TEXT:
            return self.text(what)
        if kind == ARRAY:
            return self._array(what)
        if kind not in NUMBER_FORMS:
            raise self._unknown(what, kind)
        found = self.number(NUMBER_FORMS[kind], what)
        if kind != BOOL:
            return found
        if found not in (0, 1):
            raise self.corrupt(f"{what} is a truth value of {found}, legal: 0, 1")
        return bool(found)

    def _array(self, what: str) -> Texts | np.ndarray:
        kind = int(self.number("I", f"the kind of {what}"))
        if kind == TEXT:
            return self.texts(self.count("Q", f"texts of {what}", MOST_ITEMS, 8), what)
        if kind not in NUMBER_FORMS:
            raise self._unknown(what, kind)
        dtype = np.dtype(NUMBER_FORMS[kind]).newbyteorder("<")
        count = self.count("Q", f"numbers of {what}", MOST_ITEMS, dtype.itemsize)
        begin = self.skip(count * dtype.itemsize, what)
        return np.frombuffer(self.content, dtype, count, begin).copy()

    def _unknown(self, what: str, kind: int) -> ModelError:
        legal = ", ".join(map(str, sorted((*NUMBER_FORMS, TEXT, ARRAY))))
        return self.corrupt(f"{what} is of kind {kind}, legal: {legal} (no array of arrays)")


def raw_texts(content: mmap.mmap, texts: Texts) -> Iterator[bytes]:
    """Yield the bytes of an array of texts that a cursor has walked over."""
    place, length_of = texts.begin, struct.Struct("<Q").unpack_from
    for _ in range(texts.count):
        begin = place + 8
        place = begin + length_of(content, place)[0]
        yield content[begin:place]
