"""The JSON files of a model folder, read strictly: size, encoding, form, no value said twice.

Knows nothing of what their fields mean.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from foredraft.errors import ModelError, quoted
from foredraft.files import Json, reason_of

MEGABYTE = 1 << 20
MOST_BYTES = 8 * MEGABYTE  # of a file of settings; the largest known have some 100 kB
REMEDY = "fetch the model again, or mend the file"


def shown(path: Path) -> str:
    """Return a path as messages name it: its end is what tells files apart."""
    text = str(path)
    return quoted(text if len(text) <= 200 else f"…{text[-200:]}", 300)


def read_document(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Json] | None:
    """Return the JSON object in a file; None if there is no such file.

    Raises:
        ModelError: it cannot be read, is too large, or holds no JSON object.
    """
    content = read_bytes(path, most_bytes)
    return None if content is None else parse(content, shown(path))


def read_bytes(path: Path, most_bytes: int) -> bytes | None:
    """Return what a regular file holds; None if there is none.

    Raises:
        ModelError: it cannot be read, is no regular file, or is too large.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ModelError(f"{shown(path)} is no regular file; {REMEDY}")
        if about.st_size > most_bytes:
            raise ModelError(
                f"{shown(path)} has {about.st_size:,} bytes, and no such file needs more than "
                f"{most_bytes:,}; {REMEDY}"
            )
        return path.read_bytes()
    except FileNotFoundError:
        if os.path.lexists(path):
            raise ModelError(f"{shown(path)} is a link to nowhere; {REMEDY}") from None
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {shown(path)}: {reason_of(error)}; {REMEDY}") from None


def parse(content: bytes, name: str) -> dict[str, Json]:
    """Return the JSON object of some bytes: UTF-8, with or without a byte order mark.

    Raises:
        ModelError: the bytes are no JSON object, or one that contradicts itself.
    """

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        for field, value in pairs if len(found) != len(pairs) else ():
            if repr(found[field]) != repr(value):  # a reader would take either
                raise ModelError(f"{name} says {quoted(field)} twice and differently; {REMEDY}")
        return found

    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 (byte {error.start})"
    except RecursionError:
        why = "is nested too deeply to be settings"
    except json.JSONDecodeError as error:
        why = f"is not JSON: line {error.lineno}, column {error.colno}"
    except (ValueError, MemoryError):  # a number of thousands of digits
        why = "holds a number that is too long to read"
    else:
        if isinstance(found, dict):
            return found
        why = f"must hold a JSON object, not {quoted(found)}"
    raise ModelError(f"{name} {why}; {REMEDY}")
