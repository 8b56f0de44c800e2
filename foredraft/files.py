"""Files of text, read in one way and written whole or not at all; and folders with one writer.

Knows paths and bytes; knows nothing of what is in them.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from foredraft.errors import ConfigError, ForedraftError, quoted

Json: TypeAlias = Any  # null, a bool, a number, a text, or a list or an object of these
Document: TypeAlias = Mapping[str, Json]  # what a file of settings holds
PATH_LIMIT = 300  # characters of a path that a message shows
CHUNK = 1 << 16  # bytes


def read_text(path: Path, *, torn: bool = False) -> str:
    """Return a file's text: UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        torn: leave out a last line without its end: a writer was killed there, or is at it.

    Raises:
        ConfigError: it cannot be read, or is no UTF-8.
    """
    try:
        data = path.read_bytes()
        return (data[: data.rfind(b"\n") + 1] if torn else data).decode("utf-8-sig")
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


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
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
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a file beside `path` that takes its place, whole and on disk, at the end of the block.

    If the block raises, what was made is gone and what was at `path` stays.
    """
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(number)
    beside = Path(name)
    try:
        yield beside
        _to_disk(beside)
        beside.chmod(_mode_of(path))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place, whole, at the end of the block.

    What was at `path` is gone then; if the block raises, it stays and what was made is gone.
    """
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = beside.with_name(f"{beside.name}.old")
    try:
        yield beside
        for file in filter(Path.is_file, beside.rglob("*")):
            _to_disk(file)
        mask = _mask()
        beside.chmod(0o777 & ~mask)
        if path.exists():
            path.rename(old)
        beside.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        for folder in (beside, old):
            shutil.rmtree(folder, ignore_errors=True)


def append_whole(path: Path, line: bytes) -> None:
    """Append to a file, or leave it as it was; first cut off a torn last line, see `read_text`.

    Only for the one who holds the folder, see `only_writer`.

    Raises:
        OSError: it cannot be written, e.g. for want of room.
    """
    with path.open("a+b", buffering=0) as file:
        end = _end_of_lines(file)
        file.truncate(end)
        try:
            left = memoryview(line)
            while left:
                left = left[file.write(left) :]  # a disk that fills up takes a part of it
        except BaseException:
            file.truncate(end)
            raise


@contextmanager
def writing(path: Path, remedy: str) -> Iterator[None]:
    """Write there: whatever our code or somebody else's raises becomes one sentence.

    Raises:
        ConfigError: "cannot write PATH: No space left on device; REMEDY".
    """
    try:
        yield
    except ForedraftError:
        raise
    except Exception as error:
        reason = " ".join(reason_of(error).split())[:PATH_LIMIT]
        raise ConfigError(
            f"cannot write {quoted(str(path), PATH_LIMIT)}: {reason}; {remedy}"
        ) from None  # a full disk as its cause would be taken for one behind standard output


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


def plain_name(name: str, flag: str) -> str:
    """Return a name from a file, which may name a file or folder here and nowhere else.

    Raises:
        ConfigError: it would lie elsewhere; the flag says where it shall lie.
    """
    if name in ("", ".", "..") or any(c in "/\\:" or not c.isprintable() for c in name):
        raise ConfigError(f"{quoted(name)} is no name of a folder; say where it lies with {flag}")
    return name


def reason_of(error: Exception) -> str:
    """Return why a file could not be read or written, without the path that the message has."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _mode_of(path: Path) -> int:
    """Return the permissions a file has, or would be made with."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        return 0o666 & ~_mask()


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _end_of_lines(file: io.FileIO) -> int:
    """Return where the last whole line of a file ends, in bytes."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - CHUNK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
