"""`recipe.toml`: everything that decides a bundled model, and nothing measured.

Reads and checks; trains nothing. Unknown keys are refused, so that a misspelt setting cannot be
silently ignored.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from foredraft.errors import ConfigError
from foredraft.registry import check_range
from foredraft.zoo import ZOO_DIR, bundled_recipes
from foredraft.zoo.corpus import Source
from foredraft.zoo.tokenizer import SPECIAL_TOKENS

T = TypeVar("T")
INFINITY = float("inf")


@dataclass(frozen=True)
class LlamaShape:
    """A Llama configuration with tied embeddings."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    max_position_embeddings: int = 1024
    rope_theta: float = 10_000.0

    def describe(self) -> str:
        """Return the shape in words."""
        return (
            f"{self.num_hidden_layers} layers, hidden size {self.hidden_size}, "
            f"{self.num_attention_heads} heads, {self.max_position_embeddings:,} positions"
        )


@dataclass(frozen=True)
class T5Shape:
    """A T5 configuration (encoder–decoder) with tied embeddings."""

    d_model: int
    d_kv: int
    d_ff: int
    num_heads: int
    num_layers: int
    num_decoder_layers: int
    dropout_rate: float = 0.0

    def describe(self) -> str:
        """Return the shape in words."""
        return (
            f"{self.num_layers} encoder and {self.num_decoder_layers} decoder layers, hidden size "
            f"{self.d_model}, {self.num_heads} heads, relative positions"
        )


ARCHITECTURES = {"llama": LlamaShape, "t5": T5Shape}


@dataclass(frozen=True)
class TokenizerRecipe:
    """A byte-level BPE, trained on `sample_mb` of the training split, or taken `from_model`."""

    vocab_size: int = 8192
    sample_mb: float = 24.0
    from_model: str = ""

    def __post_init__(self) -> None:
        # 256 bytes and the special tokens at least; token streams are 16 bits wide.
        check_range("vocab_size", self.vocab_size, 256 + len(SPECIAL_TOKENS), 1 << 16)


@dataclass(frozen=True)
class TrainingRecipe:
    """Optimisation: Muon for hidden matrices, AdamW for the rest, warm-up–stable–decay.

    Attributes:
        steps: optimiser steps.
        tokens_per_step: tokens in one step.
        sequence_length: tokens in one training sequence; of an encoder–decoder model, the longest
            prompt or answer that is learnt from.
        final_sequence_length: of a causal model, the same during the last `final_share` of the
            steps.
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

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, INFINITY)
        check_range("learning_rate", self.learning_rate, 0, INFINITY, open_low=True)
        for name in ("sequence_length", "final_sequence_length"):
            check_range(name, getattr(self, name), 1, self.tokens_per_step)
        for name in ("final_share", "decay_share"):
            check_range(name, getattr(self, name), 0, 1)


@dataclass(frozen=True)
class Distillation:
    """Learn from a teacher's distribution: loss = weight·KL(teacher‖student) + (1 − weight)·CE.

    Attributes:
        teacher: a bundled model or a folder.
        weight: of the divergence.
        continued_tokens: of a causal model, how much the teacher writes for it, see `teacher`.
        continued_share: fraction of the training tokens that are drawn from that.
    """

    teacher: str
    weight: float = 0.9
    continued_tokens: int = 0
    continued_share: float = 0.5

    def __post_init__(self) -> None:
        check_range("weight", self.weight, 0, 1)
        check_range("continued_tokens", self.continued_tokens, 0, INFINITY)
        check_range("continued_share", self.continued_share, 0, 1, open_high=True)


@dataclass(frozen=True)
class Recipe:
    """One `recipe.toml`, checked."""

    name: str
    summary: str
    seed: int
    model: LlamaShape | T5Shape
    tokenizer: TokenizerRecipe
    training: TrainingRecipe
    data: tuple[Source, ...]
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        if self.is_seq2seq and self.distillation and self.distillation.continued_tokens:
            raise ConfigError(
                "continued_tokens is of causal models: an encoder–decoder continues no document; "
                "leave it out"
            )

    @property
    def is_seq2seq(self) -> bool:
        """Whether the network reads a prompt with an encoder."""
        return isinstance(self.model, T5Shape)


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
        names = ", ".join(bundled_recipes())
        raise ConfigError(
            f"no recipe {name_or_path!r}; give a .toml file or one of the bundled recipes: {names}"
        )
    try:
        return _parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ConfigError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {error}") from error


def _parse(table: dict[str, Any]) -> Recipe:
    table = {key: value for key, value in table.items() if key != "measured"}
    sections: dict[str, Any] = {
        "model": _model(dict(table.get("model", {}))),
        "tokenizer": _section(TokenizerRecipe, table.get("tokenizer", {})),
        "training": _section(TrainingRecipe, table.get("training", {})),
        "data": tuple(_section(Source, source) for source in table.get("data", [])),
    }
    if "distillation" in table:
        sections["distillation"] = _section(Distillation, table["distillation"])
    return _section(Recipe, {**table, **sections})


def _model(table: dict[str, Any]) -> LlamaShape | T5Shape:
    architecture = table.pop("architecture", "llama")
    if architecture not in ARCHITECTURES:
        legal = ", ".join(ARCHITECTURES)
        raise ConfigError(f"unknown architecture {architecture!r}; legal: {legal}")
    shape: LlamaShape | T5Shape = _section(ARCHITECTURES[architecture], table)
    return shape


def _section(kind: type[T], table: dict[str, Any]) -> T:
    """Return a dataclass from a TOML table: no key unknown, missing or of another type."""
    legal = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key, value in table.items():
        if key not in legal:
            raise ConfigError(f"unknown key {key!r}; legal keys: {', '.join(legal)}")
        wanted = hints[key]
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if wanted in (int, float, bool, str) and not fits:
            raise ConfigError(f"{key} must be {wanted.__name__}, not {value!r}")
    for key, declared in legal.items():
        if key not in table and declared.default is MISSING:
            raise ConfigError(f"key {key!r} is missing")
    return kind(**table)
