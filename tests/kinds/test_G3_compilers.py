"""CC is a command with its arguments; what a compiler says is shown harmless, whatever it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from foredraft.errors import ModelError
from foredraft.loading.runtime import can_fuse
from foredraft.native.compiler import load_library

needs_a_compiler = pytest.mark.skipif(not can_fuse(), reason="no C compiler here")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of C, and a cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "small.c"
    file.write_text(
        "#ifndef ANSWER\n#define ANSWER 42\n#endif\nint answer(void) {return ANSWER;}\n"
    )
    return file


def script(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def compiler_of_this_machine() -> str:
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")


COMMANDS = {
    "alone": "{cc}",
    "a flag": "{cc} -g0",
    "flags": "  {cc}   -g0 -DANSWER=42 ",
    "a quoted flag": "{cc} '-DANSWER=(40 + 2)'",
    "a wrapper": "{wrapper} {cc}",
    "a wrapper with a flag": "{wrapper} {cc} -g0",
    "a quoted path": "'{spaced}' {cc}",
    "a path with a backslash": "{escaped} {cc}",
    "a line end": "{cc}\n-g0",
}


@needs_a_compiler
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_with_its_arguments(
    name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = script(tmp_path, "my cache", 'exec "$@"')
    command = COMMANDS[name].format(
        cc=compiler_of_this_machine(),
        wrapper=script(tmp_path, "ccache", 'exec "$@"'),
        spaced=spaced,
        escaped=str(spaced).replace(" ", r"\ "),
    )
    monkeypatch.setenv("CC", command)
    assert load_library(source).answer() == 42


@needs_a_compiler
def test_its_flags_are_in_force(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{compiler_of_this_machine()} -DANSWER=41")
    assert load_library(source).answer() == 41


SAID = {
    "escape codes": (r"\033[2J\033]0;title\007red", r"\x1b[2J\x1b]0;title\x07red"),
    "broken utf-8": (r"\377\376 here \303", "here"),
    "a reversed name": (r"evil\342\200\256gpj.c", r"evil\u202egpj.c"),
    "several lines": (r"one\ntwo\r\nthree\rfour", "one two three four"),
    "quotes of gcc": (r"\342\200\230main\342\200\231", "\u2018main\u2019"),
    "a NUL": (r"a\000b", r"a\x00b"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_it_says_is_harmless(
    name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, shown = SAID[name]
    broken = script(tmp_path, "broken\x1b[31m-cc", f"printf '{given}' >&2; exit 1")
    monkeypatch.setenv("CC", f"'{broken}'")
    with pytest.raises(ModelError, match=re.escape(shown)) as caught:
        load_library(source)
    assert str(caught.value).isprintable()
    assert "\\x1b[31m-cc" in str(caught.value)
    assert str(caught.value).endswith("; set CC to one that works")


@pytest.mark.parametrize("given", ["gcc '-m64", 'cc "', "gcc \\", "\x1b'"])
def test_a_command_that_cannot_be_read_is_named(
    given: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", given)
    with pytest.raises(ModelError, match=r"is no command .*set it to one, e.g. CC='gcc -m64'") as e:
        load_library(source)
    assert str(e.value).isprintable()
