"""The interactive shell: reads lines, runs prompts and commands, survives both."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from foredraft.cli.commands import COMMANDS, Quit, find_command
from foredraft.cli.prompt import build_session
from foredraft.cli.session import Session
from foredraft.errors import ConfigError, ForedraftError, quoted


class Shell(Session):
    """A session driven by lines."""

    def run(self, lines: Iterable[str], *, echo: bool) -> None:
        """Run lines until they end or `/quit`.

        Args:
            lines: prompts and commands.
            echo: show each line before it is run, for transcripts.
        """
        for line in lines:
            if not line.strip():
                continue
            if echo:
                self.view.echo(line.strip())
            try:
                self.run_line(line.strip())
            except Quit:
                return
            except ForedraftError as error:
                self.view.error(error)
            except KeyboardInterrupt:
                self.view.line("\n[interrupted]", style="yellow")

    def run_line(self, line: str) -> None:
        """Run one line: a command if it begins with `/`, else a prompt."""
        if line.startswith("/"):
            name, _, rest = line.partition(" ")
            command = find_command(name)
            if rest.strip() and not command.usage:
                raise ConfigError(f"{name} takes no value, not {quoted(rest.strip())}")
            command.run(self, rest.strip())
            if command.value is not None:
                self.view.line(f"{command.name[1:]}: {command.value(self)}")
        else:
            self.run_prompt(line, self.config)


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input; bytes that are not UTF-8 stay visible as surrogates."""
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", errors="surrogateescape").rstrip("\r\n")


def terminal_lines() -> Iterator[str]:
    """Yield lines typed at a terminal, with history and completion; Ctrl-D ends."""
    session = build_session(COMMANDS)
    while True:
        try:
            yield session.prompt("> ")
        except KeyboardInterrupt:
            continue  # Ctrl-C drops the line, not the shell
        except EOFError:
            return
