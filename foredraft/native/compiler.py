"""C sources of the package → functions, compiled where they run, once, into the user's cache.

A machine without a C compiler does without: `load_library` then says why it has nothing to give.
Compiled code is loaded only from a folder that nobody else can change or put another in place of,
and only if it is, byte for byte, what was compiled.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from foredraft.cache import OTHERS, changeable, made_folder
from foredraft.errors import ModelError, quoted
from foredraft.escape import for_line
from foredraft.files import reason_of
from foredraft.threads import usable_threads

COMPILERS = ("cc", "gcc", "clang")
# Products and sums are fused where the source says so and nowhere else: see `fused` in vectors.h.
FLAGS = ("-O3", "-fPIC", "-fno-math-errno", "-ffp-contract=off")
# What a compiler may not know, the best first. OpenMP comes without a library of its own: torch has
# loaded one, and two of them would keep each other from the processors.
CHOICES = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
SECONDS = 60  # that a compiler may take
REMEDY = "set XDG_CACHE_HOME to a folder of yours"


class _Hangs(ModelError):
    """The compiler does not come to an end; asking it again would take as long."""


class _NoFolder(ModelError):
    """A folder cannot hold code; another one may."""


def load_library(source: Path, *flags: str) -> ctypes.CDLL:
    """Return the functions of C files, from the cache if they were compiled for this processor.

    Args:
        source: a file without dependencies but the C library, or a folder of such (.c, .h).
        flags: of the compiler, after our own.

    Raises:
        ModelError: there is no compiler, or it fails, or no folder can hold what it makes.
    """
    stem = f"{source.stem}-{_key(source, flags)}"
    reasons: list[ModelError] = []
    for folder in (_cache, _temporary):
        try:
            with folder() as place:
                return _load(place, stem) or _compiled(source, place, stem, flags)
        except _Hangs:
            raise
        except ModelError as error:  # a full disk makes a compiler fail as well
            reasons.append(error)
        except (OSError, ValueError) as error:  # not writable, no such place, a NUL in its name
            why = reason_of(error)
            reasons.append(
                _NoFolder(f"no folder for compiled functions can be written ({why}); {REMEDY}")
            )
    raise next((r for r in reasons if not isinstance(r, _NoFolder)), reasons[0]) from None


def _key(source: Path, flags: tuple[str, ...]) -> str:
    try:
        texts = [(path.name, path.read_bytes()) for path in _files(source)]
    except OSError as error:
        raise ModelError(
            f"{source.name} cannot be read ({reason_of(error)}); install foredraft again"
        ) from None
    how = repr((texts, FLAGS, CHOICES, flags, _processor(), _identity()))
    return hashlib.sha256(how.encode("utf-8", "replace")).hexdigest()[:16]


def _files(source: Path) -> list[Path]:
    return sorted(source.glob("*.[ch]")) if source.is_dir() else [source]


def _identity() -> tuple[str, ...]:
    """Return what tells compilers apart: the command, and of its program the size and the time."""
    try:
        command = _compiler()
        about = os.stat(shutil.which(command[0]) or "")
    except (ModelError, OSError):
        return ()
    return (*command, str(about.st_size), str(about.st_mtime_ns))


def _processor() -> str:
    """Return what decides which instructions there are: a home folder may serve many machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return platform.platform() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


# --- folders --------------------------------------------------------------------------------------


@contextmanager
def _cache() -> Iterator[Path]:
    """Give the user's cache folder.

    Raises:
        ModelError: somebody else could put a library there, or what is there runs nowhere.
    """
    yield _checked(made_folder())


@contextmanager
def _temporary() -> Iterator[Path]:
    """Give a new folder of this process alone; what was loaded from it outlives it."""
    with tempfile.TemporaryDirectory(prefix="foredraft-", ignore_cleanup_errors=True) as folder:
        yield _checked(Path(os.path.realpath(folder)))


def _checked(folder: Path) -> Path:
    """Return a folder, its path without links, if nobody else can change it or rename it."""
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
        raise _NoFolder(f"nothing in {quoted(str(folder), 300)} may be run (noexec); {REMEDY}")
    step = changeable(folder)
    if step is not None:
        raise _NoFolder(
            f"compiled functions are not loaded from {quoted(str(folder), 300)}, since other users "
            f"can change {quoted(str(step), 300)}; {REMEDY}"
        )
    return folder


# --- libraries ------------------------------------------------------------------------------------


def _load(folder: Path, stem: str) -> ctypes.CDLL | None:
    """Load a library if there is one that is whole: its name says what its bytes must be.

    A mapped file that is cut short would end the process, so it is read before it is mapped.
    """
    for built in sorted(folder.glob(f"{stem}-*.so")):
        if _is_our_file(built) and built.name == _name(stem, built.read_bytes()):
            with suppress(OSError):
                return ctypes.CDLL(str(built))
        with suppress(OSError):  # not what was compiled: make it anew
            built.unlink()
    return None


def _is_our_file(path: Path) -> bool:
    found = path.lstat()
    ours = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return stat.S_ISREG(found.st_mode) and ours and not found.st_mode & OTHERS


def _name(stem: str, content: bytes) -> str:
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:32]}.so"


def _compiled(source: Path, place: Path, stem: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    """Compile, have it on disk, move it into place, load; others may be doing the same."""
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        made = _compile(source, Path(folder), flags)
        made.chmod(0o700)  # whatever the umask lets others do; nobody else comes in here
        with made.open("rb") as file:
            os.fsync(file.fileno())
            built = place / _name(stem, file.read())
        made.replace(built)
    return ctypes.CDLL(str(built))


def _compile(source: Path, folder: Path, flags: tuple[str, ...]) -> Path:
    """Return a shared library made in a folder."""
    compiler = _compiler()
    said = ""
    whole = folder / "whole.so"
    parts = {path: folder / f"{path.stem}.o" for path in _files(source) if path.suffix == ".c"}
    for choice in CHOICES:
        commands = [
            [*compiler, *FLAGS, *choice, *flags, "-c", str(path), "-o", str(part)]
            for path, part in parts.items()
        ]
        with ThreadPoolExecutor(usable_threads()) as several:
            failed = next(filter(None, several.map(lambda one: _said(one, folder), commands)), "")
        said = said or failed
        if failed:
            continue
        for libraries in ((), ("-fopenmp",)):
            link = [*compiler, "-shared", *libraries, *map(str, parts.values()), "-lm"]
            link += ["-o", str(whole)]
            if not (failed := _said(link, folder) or _unloadable(whole)):
                return whole
            said = said or failed
    raise ModelError(
        f"the C compiler {for_line(shlex.join(compiler))[:200]} fails: "
        f"{for_line(' '.join(said.split()))[:200]}; set CC to one that works"
    )


def _compiler() -> list[str]:
    """Return the command of the compiler: CC, which may hold flags or a wrapper, or the first."""
    given = os.environ.get("CC", "")
    try:
        command = shlex.split(given)
    except ValueError as error:
        raise ModelError(
            f"CC={quoted(given)} is no command ({error}); set it to one, e.g. CC='gcc -m64'"
        ) from None
    command = command or list(filter(shutil.which, COMPILERS))[:1]
    if not command or sys.platform == "win32":
        raise ModelError("there is no C compiler here; install gcc or clang")
    return command


def _said(command: list[str], folder: Path) -> str:
    """Return what a failed command printed, nothing if it did not fail.

    Its output goes to a file: a wrapper's child that outlives it would keep a pipe open. It gets a
    group of its own, so that the child ends too.
    """
    with tempfile.TemporaryFile(dir=folder) as out:
        try:
            running = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | {"TMPDIR": str(folder)},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return reason_of(error)
        try:
            code = running.wait(SECONDS)
        except BaseException as error:
            with suppress(OSError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise _Hangs(
                f"the C compiler {for_line(shlex.join(command[:1]))[:200]} takes more than "
                f"{SECONDS} seconds; set CC to one that works"
            ) from None
        out.seek(0)
        said = out.read(4000).decode("utf-8", "replace")
    return (said.strip() or f"it ended with code {code} without a word") if code else ""


def _unloadable(library: Path) -> str:
    """Return why a library cannot be loaded, nothing if it can."""
    try:
        ctypes.CDLL(str(library), mode=os.RTLD_NOW)
    except OSError as error:
        return reason_of(error)
    return ""
