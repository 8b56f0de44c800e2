"""The line editor at a terminal: history and completion, through prompt_toolkit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
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
            for word in self._commands[name].choices:
                if word.startswith(typed):
                    yield Completion(word, -len(typed))


def build_session(commands: Mapping[str, Command]) -> PromptSession[str]:
    """Return a session whose history outlives it, where the file can be written."""
    return PromptSession(history=_history(), completer=CommandCompleter(commands))


def _history() -> History:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    file = state / "foredraft" / "history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))
