"""A compiled library is loaded whole or made anew: what is cut or changed never gets mapped."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foredraft.loading.runtime import can_fuse
from foredraft.native import compiler
from foredraft.native.compiler import load_library

pytestmark = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
ROOT = Path(__file__).parents[2]
CODE = "int answer(void) { return 42; }\nstatic const char room[20000] = {1};\n"
LOAD = (
    "import sys; from pathlib import Path; from foredraft.native.compiler import load_library; "
    "print(load_library(Path(sys.argv[1])).answer())"
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of C, and a cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "small.c"
    file.write_text(CODE)
    return file


def only_library(source: Path) -> Path:
    [built] = (source.parent / "cache" / "foredraft").iterdir()
    return built


HARMS: dict[str, Callable[[Path, bytes], object]] = {
    "cut": lambda path, content: path.write_bytes(content[: len(content) // 3]),
    "cut after its header": lambda path, content: path.write_bytes(content[:4096]),
    "empty": lambda path, content: path.write_bytes(b""),
    "a hole": lambda path, content: path.write_bytes(
        content[:1024] + bytes(len(content) - 2048) + content[-1024:]
    ),
    "one bit": lambda path, content: path.write_bytes(
        content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    ),
    "longer": lambda path, content: path.write_bytes(content + b"x"),
    "text": lambda path, content: path.write_bytes(b"not a library\n"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_library_that_is_not_what_was_compiled_is_made_anew(source: Path, harm: str) -> None:
    assert load_library(source).answer() == 42
    built = only_library(source)
    content = built.read_bytes()
    built.unlink()  # this process has it mapped
    HARMS[harm](built, content)
    built.chmod(0o700)
    assert load_library(source).answer() == 42  # mapped as it is, it would end this process
    mended = only_library(source)
    assert mended.read_bytes() == content
    inode = mended.stat().st_ino
    assert load_library(source).answer() == 42
    assert only_library(source).stat().st_ino == inode, "made again although it was whole"


def test_it_is_on_disk_before_it_has_its_name(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    synced, moved = os.fsync, Path.replace

    def sync(number: int) -> None:
        order.append("sync")
        synced(number)

    def move(path: Path, target: Path) -> Path:
        order.append(target.suffix)
        return moved(path, target)

    monkeypatch.setattr(compiler.os, "fsync", sync)
    monkeypatch.setattr(compiler.Path, "replace", move)
    load_library(source)
    assert order == ["sync", ".so"]


def test_whatever_the_umask_others_may_not_write_into_it(source: Path) -> None:
    before = os.umask(0)
    try:
        load_library(source)
    finally:
        os.umask(before)
    built = only_library(source)
    assert stat.S_IMODE(built.stat().st_mode) == 0o700
    assert not stat.S_IMODE(built.parent.stat().st_mode) & 0o022


@pytest.mark.slow
def test_nothing_is_left_beside_it_and_two_processes_may_make_it_at_once(source: Path) -> None:
    command = [sys.executable, "-c", LOAD, str(source)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=200)[0].strip() for process in running] == [b"42"] * 2
    assert isinstance(ctypes.CDLL(str(only_library(source))), ctypes.CDLL)
