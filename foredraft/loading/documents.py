"""The JSON files of a model folder, read strictly: size, encoding, form, no value said twice.

Knows nothing of what their fields mean.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from foredraft.errors import ModelError, quoted
from foredraft.files import reason_of

MEGABYTE = 1 << 20
MOST_BYTES = 8 * MEGABYTE  # of a file of settings; the largest known have some 100 kB
REMEDY = "fetch the model again, or mend the file"


def shown(path: Path) -> str:
    """Return a path as messages name it: its end is what tells files apart."""
    text = str(path)
    return quoted(text if len(text) <= 200 else f"…{text[-200:]}", 300)


def read_document(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any] | None:
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


def parse(content: bytes, name: str) -> dict[str, Any]:
    """Return the JSON object of some bytes.

    Args:
        content: UTF-8, with or without a byte order mark.
        name: of the file, for messages.

    Raises:
        ModelError: the bytes are no JSON object, or one that contradicts itself.
    """
    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ModelError(f"{name} is not UTF-8 (byte {error.start}); {REMEDY}") from None
    except RecursionError:
        raise ModelError(f"{name} is nested too deeply to be settings; {REMEDY}") from None
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{name} is not JSON: line {error.lineno}, column {error.colno}; {REMEDY}"
        ) from None
    except _SaidTwiceError as error:
        raise ModelError(f"{name} says {error} twice and differently; {REMEDY}") from None
    except (ValueError, MemoryError):  # a number of thousands of digits
        raise ModelError(f"{name} holds a number that is too long to read; {REMEDY}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{name} must hold a JSON object, not {quoted(found)}; {REMEDY}")
    return found


class _SaidTwiceError(Exception):
    """One field has two values, of which a reader would take either."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        for name, value in pairs:
            if repr(found[name]) != repr(value):
                raise _SaidTwiceError(quoted(name))
    return found
