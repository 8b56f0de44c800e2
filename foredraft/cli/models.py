"""`foredraft models`: which models are bundled; and a model rounded to a GGUF file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from foredraft.cli.output import say
from foredraft.cli.parser import Parser
from foredraft.escape import for_line
from foredraft.zoo import describe_bundled

ROUNDED = ("int8", "int4")
TENSORS_A_LINE = 100  # where there is no terminal


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft models`: none, and what can be done to a model."""
    parser.set_defaults(run=_models)
    actions = parser.add_subparsers(metavar="ACTION", parser_class=Parser)
    told = "write a model with its matrices rounded as a GGUF file, which llama.cpp reads too"
    add = actions.add_parser("quantize", help=told, description=f"{told.capitalize()}.")
    add.add_argument("model", help="a folder, a .gguf file or a hub name; not quantised")
    add.add_argument("--kind", required=True, choices=ROUNDED, help="Q8_0 or Q4_1 blocks")
    add.add_argument("--out", required=True, metavar="FILE.gguf", help="the file to write")
    add.add_argument("--overwrite", action="store_true", help="write over a file that is there")
    add.set_defaults(run=_quantize)


def _models(args: argparse.Namespace) -> None:
    for line in describe_bundled():
        say(line)


def _quantize(args: argparse.Namespace) -> None:
    # Imported here, since listing models waits for nothing.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from foredraft.loading.gguf_writing import quantize_to
    from foredraft.loading.loader import resolve_source, silence_transformers

    silence_transformers()
    out = Path(args.out).expanduser()
    described = TextColumn("{task.description}", markup=False)
    with Progress(
        described, BarColumn(), MofNCompleteColumn(), disable=not sys.stdout.isatty()
    ) as bar:
        task = bar.add_task("tensors written")

        def show(done: int, total: int) -> None:
            if sys.stdout.isatty():
                bar.update(task, completed=done, total=total)
            elif done % TENSORS_A_LINE == 0:
                say(f"{done} of {total} tensors written", flush=True)

        source = resolve_source(args.model, "target")
        quantize_to(source, args.kind, out, show, overwrite=args.overwrite)
    say(f"{for_line(str(out))}: {out.stat().st_size:,} bytes")
