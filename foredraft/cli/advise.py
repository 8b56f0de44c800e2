"""`foredraft advise`: measures a pair of models here; says in words whether speculation pays."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from foredraft.bench.advise import advise
from foredraft.bench.prompt_sets import KINDS, load_prompts
from foredraft.cli.arguments import add_model_flags
from foredraft.cli.loading import load_engine
from foredraft.cli.output import say_json
from foredraft.cli.parser import Number
from foredraft.cli.view import View
from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, read_lines
from foredraft.loading.loader import NO_DRAFTER
from foredraft.ranges import Count, DraftLength, Length

BUNDLED_EACH = 3  # prompts of each bundled kind


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft advise`."""
    add_model_flags(parser)
    group = parser.add_argument_group("measuring")
    add = group.add_argument
    add("--prompt", action="append", metavar="TEXT", help="may be repeated [a few bundled ones]")
    add("--prompts", metavar="FILE", help="a prompt a line, or JSON lines with `prompt`")
    length, positions, repeats = map(Number, (Length, DraftLength, Count))
    add("--length", type=length, default=60, metavar="V", help="tokens of an answer [%(default)s]")
    add("--positions", type=positions, default=8, metavar="K", help="draft positions [%(default)s]")
    add("--repeats", type=repeats, default=15, metavar="N", help="of each timing [%(default)s]")
    add("--chat", action="store_true", help="send prompts through the chat template")
    add("--json", action="store_true", help="one JSON object instead of sentences")
    parser.set_defaults(run=_advise)


def _advise(args: argparse.Namespace) -> None:
    prompts = [*(args.prompt or ()), *(_read(args.prompts) if args.prompts else ())] or _bundled()
    engine = None if args.drafter == NO_DRAFTER else load_engine(args)
    if engine is None or engine.drafter is None:
        raise ConfigError(
            "advise weighs a draft model, and there is none; name one: --drafter NAME"
        )
    engine.warm_up()
    advice = advise(
        engine,
        prompts,
        length=args.length,
        num_speculative_tokens=args.positions,
        repeats=args.repeats,
        chat=args.chat,
    )
    if args.json:
        say_json(advice.to_dict())
        return
    for sentence in advice.sentences():
        View().line(sentence)


def _bundled() -> list[str]:
    return [item.prompt for kind in KINDS for item in load_prompts([kind])[:BUNDLED_EACH]]


def _read(name: str) -> list[str]:
    try:
        file = Path(name).expanduser()
    except RuntimeError:  # ~nobody
        raise ConfigError(f"there is no home for {quoted(name, PATH_LIMIT)}; give a path") from None
    numbered = enumerate(read_lines(file), start=1)
    prompts = [_prompt(line, file, number) for number, line in numbered if line.strip()]
    if not prompts:
        raise ConfigError(f"{quoted(name, PATH_LIMIT)} holds no prompts; write one a line")
    return prompts


def _prompt(line: str, file: Path, number: int) -> str:
    if not line.startswith("{"):
        return line
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, RecursionError):
        prompt = None
    if not isinstance(prompt, str):
        raise ConfigError(
            f"line {number} of {quoted(str(file), PATH_LIMIT)} begins with {{ and is no prompt; "
            'write {"prompt": "Once upon a time"}, or the text itself'
        )
    return prompt
