"""Every way of having no compiled library ends in the torch runtime and one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foredraft.errors import ModelError
from foredraft.loading import runtime
from foredraft.loading.runtime import Runtime, can_fuse
from foredraft.native import compiler, structures
from foredraft.native.compiler import load_library
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel
from tests.tiny import build

ROOT = Path(__file__).parents[2]
COMPILES = can_fuse()
needs_a_compiler = pytest.mark.skipif(not COMPILES, reason="no C compiler here")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Begin without a compiled function, in this process and on disk; give an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    for cached in (structures.library, runtime.can_fuse):
        cached.cache_clear()
    yield tmp_path
    for cached in (structures.library, runtime.can_fuse):
        cached.cache_clear()


def script(place: Path, text: str) -> str:
    """Return the path of a compiler that is this shell script."""
    file = place / "strange cc"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def one_sentence() -> str:
    """Return the one warning that the torch runtime comes with."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = Runtime("native").adapt(build("llama"))
        Runtime("native").adapt(build("llama"))
    assert type(model) is NativeModel
    [warning] = [w for w in caught if issubclass(w.category, RuntimeWarning)]
    said = str(warning.message)
    assert said.startswith("the native runtime is slower than it could be: ")
    assert said.isprintable()
    assert len(said) < 700
    return said


# --- compilers ------------------------------------------------------------------------------------

COMPILERS: dict[str, tuple[str, str]] = {
    "missing": ("no-such-compiler", "No such file"),
    "unbalanced quotes": ("gcc '-m64", "CC=.*is no command"),
    "a folder": ("/", "ermission denied"),
    "no program": ("/etc/hostname", "(Exec format|ermission)"),
}
SCRIPTS: dict[str, tuple[str, str]] = {
    "no utf-8": (r"printf '\377\376 broken' >&2; exit 1", r"fails: \S+ broken"),
    "escape codes": (r"printf '\033[31mred\033[0m\007' >&2; exit 1", r"\\x1b\[31mred"),
    "silent": ("exit 3", "ended with code 3"),
    "killed": ("kill -9 $$", "ended with code -9"),
    "liar": ("exit 0", "fails: "),
    "many words": ("yes 'error error' | head -n 9999 >&2; exit 1", "error error"),
    "reads": ("cat >&2; exit 1", "ended with code 1"),
}


@pytest.mark.parametrize("name", COMPILERS)
def test_a_compiler_that_is_none(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", COMPILERS[name][0])
    with pytest.raises(ModelError, match=COMPILERS[name][1]):
        structures.library()
    one_sentence()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_compiler_that_fails(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = SCRIPTS[name]
    monkeypatch.setenv("CC", f"'{script(place, text)}' --flag")
    with pytest.raises(ModelError, match=expected):
        structures.library()
    one_sentence()


def test_a_compiler_that_hangs_is_asked_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "SECONDS", 0.5)
    # Its child holds on to the output, as a wrapper's compiler does.
    monkeypatch.setenv("CC", f"'{script(place, 'sleep 61 & sleep 62')}'")
    begin = time.monotonic()
    assert "takes more than 0.5 seconds" in one_sentence()
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("given", ["", "  ", None])
def test_no_word_about_a_compiler_means_the_first_there_is(
    given: str | None, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is not None:
        monkeypatch.setenv("CC", given)
    monkeypatch.setattr(compiler, "COMPILERS", ("no-such-compiler",))
    assert "there is no C compiler here; install gcc or clang" in one_sentence()


# --- folders --------------------------------------------------------------------------------------


def a_file(place: Path) -> None:
    (place / "cache").write_text("")


def a_file_inside(place: Path) -> None:
    (place / "cache").mkdir()
    (place / "cache" / "foredraft").write_text("")


def a_loop(place: Path) -> None:
    (place / "cache").symlink_to(place / "cache")


def leads_nowhere(place: Path) -> None:
    (place / "cache").mkdir()
    (place / "cache" / "foredraft").symlink_to(place / "nowhere" / "at all")


def open_to_all(place: Path) -> None:
    (place / "cache" / "foredraft").mkdir(parents=True)
    (place / "cache" / "foredraft").chmod(0o777)


def in_a_folder_open_to_all(place: Path) -> None:
    (place / "cache").mkdir()
    (place / "cache").chmod(0o777)


FOLDERS: dict[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (a_file, a_file_inside, a_loop, leads_nowhere, open_to_all, in_a_folder_open_to_all)
}
CACHES = {
    "too long": "/" + "x" * 5000,
    "a device": "/dev/null",
    "nobody may": "/proc/1/cache",
    "strange bytes": "/proc/\udcff\udcfe",
}


@needs_a_compiler
@pytest.mark.parametrize("name", [*FOLDERS, *CACHES, "full", "noexec"])
def test_a_cache_that_cannot_be_used_is_done_without(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source := place / "small.c").write_text("int answer(void) { return 42; }")
    temporary = place / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(temporary))
    spoil(name, place, monkeypatch)
    assert load_library(source).answer() == 42
    assert not list(temporary.iterdir()), "it was left behind"
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(place / "nowhere"))
    with pytest.raises(ModelError, match=r"set (XDG_CACHE_HOME|CC) to"):
        structures.library()
    one_sentence()


def spoil(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the cache one that cannot be used."""
    if name in FOLDERS:
        FOLDERS[name](place)
    elif name in CACHES:
        monkeypatch.setenv("XDG_CACHE_HOME", CACHES[name])
    elif name == "full":  # a compiler whose output fits nowhere but in the other folder
        text = f'case "$*" in *{place}/cache*) echo "No space left on device" >&2; exit 1;; esac'
        wrapper = script(place, f'{text}\nexec cc "$@"')
        monkeypatch.setenv("CC", f"'{wrapper}'")
    else:
        asked = os.statvfs

        def statvfs(path: Path) -> object:
            flags = os.ST_NOEXEC if Path(path).name == "foredraft" else 0
            return type("Found", (), {"f_flag": asked(path).f_flag | flags})

        monkeypatch.setattr(compiler.os, "statvfs", statvfs)


@needs_a_compiler
@pytest.mark.parametrize("given", ["relative/cache", "", ".", "~/cache"])
def test_a_cache_that_is_no_absolute_path_is_the_one_at_home(
    given: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source := place / "small.c").write_text("int answer(void) { return 42; }")
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place)
    load_library(source)
    assert len(list((place / ".cache" / "foredraft").iterdir())) == 1
    assert not (place / "relative").exists()


@needs_a_compiler
def test_nobody_known_without_a_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source := place / "small.c").write_text("int answer(void) { return 42; }")

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiler.Path, "home", nobody)
    assert load_library(source).answer() == 42


@needs_a_compiler
@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="needs to be root")
def test_a_user_that_no_file_knows() -> None:
    code = (
        "import os, sys; from pathlib import Path; from foredraft.native.compiler import *; "
        "os.setgid(54321); os.setuid(54321); os.environ.pop('HOME', 0); "
        "os.environ.pop('XDG_CACHE_HOME', 0); print(load_library(Path(sys.argv[1])).answer())"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where that user may look
        os.chmod(folder, 0o755)
        (source := Path(folder) / "small.c").write_text("int answer(void) { return 42; }")
        done = subprocess.run(
            [sys.executable, "-c", code, str(source)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.stdout == "42\n", done.stderr


def test_a_source_that_is_gone(place: Path) -> None:
    with pytest.raises(ModelError, match="install foredraft again"):
        load_library(place / "gone.c")


def test_the_sentence_is_the_same_for_the_adapter(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ModelError, match="the C compiler no-such-compiler fails"):
        FusedModel(build("llama"))
