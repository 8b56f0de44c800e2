"""What weights a folder holds, by the headers of its safetensors files; no weight is read.

Pickled weights are never opened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foredraft.errors import ModelError, quoted
from foredraft.files import reason_of
from foredraft.loading.documents import MEGABYTE, parse, read_document, shown

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_HEADER = 100_000_000  # bytes; the limit of the format
MOST_INDEX = 64 * MEGABYTE
BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64},
    **{"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8},
    **{"BOOL": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "F8_E8M0": 8},
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}
AGAIN = "fetch the model again"


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as a header states it; `file` is where it lies, `begin` its first byte there."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def stored_tensors(folder: Path, named: object = None) -> dict[str, Stored]:
    """Return every tensor of a folder's weights, from the files that transformers would read.

    Args:
        folder: of a model.
        named: the file that its config calls `transformers_weights`, if it does.

    Raises:
        ModelError: no safetensors there, a shard missing, a header that is not true.
    """
    index = folder / INDEX
    if named is not None:
        single = folder / str(named)
        if str(named) != single.name or single.suffix != ".safetensors":
            raise ModelError(
                f"{shown(folder / 'config.json')}: transformers_weights must name a .safetensors "
                f"file of the folder, not {quoted(named)}; leave it out"
            )
        return read_header(single)
    if (folder / SINGLE).exists():
        return read_header(folder / SINGLE)
    document = read_document(index, MOST_INDEX)
    if document is None:
        raise ModelError(
            f"folder {shown(folder)} holds no weights: neither {SINGLE} nor {INDEX} is there; "
            "give a folder with safetensors weights (pickled ones are not opened, since they may "
            "run code)"
        )
    return _shards(folder, index, document)


def shard_names(index: Path, document: dict[str, Any]) -> dict[str, str]:
    """Return which file each tensor lies in, as an index says.

    Raises:
        ModelError: it does not say so, or names files outside the folder.
    """
    places = document.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(
            f"{shown(index)}: weight_map must be an object with a file for each tensor, not "
            f"{quoted(places)}; {AGAIN}"
        )
    for tensor, name in places.items():
        if not isinstance(name, str) or name != Path(name).name or not name.endswith("safetensors"):
            raise ModelError(
                f"{shown(index)}: the file of {quoted(tensor)} must be a .safetensors file beside "
                f"it, not {quoted(name)}; {AGAIN}"
            )
    return places


def _shards(folder: Path, index: Path, document: dict[str, Any]) -> dict[str, Stored]:
    places = shard_names(index, document)
    found: dict[str, Stored] = {}
    for name in sorted(set(places.values())):
        found |= read_header(folder / name)
    for tensor, name in places.items():
        if tensor not in found or found[tensor].file.name != name:
            raise ModelError(
                f"{shown(index)} says that {quoted(tensor, 100)} lies in {name}, which has no such "
                f"tensor; {AGAIN}"
            )
    return found


def read_header(path: Path) -> dict[str, Stored]:
    """Return the tensors of one safetensors file; checks that the file holds what it says.

    Raises:
        ModelError: missing, or corrupt.
    """
    try:
        if not path.is_file():
            raise ModelError(f"the weights {shown(path)} are missing; {AGAIN}")
        total = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if total < 8 or length > min(total - 8, MOST_HEADER):
                raise _corrupt(path, f"a header of {length:,} bytes in a file of {total:,}")
            content = file.read(length)
    except OSError as error:
        raise ModelError(f"cannot read {shown(path)}: {reason_of(error)}; {AGAIN}") from None
    header = parse(content, f"the weights are corrupt: the header of {shown(path)}")
    header.pop("__metadata__", None)
    if not header:
        raise _corrupt(path, "no tensor in it")
    return _checked(path, header, 8 + length, total)


def _checked(path: Path, header: dict[str, Any], first: int, total: int) -> dict[str, Stored]:
    """Return the tensors of a header, which must fill bytes `first` to `total` in a row."""
    found, spans = {}, list[tuple[int, int, str]]()
    for name, entry in header.items():
        dtype, shape, span = _entry(path, name, entry)
        bits = BITS.get(dtype)
        if bits is None:
            raise ModelError(
                f"{shown(path)}: {quoted(name, 100)} is stored as {quoted(dtype)}, which this "
                f"program cannot read; legal: {', '.join(BITS)}; give the unquantised model"
            )
        if (span[1] - span[0]) * 8 != math.prod(shape) * bits:
            raise _corrupt(path, f"{quoted(name, 100)} has {span[1] - span[0]} bytes for {shape}")
        found[name] = Stored(dtype, shape, path, first + span[0])
        spans.append((*span, name))
    end = 0
    for begin, stop, name in sorted(spans):
        if begin != end:
            raise _corrupt(path, f"{quoted(name, 100)} begins at byte {begin} instead of {end}")
        end = stop
    if end != total - first:
        raise _corrupt(path, f"its tensors need {end:,} bytes and {total - first:,} are there")
    return found


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Return dtype, shape and the bytes from … to of one tensor."""
    parts = entry if isinstance(entry, dict) else {}
    dtype: Any = parts.get("dtype")
    shape: Any = parts.get("shape")
    span: Any = parts.get("data_offsets")
    sound = isinstance(dtype, str) and _are_counts(shape) and _are_counts(span)
    if not sound or len(span) != 2 or len(shape) > 64 or span[1] < span[0]:
        raise _corrupt(path, f"the entry of {quoted(name, 100)} is {quoted(entry)}")
    return dtype, tuple(shape), (span[0], span[1])


def _are_counts(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in found)


def _corrupt(path: Path, why: str) -> ModelError:
    return ModelError(f"the weights are corrupt: {shown(path)} says {why}; {AGAIN}")
