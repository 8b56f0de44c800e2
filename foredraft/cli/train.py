"""`foredraft train`: shows progress, can be interrupted, and resumes."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import Progress

from foredraft.cli.output import say
from foredraft.cli.train_head import HEAD, check_is_of_head, train_head_command
from foredraft.cli.training_bar import shown_steps, shown_writing, training_bar
from foredraft.errors import ConfigError
from foredraft.escape import for_line
from foredraft.files import plain_name
from foredraft.loading.device import resolve_device
from foredraft.loading.loader import silence_transformers
from foredraft.tracing.render import percent
from foredraft.zoo import bundled_recipes
from foredraft.zoo.evaluation import check_sacrebleu, measure
from foredraft.zoo.publish import publish
from foredraft.zoo.recipe import load_recipe, recipe_path
from foredraft.zoo.run import Run
from foredraft.zoo.start import holding
from foredraft.zoo.training import prepare, train


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft train`."""
    add = parser.add_argument
    add("recipe", help=f"{', '.join(bundled_recipes())}, a recipe.toml, or {HEAD}")
    add("--data", help="folder that holds the recipe's text files")
    add("--run-dir", help="checkpoints and token streams [runs/<recipe name>]")
    add("--out", help="folder for the finished model [the run folder's `model`]")
    add("--device", default="auto", help="auto, cpu, cuda [%(default)s]")
    add("--compile", action=argparse.BooleanOptionalAction, help="compile with torch.compile [on]")
    group = parser.add_argument_group(HEAD)
    add = group.add_argument
    add("--target", metavar="NAME", help="whose head it is: a name as for generate")
    add("--head-recipe", metavar="FILE", help="a recipe.toml of a head [that of this package]")
    add("--quick", action="store_true", help="a weak head of the bundled target, in minutes")
    parser.set_defaults(run=_train_command)


def _train_command(args: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's Ctrl-C
    silence_transformers()
    if args.recipe == HEAD:
        train_head_command(args)
        return
    check_is_of_head(args)
    if args.data is None:
        raise ConfigError("--data is missing: the folder that holds the recipe's text files")
    recipe = load_recipe(args.recipe)
    run_dir = Path(args.run_dir or Path("runs") / plain_name(recipe.name, "--run-dir"))
    run = Run(
        recipe,
        recipe_path(args.recipe),
        Path(args.data),
        run_dir,
        Path(args.out) if args.out else run_dir / "model",
        resolve_device(args.device),
        args.compile is not False,
    )
    if recipe.is_seq2seq:
        check_sacrebleu()
    torch.set_float32_matmul_precision("high")
    with holding(run):
        _train(run)


def _train(run: Run) -> None:
    recipe, shown = run.recipe, for_line(str(run.run_dir))
    say(f"training {recipe.name!r} in {shown}; Ctrl-C saves, the same command continues")
    with training_bar() as bar:
        show = shown_steps(bar, recipe.name, recipe.training.steps)
        model, reached = train(run, show, _writing(run, bar))
    tokenizer = prepare(run)
    say("measuring on held-out documents")
    measured = measure(run, model, tokenizer)
    if measured.acceptance:
        say(f"conditional acceptance {percent(measured.acceptance.conditional_acceptance_rate)}")
    if measured.translation:
        say(f"BLEU {measured.translation.bleu:.1f}, chrF {measured.translation.chrf:.1f}")
    folder = for_line(str(publish(run, model, tokenizer, reached, measured)))
    say(f"held-out loss {reached.losses[-1][2]:.3f} nats a token; model written to {folder}")


def _writing(run: Run, bar: Progress) -> Callable[[int], None]:
    wanted = run.recipe.distillation.continued_tokens if run.recipe.distillation else 0
    return shown_writing(bar, "the teacher", wanted)
