"""`foredraft serve`: an OpenAI-style endpoint on this machine, with its playground."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from foredraft.cli.arguments import add_decoding_flags, add_model_flags, decoding_config
from foredraft.cli.loading import can_draft, load_engine, warm_up
from foredraft.cli.output import complain, say
from foredraft.cli.parser import Number
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.files import read_text
from foredraft.ranges import Range

if TYPE_CHECKING:
    from foredraft.server.app import Limits

DECODING_FLAGS = ("drafting", "policy", "verifier", "gamma")
KEY = "FOREDRAFT_API_KEY"
LOCAL = ("127.0.0.1", "::1", "localhost")
MISSING = (
    "the server's packages are not installed ({name}); install them with pip install "
    "'foredraft[server]', or uv run --extra server foredraft serve"
)
Port = Annotated[int, Range(0, 65535)]
Places = Annotated[int, Range(1, 1024)]
Waiting = Annotated[int, Range(0, 100_000)]
Seconds = Annotated[float, Range(0, 86_400)]
Megabytes = Annotated[float, Range(0.001, 1024)]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft serve`."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    add(
        "--port",
        type=Number(Port),
        default=8000,
        metavar="N",
        help="port to listen on [%(default)s]",
    )
    shown = f"file that holds the key which requests must name; else {KEY} of the environment"
    add("--api-key-file", metavar="FILE", help=shown)
    shown = "texts that share the passes of the models [%(default)s]"
    add("--max-parallel", type=Number(Places), default=8, metavar="N", help=shown)
    shown = "texts that may wait for a place; more are answered with 429 [%(default)s]"
    add("--max-queue", type=Number(Waiting), default=64, metavar="N", help=shown)
    shown = "seconds that running texts have for their end after SIGTERM [%(default)s]"
    add("--drain-seconds", type=Number(Seconds), default=30.0, metavar="S", help=shown)
    shown = "seconds that a reader may leave sent bytes unread [%(default)s]"
    add("--reader-seconds", type=Number(Seconds), default=30.0, metavar="S", help=shown)
    shown = "longest body of a request, in megabytes [%(default)s]"
    add("--max-body", type=Number(Megabytes), default=4.0, metavar="MB", help=shown)
    shown = "origin of pages elsewhere that may ask; may be repeated"
    add("--cors-origin", action="append", default=[], metavar="URL", help=shown)
    shown = "name by which clients may call it, besides those of this machine; may be repeated"
    add("--allowed-host", action="append", default=[], metavar="NAME", help=shown)
    add("--served-name", metavar="NAME", help="name of the model in requests [that of --target]")
    shown = "let requests ask what each step did, as the playground does"
    add("--allow-trace", action="store_true", help=shown)
    add_model_flags(parser)
    add_decoding_flags(parser, DECODING_FLAGS)
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> None:
    try:
        from foredraft.server import (
            Defaults,
            Metrics,
            Place,
            Scheduler,
            Service,
            application,
            check_fits,
            fingerprint,
            listen,
            serve,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(MISSING.format(name=error.name)) from None
    limits = _limits(args)  # what is refused is refused before models are loaded
    with closing(Place(args.host, args.port).taken()) as taken:
        engine = load_engine(args)
        defaults = Defaults(default_config(args, engine), allows_trace=args.allow_trace)
        check_fits(engine.networks, args.max_parallel)
        warm_up(engine)
        metrics, places = Metrics(), (args.max_parallel, args.max_queue)
        scheduler = Scheduler(engine.networks, *places, observer=metrics)
        name = args.served_name or args.target
        mark = fingerprint(engine)
        service = Service(engine, scheduler, defaults, model=name, fingerprint=mark)
        say(f"foredraft serves {name} on {listen(taken)} (Ctrl-C ends it)", flush=True)
        if limits.key is None and args.host not in LOCAL:
            complain("note: anybody who reaches this address may ask; set --api-key-file FILE")
        serve(application(service, metrics, limits), scheduler, taken, args.drain_seconds)


def default_config(args: argparse.Namespace, engine: Engine) -> DecodingConfig:
    """Return what requests that say nothing are decoded with: texts depend on their seeds alone."""
    usual = {"drafting": "auto", "verifier": "coupled"}
    config = decoding_config(args)
    config = config.replace(**{k: v for k, v in usual.items() if k not in args}, seed=None)
    if not can_draft(config, engine):
        raise ConfigError(
            f"drafting {config.drafting!r} needs a draft model; name one with --drafter NAME, or "
            "choose --drafting auto"
        )
    return config


def _limits(args: argparse.Namespace) -> Limits:
    from foredraft.server import Limits

    return Limits(
        body_bytes=int(1e6 * args.max_body),
        reader_seconds=args.reader_seconds,
        key=key_of(args.api_key_file),
        hosts=(*LOCAL, "[::1]", *args.allowed_host) if args.host in LOCAL else (),
        origins=tuple(args.cors_origin),
    )


def key_of(name: str | None) -> str | None:
    """Return the key of a file, or of the environment; None: there is none."""
    if name is None:
        return os.environ.get(KEY) or None
    key = read_text(Path(name)).strip()
    if not key or "\n" in key:
        raise ConfigError(f"--api-key-file {name} must hold one line, the key")
    return key
