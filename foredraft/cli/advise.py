"""`foredraft advise`: measures models here; says in words whether speculation pays."""

from __future__ import annotations

import argparse

from foredraft.bench.advise import advise
from foredraft.bench.prompt_sets import KINDS, load_prompts
from foredraft.cli.arguments import add_model_flags
from foredraft.cli.loading import load_engine
from foredraft.cli.output import say_json
from foredraft.cli.parser import Number
from foredraft.cli.prompts_file import read_prompts
from foredraft.cli.view import View
from foredraft.ranges import Count, DraftLength, Length

BUNDLED_EACH = 3  # prompts of each bundled kind


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft advise`."""
    add_model_flags(parser)
    group = parser.add_argument_group("measuring")
    add = group.add_argument
    add("--prompt", action="append", metavar="TEXT", help="may be repeated [a few bundled ones]")
    add("--prompts", metavar="FILE", help="a prompt a line; of a .jsonl file each `prompt`")
    length, positions, repeats = map(Number, (Length, DraftLength, Count))
    add("--length", type=length, default=60, metavar="V", help="tokens of an answer [%(default)s]")
    add("--positions", type=positions, default=8, metavar="K", help="draft positions [%(default)s]")
    add("--repeats", type=repeats, default=5, metavar="N", help="texts timed [%(default)s]")
    add("--chat", action="store_true", help="send prompts through the chat template")
    add("--json", action="store_true", help="one JSON object instead of sentences")
    parser.set_defaults(run=_advise)


def _advise(args: argparse.Namespace) -> None:
    read = read_prompts(args.prompts).values() if args.prompts else ()
    prompts = [*(args.prompt or ()), *read] or _bundled()
    engine = load_engine(args)
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
