"""Compiled code is loaded only from a folder of ours that nobody else can change or rename."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from foredraft.errors import ModelError
from foredraft.loading.runtime import can_fuse
from foredraft.native import compiler
from foredraft.native.compiler import load_library

needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
as_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="gives folders away, as root may"
)
OURS, THEIRS = 42, 666
SOMEBODY = 54321  # another user of the machine


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled functions, with what another user would like us to load."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "above" / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "small.c").write_text(f"int answer(void) {{ return {OURS}; }}")
    folder = tmp_path / "above" / "cache" / "foredraft"
    folder.mkdir(parents=True, mode=0o700)
    return folder


def planted(folder: Path) -> Path:
    """Put a library of somebody else's into a folder, under the name that is looked for."""
    source = folder.parents[2] / "small.c"
    evil = folder / "evil.c"
    evil.write_text(f"int answer(void) {{ return {THEIRS}; }}")
    made = folder / "made.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(made), str(evil)], check=True)
    evil.unlink()
    stem = f"small-{compiler._key(source, ())}"
    place = folder / compiler._name(stem, made.read_bytes())
    made.rename(place)
    place.chmod(0o700)
    return place


def answer(cache: Path) -> int:
    return int(load_library(cache.parents[2] / "small.c").answer())


@needs_a_compiler
def test_what_is_planted_here_would_be_loaded_from_a_folder_of_ours(cache: Path) -> None:
    planted(cache)
    assert answer(cache) == THEIRS


HOLES: dict[str, Callable[[Path, Path], object]] = {
    "group may write into it": lambda cache, library: cache.chmod(0o770),
    "all may write into it": lambda cache, library: cache.chmod(0o777),
    "all may write, and it is sticky": lambda cache, library: cache.chmod(0o1777),
    "group may write above": lambda cache, library: cache.parent.chmod(0o775),
    "all may write further above": lambda cache, library: cache.parents[1].chmod(0o777),
    "all may write into the file": lambda cache, library: library.chmod(0o702),
    "group may write into the file": lambda cache, library: library.chmod(0o720),
    "the file is a link": lambda cache, library: _as_link(library),
}
GIFTS: dict[str, Callable[[Path, Path], object]] = {
    "theirs": lambda cache, library: os.chown(cache, SOMEBODY, SOMEBODY),
    "theirs above": lambda cache, library: os.chown(cache.parent, SOMEBODY, SOMEBODY),
    "their file": lambda cache, library: os.chown(library, SOMEBODY, SOMEBODY),
}


def _as_link(library: Path) -> None:
    moved = library.rename(library.parents[3] / library.name)
    library.symlink_to(moved)


@needs_a_compiler
@pytest.mark.parametrize("hole", HOLES)
def test_nothing_is_loaded_where_others_may_have_been(hole: str, cache: Path) -> None:
    HOLES[hole](cache, planted(cache))
    assert answer(cache) == OURS


@needs_a_compiler
@as_root
@pytest.mark.parametrize("gift", GIFTS)
def test_nothing_is_loaded_that_is_somebody_elses(gift: str, cache: Path) -> None:
    GIFTS[gift](cache, planted(cache))
    assert answer(cache) == OURS


@needs_a_compiler
def test_a_sticky_folder_above_is_as_good_as_a_folder_of_ours(cache: Path) -> None:
    cache.parent.chmod(0o1777)
    assert answer(cache) == OURS
    assert len(list(cache.iterdir())) == 1


@needs_a_compiler
def test_a_link_is_followed_to_a_folder_of_ours_only(cache: Path, tmp_path: Path) -> None:
    planted(cache)
    moved = cache.rename(tmp_path / "moved")
    cache.symlink_to(moved)
    assert answer(cache) == THEIRS  # ours, by another name
    moved.chmod(0o777)
    assert answer(cache) == OURS


@needs_a_compiler
def test_a_link_that_is_turned_after_the_check_leads_nowhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "a" / "b" / "evil"
    evil.mkdir(parents=True)
    shutil.copy(tmp_path / "small.c", tmp_path / "a" / "b" / "small.c")
    moved = cache.rename(tmp_path / "moved")
    cache.symlink_to(moved)
    checked = compiler._checked

    def turn_then(folder: Path) -> Path:
        found = checked(folder)
        cache.unlink()
        cache.symlink_to(evil)
        return found

    monkeypatch.setattr(compiler, "_checked", turn_then)
    assert answer(cache) == OURS
    assert list(moved.glob("small-*.so"))
    assert not list(evil.iterdir())


@needs_a_compiler
def test_no_name_in_a_shared_folder_is_known_beforehand(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "small.c"))  # a file: there is no cache
    made = []
    make = tempfile.mkdtemp

    def noted(*args: object, **kwargs: object) -> str:
        made.append(str(make(*args, **kwargs)))  # type: ignore[call-overload]
        return made[-1]

    monkeypatch.setattr(compiler.tempfile, "mkdtemp", noted)
    for _ in range(2):
        assert load_library(tmp_path / "small.c").answer() == OURS
    private = [folder for folder in made if Path(folder).parent == tmp_path / "temporary"]
    assert len(set(private)) == 2
    assert not list((tmp_path / "temporary").iterdir())


@needs_a_compiler
def test_a_temporary_folder_that_others_may_rename_is_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.chmod(0o777)
    (tmp_path / "temporary").chmod(0o777)  # not sticky
    with pytest.raises(ModelError, match=r"other users can change .*; set XDG_CACHE_HOME"):
        answer(cache)
