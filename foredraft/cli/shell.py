"""The interactive shell: reads lines, runs prompts and commands, survives both."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from foredraft.cli.commands import COMMANDS, Quit, find_command
from foredraft.cli.prompt import build_session
from foredraft.cli.session import Session
from foredraft.errors import ConfigError, ForedraftError, foreign, quoted

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Shell(Session):
    """A session driven by lines."""

    def run(self, lines: Iterable[str], *, echo: bool) -> None:
        """Run lines until they end or `/quit`, whatever becomes of any of them.

        One that was pasted may be a block of them; echoed, each is shown before it is run.
        """
        for line in (line for block in lines for line in lines_of_block(block)):
            if not line.strip():
                continue
            if echo:
                self.view.echo(line.strip())
            try:
                self.run_line(line)
            except Quit:
                return
            except ForedraftError as error:
                self.view.error(error)
            except KeyboardInterrupt as interrupt:
                told = "".join(f": {words}" for words in interrupt.args)
                self.view.line(f"\n[interrupted{told}]", style="yellow")

    def run_block(self, block: str) -> None:
        """Run what was given at once: one line, or a block of them; the first refusal ends it."""
        for line in lines_of_block(block):
            self.run_line(line)

    def run_line(self, line: str) -> None:
        """Run one line: a command, a turn of the conversation, or a prompt.

        Raises:
            ForedraftError: it was refused, or failed in whatever way; models and settings are as
                they were before.
        """
        with foreign("this line", "models and settings are as they were", ForedraftError):
            if is_command(line):
                self._run_command(line)
            elif self.is_talking:
                self.say(line.strip())
            else:
                self.run_prompt(line.strip(), self.config)

    def _run_command(self, line: str) -> None:
        name, *values = line.split(maxsplit=1)
        rest = values[0].strip() if values else ""
        command = find_command(name)
        if rest and not command.usage:
            raise ConfigError(f"{name} takes no value, not {quoted(rest)}")
        command.run(self, rest)
        if command.value is not None:
            self.view.line(f"{command.name[1:]}: {command.value(self)}")


def is_command(line: str) -> bool:
    """Whether a line is a command; a space before its `/`, or a second `/`, makes it a prompt."""
    return line.startswith("/") and not line.startswith("//")


def lines_of_block(block: str) -> list[str]:
    """Return what a block runs as: lines if it begins with a command, else itself, one prompt."""
    words = block.split(maxsplit=1)
    if is_command(block) and words[0] in COMMANDS:
        return block.split("\n")
    return [block]


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input; bytes that are not UTF-8 stay visible as surrogates."""
    for number, raw in enumerate(sys.stdin.buffer):
        line = raw.removeprefix(BYTE_ORDER_MARK) if number == 0 else raw
        yield line.decode("utf-8", errors="surrogateescape").removesuffix("\n").removesuffix("\r")


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
