"""`foredraft chat`, and `infer.py`: the interactive shell."""

from __future__ import annotations

import argparse
import sys

from foredraft.cli.arguments import (
    add_decoding_flags,
    add_model_flags,
    decoding_config,
    load_options,
)
from foredraft.cli.loading import fitting, load_engine
from foredraft.cli.shell import Shell, piped_lines, terminal_lines
from foredraft.cli.view import View
from foredraft.errors import ConfigError

SHELL_FLAGS = ("seed", "chat")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft chat`."""
    parser.add_argument("--prompt", help="run this line, print, and leave")
    add_model_flags(parser)
    add_decoding_flags(parser, SHELL_FLAGS)
    parser.set_defaults(run=_chat)


def _chat(args: argparse.Namespace) -> None:
    config = decoding_config(args)
    if args.prompt is None and sys.stdin is None:
        raise ConfigError("standard input is closed; pipe lines into it, or use --prompt TEXT")
    engine = load_engine(args)
    engine.warm_up()
    config = fitting(config, engine, args)
    target_options, drafter_options = load_options(args)
    shell = Shell(engine, config, View(), target_options, drafter_options)
    if args.prompt is not None:
        shell.run_block(args.prompt)  # what it refuses is a usage error here: exit code 2
    elif sys.stdin.isatty():
        shell.view.line("Type a prompt, or /help for the commands.", style="dim")
        shell.run(terminal_lines(), echo=False)
    else:
        shell.run(piped_lines(), echo=True)
