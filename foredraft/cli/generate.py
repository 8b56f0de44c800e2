"""`foredraft generate`: one prompt, one or more methods; for people, for programs, or as text."""

from __future__ import annotations

import argparse

from foredraft.cli.arguments import add_decoding_flags, add_model_flags, decoding_config
from foredraft.cli.loading import fitting, load_engine
from foredraft.cli.output import say_json, say_text
from foredraft.cli.session import Session
from foredraft.cli.view import View
from foredraft.config import METHODS, DecodingConfig
from foredraft.engine import Engine, check_request, result_dict, step_dict


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft generate`."""
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
    engine = load_engine(args, is_drafter_needed=config.speculative or config.drafter)
    engine.warm_up()
    if args.method == "all" or (config.speculative and args.drafter is None):
        config = fitting(config, engine, args)
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
