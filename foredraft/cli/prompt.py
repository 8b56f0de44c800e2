"""The line editor at a terminal: history and completion, through prompt_toolkit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from foredraft.cli.commands import Command


class CommandCompleter(Completer):
    """Completes command names, then the words a command knows for its first value."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = commands

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what may stand at the cursor."""
        text = document.text_before_cursor
        name, space, typed = text.partition(" ")
        if not text.startswith("/"):
            return
        if not space:
            for command in self._commands.values():
                if command.name.startswith(name):
                    yield Completion(command.name, -len(name), display_meta=command.help)
        elif name in self._commands:
            for word in self._commands[name].choices():
                if word.startswith(typed):
                    yield Completion(word, -len(typed))


def build_session(commands: Mapping[str, Command]) -> PromptSession[str]:
    """Return a session whose history outlives it, where the file can be written."""
    return PromptSession(history=_history(), completer=CommandCompleter(commands))


class _PrivateHistory(FileHistory):
    """A history that only its owner reads; a line that cannot be kept is no reason to end."""

    def store_string(self, string: str) -> None:
        with suppress(OSError, ValueError):  # a full disk, a surrogate
            super().store_string(string)


def _history() -> History:
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        file = state / "foredraft" / "history"
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            is_file = stat.S_ISREG(os.fstat(number).st_mode)
            if is_file:
                os.chmod(file, 0o600)  # one that was made before may be open to all
        finally:
            os.close(number)
    except (OSError, ValueError, RuntimeError):  # no home, a NUL
        return InMemoryHistory()
    return _PrivateHistory(str(file)) if is_file else InMemoryHistory()
