"""The line editor: Ctrl-C drops a line, Ctrl-D ends, and the history stays."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from foredraft.cli.commands import COMMANDS
from foredraft.cli.main import infer
from foredraft.cli.prompt import build_session
from foredraft.cli.shell import terminal_lines
from foredraft.engine import Engine
from tests.toy_engine import toy_engine

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


def test_control_d_ends_the_lines(keyboard: PipeInput) -> None:
    keyboard.send_text(f"Once upon{ENTER}/gamma 3{ENTER}{CTRL_D}")
    assert list(terminal_lines()) == ["Once upon", "/gamma 3"]


def test_control_c_drops_the_line_and_not_the_shell(keyboard: PipeInput) -> None:
    keyboard.send_text(f"half a promp{CTRL_C}{CTRL_C}whole{ENTER}{CTRL_D}")
    assert list(terminal_lines()) == ["whole"]


def test_the_history_lies_in_the_state_folder_and_outlives_the_session(
    keyboard: PipeInput, state_home: Path
) -> None:
    keyboard.send_text(f"remember me{ENTER}{CTRL_D}")
    assert list(terminal_lines()) == ["remember me"]
    history = build_session(COMMANDS).history
    assert isinstance(history, FileHistory)
    assert Path(str(history.filename)) == state_home / "foredraft" / "history"
    assert list(history.load_history_strings()) == ["remember me"]


def test_without_a_writable_state_folder_there_is_still_a_history(
    keyboard: PipeInput, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state_home / "a file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home / "a file"))
    assert isinstance(build_session(COMMANDS).history, InMemoryHistory)
    keyboard.send_text(f"Once upon{ENTER}{CTRL_D}")
    assert list(terminal_lines()) == ["Once upon"]


def test_at_a_terminal_the_shell_greets_and_does_not_echo(
    keyboard: PipeInput, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Engine, "load", lambda *args, **kwargs: toy_engine())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    keyboard.send_text(f"/seed 7{ENTER}{CTRL_C}/gamma 3{ENTER}/quit{ENTER}never read{ENTER}")
    infer([])
    greeting = "Type a prompt, or /help for the commands."
    assert capsys.readouterr().out == f"{greeting}\nseed: 7\ngamma: 3\n"
