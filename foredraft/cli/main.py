"""Subcommands `foredraft generate | chat | advise | replay | verify | ablate | …`; `infer.py`.

Parses, loads, hands over. A user's mistake is one sentence on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from foredraft.cli.ablate import add_ablate
from foredraft.cli.advise import add_advise
from foredraft.cli.arguments import (
    Parser,
    add_decoding_flags,
    add_model_flags,
    decoding_config,
    load_options,
)
from foredraft.cli.border import run_command
from foredraft.cli.models import can_draft, drafting_without, load_engine
from foredraft.cli.output import complain, say, say_json, say_text
from foredraft.cli.replay import add_replay
from foredraft.cli.session import Session
from foredraft.cli.shell import Shell, piped_lines, terminal_lines
from foredraft.cli.surroundings import notes_on_standard_error, words_typed
from foredraft.cli.verify import add_verify
from foredraft.cli.view import HEADINGS, View
from foredraft.config import METHODS, DecodingConfig
from foredraft.engine import Engine, check_request, result_dict, step_dict
from foredraft.errors import ConfigError
from foredraft.models.loading import NO_DRAFTER
from foredraft.version import __version__
from foredraft.zoo import bundled_recipes, describe_bundled

SHELL_FLAGS = ("seed", "chat")


def main(argv: Sequence[str] | None = None) -> None:
    """The `foredraft` command; raises SystemExit with its exit code."""
    parser = Parser(prog="foredraft", description="Faster text from language models, losslessly.")
    parser.add_argument("--version", action="version", version=f"foredraft {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _add_generate(commands.add_parser("generate", help="generate text with one or more methods"))
    _add_chat(commands.add_parser("chat", help="open the interactive shell"))
    add_advise(commands.add_parser("advise", help="measure whether speculation pays here"))
    add_replay(commands.add_parser("replay", help="replay recorded outputs without the target"))
    add_verify(commands.add_parser("verify", help="check that a pair of models decodes losslessly"))
    add_ablate(commands.add_parser("ablate", help="compare methods over a grid of settings"))
    _add_train(commands.add_parser("train", help="train a bundled model from its recipe"))
    _add_models(commands.add_parser("models", help="list the bundled models"))
    with notes_on_standard_error():
        _run(parser, words_typed(argv))


def infer(argv: Sequence[str] | None = None) -> None:
    """`infer.py`: the shell, with the flags of `foredraft chat`."""
    parser = Parser(prog="infer.py", description="The interactive shell of foredraft.")
    _add_chat(parser)
    with notes_on_standard_error():
        _run(parser, words_typed(argv))


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
    _show_notes()
    run_command(parser, argv)


class Notes(logging.Handler):
    """What a model asks for and does not get: one line on standard error, whatever that is now."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(f"note: {record.getMessage()}")


def _show_notes() -> None:
    logger = logging.getLogger("foredraft")
    if not any(isinstance(handler, Notes) for handler in logger.handlers):
        logger.addHandler(Notes())


# --- chat -----------------------------------------------------------------------------------------


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", help="run this line, print, and leave")
    add_model_flags(parser)
    add_decoding_flags(parser, SHELL_FLAGS)
    parser.set_defaults(run=_chat)


def _chat(args: argparse.Namespace) -> None:
    config = decoding_config(args)
    if args.prompt is None and sys.stdin is None:
        raise ConfigError("standard input is closed; pipe lines into it, or use --prompt TEXT")
    engine = _load(args)
    config = _fitting(config, engine, args)
    target_options, drafter_options = load_options(args)
    shell = Shell(engine, config, View(), target_options, drafter_options)
    if args.prompt is not None:
        shell.run_block(args.prompt)  # what it refuses is a usage error here: exit code 2
    elif sys.stdin.isatty():
        shell.view.line("Type a prompt, or /help for the commands.", style="dim")
        shell.run(terminal_lines(), echo=False)
    else:
        shell.run(piped_lines(), echo=True)


def _load(args: argparse.Namespace, *, is_drafter_needed: bool = True) -> Engine:
    engine = load_engine(args, is_drafter_needed=is_drafter_needed)
    engine.warm_up()
    return engine


def _fitting(config: DecodingConfig, engine: Engine, args: argparse.Namespace) -> DecodingConfig:
    """Return what can run: where a draft model is missing, it was left out or not wanted."""
    if args.drafter == NO_DRAFTER:
        return config.replace(speculative=can_draft(config, engine))
    return drafting_without(config, engine)


# --- generate -------------------------------------------------------------------------------------


def _add_generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--prompt", required=True, help="text to continue")
    add("--method", choices=("all", *METHODS), default="all", help="[%(default)s: the usual three]")
    add("--trace", action="store_true", help="show every step; with --json, add them as `steps`")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object a line and method")
    output.add_argument("--text-only", action="store_true", help="print the text and nothing else")
    add_decoding_flags(parser)
    add_model_flags(parser)
    parser.set_defaults(run=_generate)


def _generate(args: argparse.Namespace) -> None:
    config = decoding_config(args, debug=args.trace and not args.json)
    if args.method != "all":
        config = config.replace(**{m: m == args.method for m in METHODS})
    engine = _load(args, is_drafter_needed=config.speculative or config.drafter)
    if args.method == "all" or (config.speculative and args.drafter is None):
        config = _fitting(config, engine, args)
    check_request(engine, args.prompt, config)
    if args.json:
        _print_json(engine, args.prompt, config, with_steps=args.trace)
    elif args.text_only:
        for method in config.methods:
            say_text(engine.generate(args.prompt, config, method=method).text)
    else:
        Session(engine, config, View()).run_prompt(args.prompt, config)


def _print_json(engine: Engine, prompt: str, config: DecodingConfig, *, with_steps: bool) -> None:
    for result in engine.compare(prompt, config):
        line = {"prompt": prompt} | result_dict(result)
        if with_steps:
            line["steps"] = [step_dict(record) for record in result.completion.records]
        say_json(line)


# --- models and training --------------------------------------------------------------------------


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_models)


def _models(args: argparse.Namespace) -> None:
    for line in describe_bundled():
        say(line)


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("recipe", help=f"{', '.join(bundled_recipes())}, or a recipe.toml")
    add("--data", required=True, help="folder that holds the recipe's text files")
    add("--run-dir", help="checkpoints and token streams [runs/<recipe name>]")
    add("--out", help="folder for the finished model [the run folder's `model`]")
    add("--device", default="auto", help="auto, cpu, cuda [%(default)s]")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile [on]")
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> None:
    from foredraft.cli.train import train_command

    train_command(args)


assert set(HEADINGS) == set(METHODS)
