"""`foredraft generate`: one prompt and its methods, or a file of prompts and one method."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from foredraft.cli.arguments import (
    add_decoding_flags,
    add_model_flags,
    decoding_config,
    is_drafter_free,
)
from foredraft.cli.loading import fitting, load_engine, warm_up
from foredraft.cli.output import say_json, say_text
from foredraft.cli.prompts_file import place, read_prompts
from foredraft.cli.session import Session, check_request
from foredraft.cli.view import View
from foredraft.config import METHODS, DecodingConfig
from foredraft.engine import Engine
from foredraft.errors import ConfigError, ForedraftError
from foredraft.results import Result, logprob_dicts, result_dict, step_dict

ALL = "all"
OF_ONE = {  # what is of one prompt, and why
    "trace": "--trace shows the steps of one text",
    "text_only": "--text-only does not tell several texts apart, as --json does",
}
SEVERAL = "leave it out, or give one prompt with --prompt and no --n"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft generate`."""
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompt", help="text to continue")
    shown = "texts to continue, a line each (of a .jsonl file each `prompt`), in shared passes"
    prompts.add_argument("--prompts-file", metavar="FILE", help=shown)
    add = parser.add_argument
    shown = f"what decodes [{ALL}: the usual three; of a file the first of them]"
    add("--method", choices=(ALL, *METHODS), help=shown)
    add("--trace", action="store_true", help="show every step; with --json, add them as `steps`")
    output = parser.add_mutually_exclusive_group()
    shown = "one JSON object a line, for each method or prompt"
    output.add_argument("--json", action="store_true", help=shown)
    output.add_argument("--text-only", action="store_true", help="print the text and nothing else")
    add_decoding_flags(parser)
    add_model_flags(parser)
    parser.set_defaults(run=_generate)


def _generate(args: argparse.Namespace) -> None:
    prompts = None if args.prompts_file is None else _prompts(args)
    config = decoding_config(args, debug=args.trace and not args.json)
    if config.n > 1:
        _check_is_of_several(args)
        if prompts is not None:
            raise ConfigError(f"--n continues one prompt, and a file has several; {SEVERAL}")
    is_free = args.method in (None, ALL)
    if not is_free:
        config = _only(args.method, config)
    engine = load_engine(args, is_drafter_needed=config.speculative or config.drafter)
    warm_up(engine)
    if is_free or (config.speculative and is_drafter_free(args)):
        config = fitting(config, engine, args)
    if prompts is not None:
        _run_together(engine, prompts, _only(config.methods[0], config), args)
        return
    check_request(engine, args.prompt, config)
    if args.json:
        _print_json(engine, args.prompt, config, with_steps=args.trace)
    elif args.text_only:
        for method in config.methods:
            say_text(engine.generate(args.prompt, config, method=method).text)
    else:
        Session(engine, config, View()).run_prompt(args.prompt, config)


def _only(method: str, config: DecodingConfig) -> DecodingConfig:
    return config.replace(**{m: m == method for m in METHODS})


def _prompts(args: argparse.Namespace) -> dict[int, str]:
    """Return the prompts of the file by their lines; refuse what is of one prompt."""
    _check_is_of_several(args)
    if args.method == ALL:
        raise ConfigError(
            f"--prompts-file runs one method, not --method {ALL}; legal: {', '.join(METHODS)}"
        )
    return read_prompts(args.prompts_file)


def _check_is_of_several(args: argparse.Namespace) -> None:
    """Raise if a flag was given that is of one text."""
    for flag, reason in OF_ONE.items():
        if getattr(args, flag):
            raise ConfigError(f"{reason}; {SEVERAL}")


def _run_together(
    engine: Engine, prompts: Mapping[int, str], config: DecodingConfig, args: argparse.Namespace
) -> None:
    """Continue all prompts with the one method that is on; print each as it ends."""
    for number, prompt in prompts.items():
        try:
            check_request(engine, prompt, config)
        except ConfigError:
            raise  # no line's fault
        except ForedraftError as error:
            raise type(error)(f"{place(number, args.prompts_file)}: {error}") from error
    [method] = config.methods
    lines, view, results = list(prompts), View(), list[Result]()
    if not args.json:
        view.heading(method)
    for index, completion in engine.stream_many(list(prompts.values()), config, method=method):
        number = lines[index]
        results += engine.results([completion], prompts[number], config)
        if args.json:
            said = _line(engine, prompts[number], results[-1], config)
            say_json({"line": number} | said)
        else:
            view.numbered(number, completion.text)
            view.unsatisfied(completion)
            view.logprobs(logprob_dicts(completion.records, engine.decode))
    if not args.json:
        view.total(results)


def _print_json(engine: Engine, prompt: str, config: DecodingConfig, *, with_steps: bool) -> None:
    if config.n == 1:
        for result in engine.compare(prompt, config):
            line = _line(engine, prompt, result, config)
            if with_steps:
                line["steps"] = [step_dict(record) for record in result.completion.records]
            say_json(line)
        return
    every = [engine.continuations(prompt, config, method=method) for method in config.methods]
    for index, done in enumerate(zip(*every, strict=True)):  # those of one seed are compared
        for result in engine.results(done, prompt, config):
            say_json({"index": index} | _line(engine, prompt, result, config))


def _line(engine: Engine, prompt: str, result: Result, config: DecodingConfig) -> dict[str, object]:
    """Return what is said of one text."""
    line: dict[str, object] = {"prompt": prompt} | result_dict(result)
    if config.logprobs is not None:
        line["logprobs"] = logprob_dicts(result.completion.records, engine.decode)
    return line
