"""`foredraft models`: which models are bundled."""

from __future__ import annotations

import argparse

from foredraft.cli.output import say
from foredraft.zoo import describe_bundled


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft models`: none."""
    parser.set_defaults(run=_models)


def _models(args: argparse.Namespace) -> None:
    for line in describe_bundled():
        say(line)
