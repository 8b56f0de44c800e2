"""What weights a folder holds, by the headers of its safetensors files; no weight is read.

Pickled weights are never opened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from foredraft.errors import ModelError, quoted, unfit
from foredraft.files import Document, reason_of
from foredraft.loading.documents import MEGABYTE, parse, read_document, shown

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_INDEX = 64 * MEGABYTE
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
            place = f"{shown(folder / 'config.json')}: transformers_weights"
            raise unfit(place, "the name of a .safetensors file here", named, "leave it out")
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


def shard_names(index: Path, document: Document) -> dict[str, str]:
    """Return which file each tensor lies in, as an index says.

    Raises:
        ModelError: it does not say so, or names files outside the folder.
    """
    places = document.get("weight_map")
    if not isinstance(places, dict) or not places:
        wanted = "an object with a file for each tensor"
        raise unfit(f"{shown(index)}: weight_map", wanted, places, AGAIN)
    for tensor, name in places.items():
        if not isinstance(name, str) or name != Path(name).name or not name.endswith("safetensors"):
            what = f"{shown(index)}: the file of {quoted(tensor)}"
            raise unfit(what, "a .safetensors file beside it", name, AGAIN)
    return places


def _shards(folder: Path, index: Path, document: Document) -> dict[str, Stored]:
    places, found = shard_names(index, document), dict[str, Stored]()
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
    corrupt = f"the weights are corrupt: {shown(path)}"
    try:
        if not path.is_file():
            raise ModelError(f"the weights {shown(path)} are missing; {AGAIN}")
        with path.open("rb") as file, safe_open(path, "pt"):  # which compares sizes and places
            length = int.from_bytes(file.read(8), "little")
            header = parse(file.read(length), f"{corrupt}: its header")
    except OSError as error:
        raise ModelError(f"cannot read {shown(path)}: {reason_of(error)}; {AGAIN}") from None
    except SafetensorError as error:
        raise ModelError(f"{corrupt}: {quoted(str(error), 160)}; {AGAIN}") from None
    header.pop("__metadata__", None)
    if not header:
        raise ModelError(f"{corrupt} says no tensor is in it; {AGAIN}")
    return {
        name: Stored(one["dtype"], tuple(one["shape"]), path, 8 + length + one["data_offsets"][0])
        for name, one in header.items()
    }
