"""`foredraft chat`, a conversation where the target can, and `infer.py`, which compares."""

from __future__ import annotations

import argparse
import sys

from foredraft.cli.arguments import (
    add_decoding_flags,
    add_model_flags,
    decoding_config,
    load_options,
)
from foredraft.cli.loading import fitting, load_engine, warm_up
from foredraft.cli.shell import Shell, piped_lines, terminal_lines
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.loading.loader import BUNDLED_FOLDERS
from foredraft.models import Seq2SeqModel

SHELL_FLAGS = ("seed", "chat")
LONGEST_ANSWER = 1024  # tokens, until `/length` says otherwise


def add_flags(parser: argparse.ArgumentParser, *, talks: bool = True) -> None:
    """Add the flags of `foredraft chat`; of `infer.py`, which compares, those of no conversation.

    The one converses where the target was named and has a chat template, or with `--chat`.
    """
    parser.add_argument("--prompt", help="run this line, print, and leave")
    if talks:
        shown = "what the conversation begins with"
        parser.add_argument("--system", metavar="TEXT", help=shown)
    add_model_flags(parser)
    add_decoding_flags(parser, SHELL_FLAGS)
    parser.set_defaults(run=_chat, talks=talks)


def _chat(args: argparse.Namespace) -> None:
    config = decoding_config(args)
    if args.prompt is None and sys.stdin is None:
        raise ConfigError("standard input is closed; pipe lines into it, or use --prompt TEXT")
    engine = load_engine(args)
    shell = _shell(args, engine, config)
    if args.prompt is not None:
        shell.run_block(args.prompt)  # what it refuses is a usage error here: exit code 2
    elif sys.stdin.isatty():
        line = "Say something" if shell.is_talking else "Type a prompt"
        shell.view.line(f"{line}, or /help for the commands.", style="dim")
        shell.run(terminal_lines(), echo=False)
    else:
        shell.run(piped_lines(), echo=True)


def _shell(args: argparse.Namespace, engine: Engine, config: DecodingConfig) -> Shell:
    converses = args.talks and _converses(args, engine)
    system = args.system if args.talks else None
    if converses:
        config = config.replace(chat=True, length=LONGEST_ANSWER)
        engine.conversation(system)  # what cannot converse is refused before it says anything
    elif system is not None:
        raise ConfigError(
            f"--system is for conversations, and {args.target!r} was not asked for one; add --chat"
        )
    warm_up(engine)
    return Shell(
        engine,
        fitting(config, engine, args),
        View(),
        *load_options(args),
        talks=args.talks,
        system=system,
    )


def _converses(args: argparse.Namespace, engine: Engine) -> bool:
    """Whether a line is a turn: as was asked for; else where a target that was named can do it."""
    if "chat" in args:
        return bool(args.chat)
    decodes = not isinstance(engine.target.model, Seq2SeqModel)
    has_template = getattr(engine.target.tokenizer, "chat_template", None) is not None
    return args.target not in BUNDLED_FOLDERS and decodes and has_template
