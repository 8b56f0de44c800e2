"""The models that flags name; a default that cannot fit is left out, with a word."""

from __future__ import annotations

import argparse

from foredraft.cli.arguments import drafter_name, load_options
from foredraft.cli.output import complain
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.errors import ConfigError, ModelError
from foredraft.loading import LoadedModel, LoadOptions, load_drafter
from foredraft.loading.loader import BUNDLED, BUNDLED_FOLDERS, NO_DRAFTER, silence_transformers
from foredraft.threads import fit_threads

FALLBACK = "suffix"  # drafts without a draft model


def load_engine(args: argparse.Namespace, *, is_drafter_needed: bool = True) -> Engine:
    """Load target and drafter, as the flags of `add_model_flags` say, into a process of theirs.

    Raises:
        ModelError: one cannot be loaded; or the drafter, asked for by name, does not fit.
        ConfigError: an option is illegal here.
    """
    silence_transformers()
    options, drafter_options = load_options(args)
    name = drafter_name(args, is_needed=is_drafter_needed)
    may_not_fit = name is not None and args.drafter is None and args.target not in BUNDLED_FOLDERS
    named = None if may_not_fit else name
    engine = Engine.load(args.target, named, options=options, drafter_options=drafter_options)
    if may_not_fit:
        drafter = load_default(engine.target, drafter_options)
        if drafter is None:
            complain(f"note: {unfit(args.target)}; name one with --drafter NAME")
        engine = Engine(engine.target, drafter)
    fit_threads(engine.target.threads)
    return engine


def load_default(target: LoadedModel, options: LoadOptions) -> LoadedModel | None:
    """Return the bundled draft model of a target's kind; None where it does not fit."""
    try:
        return load_drafter(BUNDLED, target, options)
    except ModelError:
        return None


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
