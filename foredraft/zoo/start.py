"""What can be checked before hours of training: places, room, shapes, the teacher.

Looks, and makes at most the folder in which a folder is to lie.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoConfig

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.files import PATH_LIMIT, only_writer, writing
from foredraft.zoo.networks import Ends, build_network
from foredraft.zoo.publish import check_place
from foredraft.zoo.recipe import Recipe
from foredraft.zoo.record import PARTS, RECORD, begin, record_of
from foredraft.zoo.run import Run, model_folder
from foredraft.zoo.streams import HELD_OUT_TOKENS
from foredraft.zoo.teacher import teacher_weights
from foredraft.zoo.tokenizer import load_tokenizer

CHECKPOINT_BYTES = 12  # a parameter: itself and two moments, four bytes each
MODEL_BYTES = 2  # a parameter in bf16
STREAM_BYTES = 2  # a token
CONTINUED_BYTES = 6  # a token that the teacher writes, in JSON


class OurEnds:
    """Those of a tokenizer to come."""

    pad_token_id, eos_token_id, bos_token_id = 0, 1, 2


@contextmanager
def holding(run: Run) -> Iterator[None]:
    """Check what can be checked, then be the only process that writes into the run folder.

    Raises:
        ConfigError: a place, a file, the recipe or the free space does not allow the run, or
            another process is writing it.
    """
    record_of(run)  # reads every file
    check_place(run)
    check_room(run, check_shapes(run.recipe))
    with writing(run.run_dir, "give another --run-dir"):
        run.run_dir.mkdir(parents=True, exist_ok=True)
    with only_writer(run.run_dir, "this run"):
        _sweep(run)
        begin(run)
        yield


def _sweep(run: Run) -> None:
    """Delete what writers that were killed have left beside their files, see `files`."""
    names = "|".join(map(re.escape, (*PARTS, RECORD, run.out_dir.name)))
    left = re.compile(rf"\.({names})\.\w{{8}}(\.old)?")
    for path in run.run_dir.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_shapes(recipe: Recipe) -> int:
    """Return how many parameters the recipe's network has; it is built, without memory.

    Raises:
        ConfigError: its shape is none, or the tokenizer or the teacher does not fit it.
    """
    size = recipe.tokenizer.vocab_size
    ends: Ends = OurEnds()
    if recipe.tokenizer.from_model:
        ends = tokenizer = load_tokenizer(model_folder(recipe.tokenizer.from_model))
        if len(tokenizer) > size:
            raise ConfigError(
                f"the tokenizer of {quoted(recipe.tokenizer.from_model, PATH_LIMIT)} has "
                f"{len(tokenizer)} tokens, more than vocab_size {size}; set vocab_size to that"
            )
    if recipe.distillation:
        _check_teacher(recipe.distillation.teacher, size)
    with (
        foreign("a network of the recipe's [model]", "change [model]", ConfigError),
        torch.device("meta"),
        torch.no_grad(),
    ):
        network = build_network(recipe, ends).eval()
        ids = torch.zeros(1, 2, dtype=torch.long)
        network(ids, **({"decoder_input_ids": ids} if recipe.is_seq2seq else {}))
        return sum(p.numel() for p in network.parameters())


def _check_teacher(name: str, size: int) -> None:
    folder = teacher_weights(name).parent
    with foreign(f"reading the teacher {quoted(name, PATH_LIMIT)}", "give another", ConfigError):
        columns = AutoConfig.from_pretrained(folder).vocab_size
    if columns != size:
        raise ConfigError(
            f"the teacher {quoted(name, PATH_LIMIT)} knows {columns} tokens and vocab_size is "
            f"{size}; they must be equal"
        )


def check_room(run: Run, parameters: int) -> None:
    """Raise unless there is room for what a run of so many parameters writes.

    Raises:
        ConfigError: there is less; says how much is needed.
    """
    recipe, checkpoint = run.recipe, CHECKPOINT_BYTES * parameters
    needed = {run.run_dir: 2 * checkpoint}  # the new one is whole before the old one goes
    if not recipe.is_seq2seq:
        tokens = recipe.training.steps * recipe.training.tokens_per_step + HELD_OUT_TOKENS
        needed[run.run_dir] += STREAM_BYTES * tokens
    if recipe.distillation:
        needed[run.run_dir] += CONTINUED_BYTES * recipe.distillation.continued_tokens
    if run.run_dir.is_dir():
        needed[run.run_dir] -= sum(p.stat().st_size for p in run.run_dir.iterdir() if p.is_file())
    needed[run.out_dir] = MODEL_BYTES * parameters
    for folder, size in needed.items():
        free = shutil.disk_usage(_existing(folder)).free
        if free < size:
            raise ConfigError(
                f"{quoted(str(folder), PATH_LIMIT)} has room for {free / 1e6:.0f} MB and needs "
                f"about {size / 1e6:.0f} MB; make room, or give another folder"
            )


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
