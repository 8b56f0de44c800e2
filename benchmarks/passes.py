"""What a target's pass costs: by the tokens it reads of one text, and by the texts that share it.

A step of speculation reads γ + 1 tokens of each text, plain decoding one. Every case is timed once
in each turn, in an order that is drawn anew; a ratio is taken within a turn, and what is told is
the median over all turns. The draft model of the bundled pair is timed beside its target.

    uv run python benchmarks/passes.py [--target bundled|smollm2] [--turns 150] [--save]

What a processor without vectors of 512 bits takes is kept in files of its own, `passes-…-avx2`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from side_by_side import median_of
from tables import RESULTS, check_least, keep, markdown, parser_of

from foredraft import Context, Engine, Feed, Network
from foredraft.bench.machine import describe_machine, place, synchronize
from foredraft.threads import fit_threads

CONTEXT = 200  # tokens of each text that lie in the cache
TOKENS = (*range(1, 18), 32, 64)  # read of one text
TEXTS = (1, 2, 4, 8, 16)  # that share a pass
GAMMA = 4
WARM_UP = 3  # turns
TARGET, DRAFTER = "target", "draft model"


@dataclass(frozen=True)
class Case:
    """A pass: whose, how many texts take part, and how many tokens it reads of each."""

    model: str
    texts: int
    tokens: int


def cases(*, with_drafter: bool) -> list[Case]:
    """Return every case once; the first is what all others are compared with."""
    found = [Case(TARGET, 1, tokens) for tokens in TOKENS]
    found += [Case(TARGET, texts, tokens) for tokens in (1, GAMMA + 1) for texts in TEXTS]
    if with_drafter:
        found += [Case(DRAFTER, texts, 1) for texts in TEXTS]
    return list(dict.fromkeys(found))


class Texts:
    """Texts of equal length in a model's cache, ready to be read on.

    Args:
        model: whose cache.
        count: of texts.
        length: of each, in tokens.
    """

    def __init__(self, model: Network, count: int, length: int) -> None:
        self._model, self._length = model, length
        self.opened = [self._read(i) for i in range(count)]

    def _read(self, number: int) -> Context:
        text = self._model.open(_tokens(number, self._length))
        text.extend(text.begin)
        return text

    def seconds(self, texts: int, tokens: int) -> float:
        """Return the time of a pass that reads so many tokens of so many texts, all rows kept."""
        feeds = [
            Feed(text, _tokens(number + tokens, tokens), keep=tokens)
            for number, text in enumerate(self.opened[:texts])
        ]
        synchronize()
        begin = time.perf_counter()
        self._model.forward(feeds)
        synchronize()
        spent = time.perf_counter() - begin
        for feed in feeds:
            feed.context.rollback_to(self._length)
        return spent


def _tokens(first: int, count: int) -> list[int]:
    return [5 + (31 * first + 7 * i) % 1000 for i in range(count)]


def measure(models: dict[str, Network], length: int, turns: int) -> dict[Case, list[float]]:
    """Return the seconds of each case, one value a turn."""
    texts = {name: Texts(model, max(TEXTS), length) for name, model in models.items()}
    todo = cases(with_drafter=DRAFTER in models)
    found: dict[Case, list[float]] = {case: [] for case in todo}
    order = random.Random(0)  # drawn, so that no case always follows the same other one
    for turn in range(-WARM_UP, turns):
        for case in order.sample(todo, len(todo)):
            spent = texts[case.model].seconds(case.texts, case.tokens)
            if turn >= 0:
                found[case].append(spent)
    return found


def rows(measured: dict[Case, list[float]]) -> list[dict[str, Any]]:
    """Return each case's median milliseconds, and its ratio to the pass over one token."""
    one = next(iter(measured.values()))
    return [
        {
            "model": case.model,
            "texts": case.texts,
            "tokens": case.tokens,
            "milliseconds": 1e3 * median(seconds),
            "ratio": median_of([a / b for a, b in zip(seconds, one, strict=True)], len(seconds)),
        }
        for case, seconds in measured.items()
    ]


def models_of(engine: Engine) -> dict[str, Network]:
    """Return the target, and its draft model if it has one."""
    models = {TARGET: engine.target.model}
    return models if engine.drafter is None else models | {DRAFTER: engine.drafter.model}


def file_of(target: str, flags: str) -> Path:
    """Return where results are kept: by target, and by the width of the processor's vectors."""
    narrow = "avx2" in flags.split() and "avx512f" not in flags.split()
    return RESULTS / f"passes-{target}{'-avx2' if narrow else ''}.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and one JSON line, and keep them on request."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--target", choices=("bundled", "smollm2"), default="bundled", help="[%(default)s]")
    add("--turns", type=int, default=150, help="in which each case is timed once [%(default)s]")
    add("--save", action="store_true", help="write benchmarks/results/passes-*")
    args = parser.parse_args(argv)
    check_least(parser, args, turns=1)
    engine = Engine.load(args.target, "bundled" if args.target == "bundled" else None)
    fit_threads(engine.target.threads)
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "setting": {"target": args.target, "rounds": args.turns, "context": CONTEXT},
        "gamma": GAMMA,
        "rows": rows(measure(models_of(engine), CONTEXT, args.turns)),
    }
    text = f"{place(found)}; a context of {CONTEXT} tokens.\n\n{markdown(found['rows'], '{:.3f}')}"
    print(text)
    print(json.dumps(found))
    if args.save:
        title = "# What a pass costs, by the tokens it reads and the texts that share it\n\n"
        title += "Made by `benchmarks/passes.py`.\n\n"
        keep(file_of(args.target, found["machine"]["flags"]), found, title + text)


if __name__ == "__main__":
    main()
