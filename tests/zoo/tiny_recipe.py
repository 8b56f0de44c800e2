"""A recipe so small that it trains in seconds, and a few hundred own lines to train it on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch

from foredraft.zoo.recipe import load_recipe
from foredraft.zoo.run import Run

torch.set_num_threads(1)  # matrices this small gain nothing from threads

STEPS = 6
VOCAB = 300
LICENCE = "Own lines (the foredraft authors), CC0-1.0"

RECIPE = f"""\
# A comment that stays.
name = "tiny"
summary = "Knows who saw what, and where."
seed = 3

[tokenizer]
vocab_size = {VOCAB}
sample_mb = 0.01

[model]
hidden_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
intermediate_size = 48
max_position_embeddings = 128

[training]
steps = {STEPS}
learning_rate = 1e-2
tokens_per_step = 128
sequence_length = 32
final_sequence_length = 64
final_share = 0.34
warmup_steps = 2

[[data]]
path = "stories.txt"
format = "documents"
share = 0.75
licence = "{LICENCE}"

[[data]]
path = "pairs.tsv"
format = "pairs"
template = "Backwards: {{second}}\\n{{first}}"
chat_share = 0.5
share = 0.25
licence = "Own pairs, CC0-1.0"
"""

WHO = ("The fox", "A child", "My aunt", "One bird", "The baker", "A sailor", "His dog")
WHAT = ("a boat", "the moon", "two apples", "a red door", "some rain", "an old map", "a song")
WHERE = ("by the sea", "in town", "at home", "on a hill", "near us", "far away", "in a dream")


def write_data(folder: Path) -> Path:
    """Write stories and pairs, enough of each for both sides of the split; return the folder."""
    lines = [f"{a} saw {b} {c}." for a, b, c in itertools.product(WHO, WHAT, WHERE)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stories.txt").write_text("<|endoftext|>".join(lines), encoding="utf-8")
    pairs = [f"{line}\t{' '.join(reversed(line.split()))}" for line in lines]
    (folder / "pairs.tsv").write_text("\n".join(pairs), encoding="utf-8")
    return folder


def drafter_recipe(teacher: Path) -> str:
    """Return the recipe of a model that learns from a finished one, with its tokenizer."""
    learns = f'[distillation]\nteacher = "{teacher.as_posix()}"\nweight = 1.0\n\n[[data]]'
    return (
        RECIPE.replace("sample_mb = 0.01", f'from_model = "{teacher.as_posix()}"')
        .replace("hidden_size = 32", "hidden_size = 16")
        .replace('name = "tiny"', 'name = "tinier"')
        .replace("[[data]]", learns, 1)
    )


def make_run(folder: Path, recipe: str = RECIPE, **changes: Any) -> Run:
    """Write data and recipe into a folder; return a run on them, uncompiled and on the CPU."""
    data = folder / "data"
    if not data.is_dir():
        write_data(data)
    path = folder / "recipe.toml"
    path.write_text(recipe, encoding="utf-8")
    settings: dict[str, Any] = {
        "recipe": load_recipe(str(path)),
        "recipe_path": path,
        "data_dir": data,
        "run_dir": folder / "run",
        "out_dir": folder / "model",
        "device": torch.device("cpu"),
        "compile": False,
    }
    return Run(**settings | changes)
