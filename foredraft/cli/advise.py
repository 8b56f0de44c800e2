"""`foredraft advise`: measures models here; says in words whether speculation pays."""

from __future__ import annotations

import argparse

from foredraft.bench.advise import advise
from foredraft.bench.engines import ENGINES, Pair, Table, order, read_table
from foredraft.bench.prompt_sets import KINDS, load_prompts
from foredraft.cli.arguments import add_model_flags
from foredraft.cli.loading import load_engine
from foredraft.cli.output import say_json
from foredraft.cli.parser import Number
from foredraft.cli.prompts_file import read_prompts
from foredraft.cli.view import View
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.loading.head import heads_in
from foredraft.loading.loader import HEADS_DIR, resolve_source
from foredraft.models import HeadModel
from foredraft.ranges import Count, DraftLength, Length
from foredraft.translation import translation_between

BUNDLED_EACH = 3  # prompts of each bundled kind


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft advise`."""
    add_model_flags(parser)
    group = parser.add_argument_group("measuring")
    add = group.add_argument
    add(
        "--prompt", action="append", metavar="TEXT", help="a prompt; may be repeated [bundled ones]"
    )
    add("--prompts", metavar="FILE", help="a prompt a line; of a .jsonl file each `prompt`")
    length, positions, repeats = map(Number, (Length, DraftLength, Count))
    add("--length", type=length, default=60, metavar="V", help="tokens of an answer [%(default)s]")
    add("--positions", type=positions, default=8, metavar="K", help="draft positions [%(default)s]")
    add("--repeats", type=repeats, default=5, metavar="N", help="texts timed [%(default)s]")
    add("--chat", action="store_true", help="send prompts through the chat template")
    engines = "print what another engine is to be told, too"
    add("--for", dest="engine", choices=tuple(ENGINES), help=engines)
    shown = "of --for vllm: draft tokens by batch size, as [[first, last, tokens], …] in JSON"
    add("--table", metavar="ROWS", help=shown)
    add("--json", action="store_true", help="one JSON object instead of sentences")
    parser.set_defaults(run=_advise)


def _advise(args: argparse.Namespace) -> None:
    table = _table(args)
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
    told = order(args.engine, advice, _pair(args, engine), table) if args.engine else None
    if args.json:
        say_json(advice.to_dict() | ({"order": told.to_dict()} if told else {}))
        return
    view = View()
    for sentence in advice.sentences():
        view.line(sentence)
    if told is not None:
        view.line(f"\nFor {told.engine}:\n\n{told.text}\n")
        for sentence in told.notes:
            view.line(sentence)


def _table(args: argparse.Namespace) -> Table:
    """Return the rows of `--table`, refused before anything is measured."""
    if args.table is None:
        return ()
    if args.engine != "vllm":
        raise ConfigError("--table is vLLM's; give it with --for vllm")
    return read_table(args.table)


def _pair(args: argparse.Namespace, engine: Engine) -> Pair:
    """Return the models as another engine finds them: what is bundled, by its folder."""
    target, drafter = engine.target, engine.drafter
    if drafter is None:
        return Pair(resolve_source(target.name, "target"))
    heads = {head.name: str(head.path) for head in heads_in(HEADS_DIR)}
    return Pair(
        resolve_source(target.name, "target"),
        heads.get(drafter.name) or resolve_source(drafter.name, "drafter"),
        is_head=isinstance(drafter.model, HeadModel),
        is_foreign=translation_between(target.tokenizer, drafter.tokenizer) is not None,
    )


def _bundled() -> list[str]:
    return [item.prompt for kind in KINDS for item in load_prompts([kind])[:BUNDLED_EACH]]
