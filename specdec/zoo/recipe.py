"""`recipe.toml`: everything that decides a bundled model, and nothing measured.

Reads and checks; trains nothing. Unknown keys are refused, so that a misspelt setting cannot be
silently ignored.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from specdec.errors import ConfigError
from specdec.zoo import ZOO_DIR
from specdec.zoo.corpus import Source

T = TypeVar("T")


@dataclass(frozen=True)
class ModelShape:
    """A Llama configuration with tied embeddings."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    max_position_embeddings: int = 1024
    rope_theta: float = 10_000.0


@dataclass(frozen=True)
class TokenizerRecipe:
    """A byte-level BPE, trained on `sample_mb` of the training split, or taken `from_model`."""

    vocab_size: int = 8192
    sample_mb: float = 24.0
    from_model: str = ""


@dataclass(frozen=True)
class TrainingRecipe:
    """Optimisation: Muon for hidden matrices, AdamW for the rest, warm-up–stable–decay.

    Attributes:
        steps: optimiser steps.
        tokens_per_step: tokens in one step.
        sequence_length: tokens in one training sequence.
        final_sequence_length: the same during the last `final_share` of the steps.
        learning_rate: peak, for both optimisers (Muon's update is scaled to AdamW's RMS).
        decay_share: share of the steps over which the rate falls linearly to zero.
    """

    steps: int
    learning_rate: float
    tokens_per_step: int = 4096
    sequence_length: int = 256
    final_sequence_length: int = 512
    final_share: float = 0.25
    warmup_steps: int = 100
    decay_share: float = 0.4
    weight_decay: float = 0.1
    checkpoint_seconds: int = 180


@dataclass(frozen=True)
class Distillation:
    """Learn from a teacher's distribution: loss = weight·KL(teacher‖student) + (1 − weight)·CE."""

    teacher: str
    weight: float = 0.9


@dataclass(frozen=True)
class Recipe:
    """One `recipe.toml`, checked."""

    name: str
    summary: str
    seed: int
    model: ModelShape
    tokenizer: TokenizerRecipe
    training: TrainingRecipe
    data: tuple[Source, ...]
    distillation: Distillation | None = None


def recipe_path(name_or_path: str) -> Path:
    """Return the file of a recipe: a `.toml` path as it is, else a bundled model's."""
    path = Path(name_or_path)
    return path if path.suffix == ".toml" else ZOO_DIR / name_or_path / "recipe.toml"


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by the name of a bundled model or by path.

    Raises:
        ConfigError: no such file, not TOML, or a key is missing, unknown or of the wrong type.
    """
    path = recipe_path(name_or_path)
    if not path.is_file():
        names = ", ".join(sorted(p.parent.name for p in ZOO_DIR.glob("*/recipe.toml")))
        raise ConfigError(
            f"no recipe {name_or_path!r}; give a .toml file or one of the bundled recipes: {names}"
        )
    try:
        return _parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, TypeError, KeyError, ValueError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {error}") from error


def _parse(table: dict[str, Any]) -> Recipe:
    distillation = table.get("distillation")
    return Recipe(
        name=table["name"],
        summary=table["summary"],
        seed=int(table["seed"]),
        model=_section(ModelShape, table["model"]),
        tokenizer=_section(TokenizerRecipe, table.get("tokenizer", {})),
        training=_section(TrainingRecipe, table["training"]),
        data=tuple(_section(Source, source) for source in table["data"]),
        distillation=_section(Distillation, distillation) if distillation else None,
    )


def _section(kind: type[T], table: dict[str, Any]) -> T:
    legal = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(legal))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; legal keys: {', '.join(legal)}")
    return kind(**table)
