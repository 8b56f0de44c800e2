"""Files of text, read in one way and written whole or not at all; and folders with one writer.

Knows paths and bytes; knows nothing of what is in them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from foredraft.errors import ConfigError, quoted

PATH_LIMIT = 300  # characters of a path that a message shows


def read_text(path: Path) -> str:
    """Return a file's text: UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{quoted(str(path), PATH_LIMIT)} is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:  # a NUL in a path is no OSError
        raise ConfigError(
            f"cannot read {quoted(str(path), PATH_LIMIT)}: {reason_of(error)}"
        ) from None


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a text: what stands between `\n`s, a `\r` before one dropped.

    `str.splitlines` would also cut at U+2028, form feeds and others, which JSON and CSV hold inside
    their strings.
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file; see `read_text` and `lines_of`."""
    return lines_of(read_text(path))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment the old one or the new one is there, whole, and on disk.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    number, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(number, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(beside, _mode_of(path))
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


@contextmanager
def only_writer(folder: Path, what: str) -> Iterator[None]:
    """Be the only process that writes into a folder; the lock dies with its process.

    Args:
        folder: exists.
        what: is written there, for the message: "this run".

    Raises:
        ConfigError: another process is writing there.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError(
            f"another process is writing {what} in {quoted(str(folder), PATH_LIMIT)}; "
            "wait for its end, or choose another folder"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot write {quoted(str(folder), PATH_LIMIT)}: {reason_of(error)}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def reason_of(error: Exception) -> str:
    """Return why a file could not be read or written, without the path that the message has."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _mode_of(path: Path) -> int:
    """Return the permissions a file has, or would be made with."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
