"""The table of subcommands, `foredraft generate | chat | advise | …`, and the door of `infer.py`.

Only the subcommand that is named is loaded. A user's mistake is one sentence on standard error and
exit code 2.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from importlib import import_module

from foredraft.cli.border import run_command
from foredraft.cli.output import complain
from foredraft.cli.parser import Parser
from foredraft.cli.surroundings import notes_on_standard_error, words_typed
from foredraft.version import __version__

# Each is a module of this folder, whose `add_flags` says what its parser takes and runs.
SUBCOMMANDS = {
    "generate": "generate text with one or more methods",
    "chat": "converse, or compare methods line by line",
    "serve": "answer requests as OpenAI's endpoints do, with a playground",
    "bench": "measure a server that runs",
    "advise": "measure whether speculation pays here",
    "replay": "replay recorded outputs without the target",
    "verify": "check that a pair of models decodes losslessly",
    "referee": "judge any verifier by its exact distribution",
    "ablate": "compare methods over a grid of settings",
    "train": "train a bundled model from its recipe",
    "models": "list the bundled models",
}


def main(argv: Sequence[str] | None = None) -> None:
    """The `foredraft` command; raises SystemExit with its exit code."""
    prepared(argv)()


def infer(argv: Sequence[str] | None = None) -> None:
    """`infer.py`: the shell that compares, with the flags of `foredraft chat`."""
    prepared(argv, is_shell=True)()


def prepared(argv: Sequence[str] | None, *, is_shell: bool = False) -> Callable[[], None]:
    """Return what runs a command line; all that it needs is loaded before.

    Args:
        argv: words of the command line; None takes those that were typed.
        is_shell: whether they are for `infer.py`.
    """
    words = words_typed(argv)
    named = [word for word in words if not word.startswith("-")][:1]
    parser = shell_parser() if is_shell else command_parser(named)
    return partial(_run, parser, words)


def command_parser(loaded: Collection[str] = tuple(SUBCOMMANDS)) -> argparse.ArgumentParser:
    """Return the parser of `foredraft`.

    Args:
        loaded: subcommands whose modules are loaded and whose flags are known.
    """
    parser = Parser(prog="foredraft", description="Faster text from language models, losslessly.")
    parser.add_argument("--version", action="version", version=f"foredraft {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for name, told in SUBCOMMANDS.items():
        command = commands.add_parser(name, help=told)
        if name in loaded:
            _add_flags(name, command)
    return parser


def shell_parser() -> argparse.ArgumentParser:
    """Return the parser of `infer.py`."""
    parser = Parser(prog="infer.py", description="The interactive shell of foredraft.")
    _add_flags("chat", parser, talks=False)
    return parser


def _add_flags(name: str, parser: argparse.ArgumentParser, **more: bool) -> None:
    import_module(f"foredraft.cli.{name}").add_flags(parser, **more)


def _run(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    logger = logging.getLogger("foredraft")
    if not any(isinstance(handler, Notes) for handler in logger.handlers):
        logger.addHandler(Notes())
    with notes_on_standard_error():
        run_command(parser, words)


class Notes(logging.Handler):
    """What a model asks for and does not get: one line on standard error, whatever that is now."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(f"note: {record.getMessage()}")
