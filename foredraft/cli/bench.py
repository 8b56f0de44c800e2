"""`foredraft bench serve`: first-token and inter-token times of a server, at a given rate."""

from __future__ import annotations

import argparse
import time
from typing import Annotated

from foredraft.bench.load import Answered, ask, at_rate, connect, figures
from foredraft.bench.prompt_sets import load_prompts
from foredraft.cli.output import say, say_json
from foredraft.cli.parser import Number
from foredraft.errors import ConfigError
from foredraft.files import Document
from foredraft.ranges import Count, Length, Range

Temperature = Annotated[float, Range(0, 10_000)]
Rate = Annotated[float, Range(0, 10_000, open_low=True)]
SHOWN = {
    "time_to_first_token": "first token",
    "between_pieces": "between pieces",
    "seconds_per_token": "whole answer, a token",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft bench`."""
    parser.add_argument("what", choices=["serve"], help="what to measure: a server that runs")
    add = parser.add_argument
    add("--url", required=True, help="root of the server, e.g. http://127.0.0.1:8000")
    add("--rate", type=Number(Rate), default=1.0, metavar="R", help="requests a second [1]")
    add("--requests", type=Number(Count), default=50, metavar="N", help="requests to send [50]")
    add(
        "--max-tokens",
        type=Number(Length),
        default=64,
        metavar="N",
        help="tokens of an answer [64]",
    )
    add(
        "--temperature",
        type=Number(Temperature),
        default=0.0,
        metavar="T",
        help="of the sampler; 0 is greedy [0]",
    )
    add("--key", help="key of the server")
    add("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> None:
    connect(args.url).close()  # what is no address is refused before anything is sent
    prompts = [item.prompt for item in load_prompts()]

    def send(number: int) -> Answered:
        body = {
            "prompt": prompts[number % len(prompts)],
            "max_tokens": args.max_tokens,
            "temperature": args.temperature,
            "seed": number,
        }
        return ask(args.url, body, key=args.key)

    start = time.perf_counter()
    answered = at_rate(send, args.requests, args.rate)
    found = figures(answered, time.perf_counter() - start)
    if args.json:
        say_json(found)
    else:
        _show(found)
    errors = [
        one.error or f"status {one.status}" for one in answered if one.error or one.status != 200
    ]
    if errors:
        raise ConfigError(
            f"{len(errors)} of {len(answered)} requests failed; the first: {errors[0][:300]}"
        )


def _show(found: Document) -> None:
    say(
        f"{found['requests']} requests in {found['seconds']:.1f} s: {found['tokens']} tokens, "
        f"{found['tokens_per_second'] or 0:.1f} tokens/s, {found['failed']} failed"
    )
    for name, told in SHOWN.items():
        one = found[name]
        if isinstance(one, dict):
            numbers = ", ".join(f"{key} {1e3 * value:.1f} ms" for key, value in one.items())
            say(f"{told}: {numbers}")
