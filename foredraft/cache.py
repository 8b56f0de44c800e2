"""The user's cache folder, and folders in it that are believed only if they are what was written.

What is kept there is made anew when it is gone, damaged or could be somebody else's; so nothing
here fails, and nobody who cannot write as the user decides what is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from foredraft.files import whole_folder

SUMS = "sums.json"  # in each kept folder: the hash of every other file
OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_home() -> Path | None:
    """Return the path of our folder in the user's cache, there or not; None without a home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not given.is_absolute():  # unset, empty, or what the standard says is to be ignored
        try:
            given = Path.home() / ".cache"
        except RuntimeError:  # no HOME, and a user that no file knows
            return None
    return given / "foredraft" if given.is_absolute() else None


def kept(name: str) -> Path | None:
    """Return a kept folder if it is, byte for byte, what was written; None if there is none."""
    with suppress(OSError, ValueError):
        home = cache_home()
        folder = _own(Path(os.path.realpath(home / name))) if home else Path()
        sums = json.loads((folder / SUMS).read_bytes())
        if sums == _sums(folder):
            return folder
    return None


@contextmanager
def keeping(name: str) -> Iterator[Path]:
    """Yield an empty folder, which is kept under a name `room/name` at the end of the block.

    Raises:
        OSError: it cannot be written, or other users could change it.
    """
    room, name = name.split("/")
    with whole_folder(_own(made_folder(room)) / name) as folder:
        yield folder
        (folder / SUMS).write_text(json.dumps(_sums(folder)), encoding="utf-8")
        folder.chmod(0o700)


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(one for one in folder.iterdir() if one.name != SUMS)
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


def changeable(folder: Path) -> Path | None:
    """Return the folder by which others could change this one or put another in its place, if any.

    Whoever may write into a folder above may rename what is in it, except where it is sticky: there
    everybody renames only his own.

    Args:
        folder: its path without links.

    Raises:
        OSError: it is not there.
    """
    for step in (folder, *folder.parents) if hasattr(os, "getuid") else ():
        found = step.lstat()
        ours = found.st_uid == os.getuid() or (step != folder and found.st_uid == 0)
        is_sticky = step != folder and found.st_mode & stat.S_ISVTX
        if not (stat.S_ISDIR(found.st_mode) and ours) or (found.st_mode & OTHERS and not is_sticky):
            return step
    return None


def made_folder(*rooms: str) -> Path:
    """Return our folder in the user's cache, or one in it, its path without links; make it.

    Raises:
        OSError: it cannot be made, or there is no home.
    """
    home = cache_home()
    if home is None:
        raise OSError("no home folder")
    folder = home.joinpath(*rooms)
    for step in (*reversed(folder.parents), folder):  # `parents=True` would make them for all
        step.mkdir(mode=0o700, exist_ok=True)
    # Where links lead is settled now: one that is turned later leads us nowhere.
    return Path(os.path.realpath(folder))


def _own(folder: Path) -> Path:
    """Return a folder that nobody else can change.

    Raises:
        OSError: others could, or it is not there.
    """
    step = changeable(folder)
    if step is not None:
        raise OSError(f"other users can change {step}")
    return folder
