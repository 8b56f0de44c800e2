"""C sources of the package → functions, compiled where they run, once, into the user's cache.

A machine without a C compiler does without: `load_library` then says why it has nothing to give.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from foredraft.errors import ModelError

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-fPIC", "-fno-math-errno")
# What a compiler may not know, the best first. OpenMP comes without a library of its own: torch has
# loaded one, and two of them would keep each other from the processors.
CHOICES = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
SECONDS = 120  # that a compiler may take


def load_library(source: Path, *flags: str) -> ctypes.CDLL:
    """Return the functions of a C file, from the cache if it was compiled for this processor.

    Args:
        source: a file without dependencies but the C library.
        flags: of the compiler, after our own.

    Raises:
        ModelError: there is no compiler, or it fails.
    """
    text = source.read_bytes()
    key = hashlib.sha256(text + repr((FLAGS, CHOICES, flags, _processor())).encode()).hexdigest()[
        :16
    ]
    name = f"{source.stem}-{key}.so"
    for folder in _folders():
        built = folder / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(folder):
                continue
            if not built.is_file():
                _compile(source, built, flags)
            return ctypes.CDLL(str(built))
        except OSError:  # not writable, or mounted so that nothing in it can run
            continue
    raise ModelError("no folder for compiled functions can be written; set XDG_CACHE_HOME to one")


def _folders() -> list[Path]:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [Path(cache) / "foredraft", Path(tempfile.gettempdir()) / f"foredraft-{_user()}"]


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put a library into a folder."""
    if not hasattr(os, "getuid"):
        return True
    found = folder.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _processor() -> str:
    """Return what decides which instructions there are: a home folder may serve many machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(source: Path, built: Path, flags: tuple[str, ...]) -> None:
    """Write a shared library; another process may be writing the same one."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None or sys.platform == "win32":
        raise ModelError("there is no C compiler here; install gcc or clang")
    said = ""
    for choice in CHOICES:
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            part, whole = Path(folder) / "part.o", Path(folder) / "whole.so"
            compiled = _said(
                [compiler, *FLAGS, *choice, *flags, "-c", str(source), "-o", str(part)]
            )
            said = said or compiled
            if compiled:
                continue
            for libraries in ((), ("-fopenmp",)):
                link = [compiler, "-shared", *libraries, str(part), "-lm", "-o", str(whole)]
                if not (failed := _said(link)) and _loads(whole):
                    whole.replace(built)
                    return
                said = said or failed
    raise ModelError(f"the C compiler {compiler} fails: {said.strip()[:200]}")


def _said(command: list[str]) -> str:
    """Return what a failed command printed, nothing if it did not fail."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr or "failed without a word") if done.returncode else ""


def _loads(library: Path) -> bool:
    try:
        ctypes.CDLL(str(library), mode=os.RTLD_NOW)
    except OSError:
        return False
    return True
