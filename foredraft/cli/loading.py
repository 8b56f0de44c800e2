"""The models that flags name; a default that cannot fit is left out, with a word."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from foredraft.cli.arguments import drafter_name, is_drafter_free, load_options
from foredraft.cli.output import complain
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.escape import for_line
from foredraft.loading import find_drafter
from foredraft.loading.loader import BUNDLED_FOLDERS, NO_DRAFTER, silence_transformers
from foredraft.phases import begins, listening
from foredraft.threads import fit_threads

FALLBACK = "suffix"  # drafts without a draft model


@contextmanager
def shown_loading() -> Iterator[None]:
    """Show on standard error what loading is at, and for how long: a bar, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    told = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), TimeElapsedColumn(), told)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)  # nobody knows how much there is: it moves to and fro
        with listening(lambda phase: bar.update(task, description=for_line(phase))):
            yield


def load_engine(args: argparse.Namespace, *, is_drafter_needed: bool = True) -> Engine:
    """Load target and drafter, as the flags of `add_model_flags` say, into a process of theirs.

    Raises:
        ModelError: one cannot be loaded; or the drafter, asked for by name, does not fit.
        ConfigError: an option is illegal here.
    """
    silence_transformers()
    with shown_loading():
        return _load(args, is_drafter_needed=is_drafter_needed)


def _load(args: argparse.Namespace, *, is_drafter_needed: bool) -> Engine:
    options, drafter_options = load_options(args)
    name = drafter_name(args, is_needed=is_drafter_needed)
    may_not_fit = name is not None and is_drafter_free(args) and args.target not in BUNDLED_FOLDERS
    named = None if may_not_fit else name
    engine = Engine.load(args.target, named, options=options, drafter_options=drafter_options)
    if may_not_fit:
        drafter = find_drafter(engine.target, drafter_options)
        if drafter is None:
            complain(f"note: {unfit(args.target)}; name one with --drafter NAME")
        engine = Engine(engine.target, drafter)
    fit_threads(engine.target.threads)
    return engine


def warm_up(engine: Engine) -> None:
    """Run a few tokens through both models, as `Engine.warm_up`, and show that on a terminal."""
    with shown_loading():
        begins("reading a first line")
        engine.warm_up()


def unfit(target: str) -> str:
    """Return what becomes of a default draft model that is left out."""
    return f"the bundled draft model does not fit {target!r}, so drafts come from what needs none"


def fitting(config: DecodingConfig, engine: Engine, args: argparse.Namespace) -> DecodingConfig:
    """Return what can run: where a draft model is missing, it was left out or not wanted."""
    if can_draft(config, engine):
        return config
    unwanted = args.drafter == NO_DRAFTER
    return config.replace(**({"speculative": False} if unwanted else {"drafting": FALLBACK}))


def can_draft(config: DecodingConfig, engine: Engine) -> bool:
    """Whether Speculative has what it drafts with."""
    try:
        engine.speculation("speculative", config)
    except ConfigError:
        return False
    return True
