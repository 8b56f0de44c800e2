"""Argument parsers that refuse in one sentence, and the numbers of flags with their ranges.

Loads neither torch nor transformers: `--help` waits for nothing.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from foredraft.cli.output import complain, say
from foredraft.errors import ConfigError
from foredraft.ranges import range_of, read


class Number:
    """Reads the number of a flag, as the parameter it sets declares it."""

    def __init__(self, hint: object) -> None:
        self.hint = hint

    def __call__(self, text: str) -> float | None:
        """Return the number; what is none is refused in words of ours."""
        try:
            value: float | None = read("the value", text, self.hint)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value


class Help(argparse.HelpFormatter):
    """Shows the legal range of a number after its meaning."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        legal = range_of(action.type.hint) if isinstance(action.type, Number) else None
        return f"{action.help} ({legal.words})" if legal else action.help


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses in one sentence, with exit code 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=Help, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print one line and leave."""
        complain(f"{self.prog}: error: {message} (see {self.prog} --help)")
        raise SystemExit(2)

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help or version; argparse itself hides that the output is full."""
        say(message.removesuffix("\n"))
