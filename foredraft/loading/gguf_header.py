"""The header of a GGUF file, read strictly: every count, length and place before it is followed.

The format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from foredraft.errors import ModelError, quoted
from foredraft.files import reason_of
from foredraft.loading.documents import shown
from foredraft.loading.gguf_cursor import REFETCH, Cursor, Texts, Value, raw_texts
from foredraft.native.blocks import KINDS

MAGIC, VERSIONS = b"GGUF", (2, 3)
PLAIN = ("F32", "F16", "BF16")  # kinds that are numbers as they lie in memory
KIND_NAMES = {int(one): one.name for one in GGMLQuantizationType}
MOST_ENTRIES = 1 << 16  # of metadata, and of tensors
MOST_NAME = 1 << 10  # bytes
MOST_DIMENSIONS = 4
LEAST_ENTRY, LEAST_TENSOR = 13, 33  # bytes: name, kind and value; name, one dimension, kind, place
ALIGNMENT = 32  # where a file does not say another


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor of a GGUF file: its kind, its shape as torch orders it, its bytes in the file."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says before its tensors.

    Attributes:
        path: of the file.
        content: of the file, mapped: a write would stay in memory, and none is made.
        metadata: by name, in the file's order.
        kinds: of those, as numbers of the format; an array's has that of its items behind it.
        tensors: by their names in the file.
        data_begin: the first byte after the header.
    """

    path: Path
    content: mmap.mmap
    metadata: Mapping[str, Value]
    kinds: Mapping[str, tuple[int, ...]]
    tensors: Mapping[str, Placed]
    data_begin: int

    @cached_property
    def digest(self) -> str:
        """Of all that decides what the file means: the hash of its header."""
        return hashlib.sha256(memoryview(self.content)[: self.data_begin]).hexdigest()

    @property
    def architecture(self) -> str:
        """As llama.cpp calls it."""
        return self.text("general.architecture")

    def refusal(self, name: str, legal: str, value: object) -> ModelError:
        """Return the refusal of a value in the metadata."""
        remedy = "convert the model again, or choose another file"
        return ModelError(
            f"{shown(self.path)}: {name} must be {legal}, not {quoted(value)}; {remedy}"
        )

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text of the metadata.

        Raises:
            ModelError: it is none, or is not there and has no default.
        """
        found = self.metadata.get(name, default)
        if not isinstance(found, str):
            raise self.refusal(name, "a text", found)
        return found

    def texts(self, name: str) -> list[str]:
        """Return an array of texts; errors as for `text`."""
        found = self.metadata.get(name)
        if not isinstance(found, Texts):
            raise self.refusal(name, "an array of texts", found)
        try:
            return [str(one, "utf-8") for one in raw_texts(self.content, found)]
        except UnicodeDecodeError:
            raise self.refusal(name, "texts in UTF-8", "other bytes") from None

    def text_of(self, name: str, place: int) -> str:
        """Return one text of an array of them; errors as for `text`."""
        found = self.metadata.get(name)
        if not isinstance(found, Texts) or not 0 <= place < found.count:
            raise self.refusal(name, f"an array of more than {place} texts", found)
        [raw] = islice(raw_texts(self.content, found), place, place + 1)
        return raw.decode("utf-8", "replace")

    def number(
        self, name: str, low: float, high: float, default: float | None = None
    ) -> int | float:
        """Return a number of the metadata, finite and from `low` to `high`; errors as for `text`.

        An array of one and the same number, one for each layer, is that number.
        """
        found: object = self.metadata.get(name, default)
        if isinstance(found, np.ndarray) and len(found) and (found == found[0]).all():
            found = found[0].item()
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        if not is_number or not low <= float(str(found)) <= high:
            raise self.refusal(name, f"a number, {low:,g} … {high:,g}", found)
        assert isinstance(found, int | float)
        return found

    def count(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer of the metadata; errors as for `text`."""
        found = self.number(name, low, high, default)
        if not isinstance(found, int):
            raise self.refusal(name, "an integer", found)
        return found

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value of the metadata; errors as for `text`."""
        found = self.metadata.get(name, default)
        if not isinstance(found, bool):
            raise self.refusal(name, "true or false", found)
        return found


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file; no tensor is read.

    Raises:
        ModelError: the file cannot be read, is none, is cut short or contradicts itself, or holds a
            kind of numbers that is not computed here.
    """
    cursor = Cursor(_mapped(path), path)
    if cursor.content[:4] != MAGIC:
        raise cursor.corrupt(f"it begins with {quoted(cursor.content[:4])}, not with {MAGIC!r}")
    cursor.place = 4
    version = int(cursor.number("I", "the version"))
    if version not in VERSIONS or sys.byteorder != "little":
        legal = " and ".join(map(str, VERSIONS))
        raise cursor.corrupt(f"its version is {version}, legal: {legal}, for little-endian numbers")
    num_tensors = cursor.count("Q", "tensors", MOST_ENTRIES, LEAST_TENSOR)
    num_entries = cursor.count("Q", "entries of metadata", MOST_ENTRIES, LEAST_ENTRY)
    metadata: dict[str, Value] = {}
    kinds: dict[str, tuple[int, ...]] = {}
    for _ in range(num_entries):
        name = cursor.text("the name of an entry", MOST_NAME)
        if name in metadata:
            raise cursor.corrupt(f"its metadata has {quoted(name)} twice")
        kinds[name] = cursor.kinds()
        metadata[name] = cursor.value(quoted(name, 100))
    tensors = _tensors(cursor, num_tensors, _alignment(cursor, metadata))
    return GgufHeader(path, cursor.content, metadata, kinds, tensors, cursor.place)


def _mapped(path: Path) -> mmap.mmap:
    """Map a file so that a write would stay in memory: torch warns of what it may not write."""
    try:
        with path.open("rb") as file:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode) or about.st_size < 24:
                raise ModelError(
                    f"{shown(path)} is no sound GGUF file: it has {about.st_size:,} bytes, and a "
                    f"file with at least 24 is wanted; {REFETCH}"
                )
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {shown(path)}: {reason_of(error)}; {REFETCH}") from None


def _alignment(cursor: Cursor, metadata: Mapping[str, Value]) -> int:
    found = metadata.get("general.alignment", ALIGNMENT)
    if type(found) is not int or not 8 <= found <= 1 << 20 or found & (found - 1):
        legal = "a power of two, 8 … 1,048,576"
        raise cursor.corrupt(f"general.alignment is {quoted(found)}, legal: {legal}")
    return found


def _tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, Placed]:
    """Read where the tensors lie; the cursor ends where their numbers begin."""
    stated: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for _ in range(count):
        name = cursor.text("the name of a tensor", MOST_NAME)
        what = f"the tensor {quoted(name, 100)}"
        if name in stated:
            raise cursor.corrupt(f"{what} is there twice")
        stated[name] = _stated(cursor, what)
    cursor.place = min(cursor.size, -(-cursor.place // alignment) * alignment)
    found, begin = dict[str, Placed](), cursor.place
    for name, (kind, shape, offset) in stated.items():
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        length, room = math.prod(shape) // block * size, cursor.size - begin
        if offset % alignment or offset + length > room:
            raise cursor.corrupt(
                f"the tensor {quoted(name, 100)} lies at {offset:,} and has {length:,} bytes, "
                f"legal: multiples of {alignment}, and no byte beyond {room:,}"
            )
        found[name] = Placed(kind, shape, begin + offset, begin + offset + length)
    _check_apart(cursor, found)
    return found


def _stated(cursor: Cursor, what: str) -> tuple[str, tuple[int, ...], int]:
    """Read kind, shape and place of a tensor."""
    count = int(cursor.number("I", f"the dimensions of {what}"))
    if not 1 <= count <= MOST_DIMENSIONS:
        raise cursor.corrupt(f"{what} has {count} dimensions, legal: 1 … {MOST_DIMENSIONS}")
    sizes = [int(cursor.number("Q", what)) for _ in range(count)]
    number, offset = int(cursor.number("I", what)), int(cursor.number("Q", what))
    kind = KIND_NAMES.get(number, str(number))
    if kind not in KINDS:
        raise ModelError(
            f"{shown(cursor.path)}: {what} is of kind {kind}, which is not computed here; legal: "
            f"{', '.join(KINDS)}; choose a file of another quantisation"
        )
    if not all(sizes) or math.prod(sizes) > 8 * cursor.size:  # no kind takes less than a bit
        raise cursor.corrupt(
            f"{what} is of shape {quoted(sizes)}, more or less than the file holds"
        )
    block = GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0]
    if sizes[0] % block:
        raise cursor.corrupt(
            f"{what} has rows of {sizes[0]}, legal for {kind}: multiples of {block}"
        )
    return kind, tuple(reversed(sizes)), offset


def _check_apart(cursor: Cursor, tensors: Mapping[str, Placed]) -> None:
    ends = 0
    for name, placed in sorted(tensors.items(), key=lambda item: item[1].begin):
        if placed.begin < ends:
            raise cursor.corrupt(f"the tensor {quoted(name, 100)} lies inside of another")
        ends = placed.end
