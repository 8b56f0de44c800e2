"""`foredraft train head`: a head for a target, from the target's own answers."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from foredraft.cli.output import say
from foredraft.cli.training_bar import shown_steps, shown_writing, training_bar
from foredraft.errors import ConfigError
from foredraft.escape import for_line
from foredraft.files import plain_name
from foredraft.loading import LoadOptions, load
from foredraft.loading.device import resolve_device
from foredraft.tracing.render import percent, rate
from foredraft.zoo import ZOO_DIR
from foredraft.zoo.evaluation import GAMMA
from foredraft.zoo.head_card import measure_head, publish_head
from foredraft.zoo.head_recipe import GENERAL, QUICK, load_head_recipe
from foredraft.zoo.head_run import HeadRun, collect_texts, holding, train_head

HEAD = "head"
OF_HEAD = ("target", "head_recipe", "quick")  # flags


def check_is_of_head(args: argparse.Namespace) -> None:
    """Raise if a flag was given that is of heads alone."""
    for name in OF_HEAD:
        if getattr(args, name):
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} is of heads; leave it out, or train {HEAD}")


def train_head_command(args: argparse.Namespace) -> None:
    """Collect, train, measure and publish, as the flags of `foredraft train` say."""
    if args.compile is not None:
        raise ConfigError(f"--compile is of models, and a {HEAD} is small; leave it out")
    if args.quick and (args.head_recipe or args.target):
        raise ConfigError("--quick has a recipe and a target of its own; leave the other flag out")
    path = QUICK if args.quick else Path(args.head_recipe or GENERAL)
    recipe = load_head_recipe(path).for_target(args.target or "")
    if args.data is None and not all(source.ours for source in recipe.data):
        raise ConfigError("--data is missing: the folder that holds the recipe's text files")
    device = resolve_device(args.device)
    name = plain_name(recipe.name, "--run-dir")
    run_dir = Path(args.run_dir or Path("runs") / name)
    run = HeadRun(
        recipe,
        path,
        Path(args.data or ZOO_DIR),
        run_dir,
        Path(args.out) if args.out else run_dir / "model",
        load(recipe.target, "target", _options(device)),
        device,
    )
    torch.set_float32_matmul_precision("high")
    with holding(run):
        _train(run)


def _options(device: torch.device) -> LoadOptions:
    """Return how a target is loaded that is to write: on an accelerator many texts at once."""
    runtime = "auto" if device.type == "cpu" else "transformers"
    return LoadOptions(device=str(device), runtime=runtime)


def _train(run: HeadRun) -> None:
    recipe, shown = run.recipe, for_line(str(run.run_dir))
    say(f"training {recipe.name!r} in {shown}; Ctrl-C saves, the same command continues")
    with training_bar() as bar:
        collect_texts(run, shown_writing(bar, "the target", recipe.texts.tokens))
        show = shown_steps(bar, recipe.name, recipe.training.steps)
        module, reached = train_head(run, show)
    say("measuring on held-out prompts")
    measured = measure_head(run, module)
    summary = measured.summary
    places = ", ".join(map(percent, measured.by_position))
    say(
        f"greedy, gamma {GAMMA}: conditional acceptance "
        f"{percent(summary.conditional_acceptance_rate)} (by place: {places}), "
        f"{rate(summary.mean_acceptance_length)} tokens a step; "
        f"a draft call is {measured.cost_ratio:.3f} of a step of plain decoding"
    )
    folder = for_line(str(publish_head(run, module, reached, measured)))
    say(f"held-out loss {reached.losses[-1][2]:.3f} nats a token; head written to {folder}")
