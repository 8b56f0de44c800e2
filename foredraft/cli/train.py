"""`foredraft train`: shows progress, can be interrupted, and resumes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foredraft.cli.output import say
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
from foredraft.zoo.training import Progress as Reached
from foredraft.zoo.training import prepare, train

LINE_EVERY = 50  # steps between plain lines where there is no terminal


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `foredraft train`."""
    add = parser.add_argument
    add("recipe", help=f"{', '.join(bundled_recipes())}, or a recipe.toml")
    add("--data", required=True, help="folder that holds the recipe's text files")
    add("--run-dir", help="checkpoints and token streams [runs/<recipe name>]")
    add("--out", help="folder for the finished model [the run folder's `model`]")
    add("--device", default="auto", help="auto, cpu, cuda [%(default)s]")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile [on]")
    parser.set_defaults(run=_train_command)


def _train_command(args: argparse.Namespace) -> None:
    recipe = load_recipe(args.recipe)
    run_dir = Path(args.run_dir or Path("runs") / plain_name(recipe.name, "--run-dir"))
    run = Run(
        recipe,
        recipe_path(args.recipe),
        Path(args.data),
        run_dir,
        Path(args.out) if args.out else run_dir / "model",
        resolve_device(args.device),
        args.compile,
    )
    if recipe.is_seq2seq:
        check_sacrebleu()
    torch.set_float32_matmul_precision("high")
    silence_transformers()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's Ctrl-C
    with holding(run):
        _train(run)


def _train(run: Run) -> None:
    recipe, shown = run.recipe, for_line(str(run.run_dir))
    say(f"training {recipe.name!r} in {shown}; Ctrl-C saves, the same command continues")
    with _bar() as bar:
        task = bar.add_task(for_line(recipe.name), total=recipe.training.steps, loss="–")

        def show(reached: Reached, loss: float) -> None:
            if sys.stdout.isatty():
                bar.update(task, completed=reached.step, loss=f"{loss:.3f}")
            elif reached.step % LINE_EVERY == 0:
                held_out = f", held out {reached.losses[-1][2]:.3f}" if reached.losses else ""
                line = f"step {reached.step}: loss {loss:.3f}{held_out}, {reached.seconds:.0f} s"
                say(line, flush=True)

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


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        disable=not sys.stdout.isatty(),
    )


def _writing(run: Run, bar: Progress) -> Callable[[int], None]:
    """Return what shows how far the teacher has come with the text that it writes."""
    wanted = run.recipe.distillation.continued_tokens if run.recipe.distillation else 0
    task = bar.add_task("the teacher writes", total=wanted, loss="–", visible=wanted > 0)

    def show(done: int) -> None:
        if sys.stdout.isatty():
            bar.update(task, completed=min(done, wanted))
        else:
            say(f"the teacher has written {done:,} of {wanted:,} tokens", flush=True)

    return show
