"""`recipe.toml`: everything that decides a bundled model, and nothing measured.

Reads and checks; trains nothing. Unknown keys are refused, so that a misspelt setting cannot be
silently ignored.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, TypeVar

from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, Json, read_text
from foredraft.ranges import Checked, Count, Range, Share
from foredraft.zoo import ZOO_DIR, bundled_recipes
from foredraft.zoo.corpus import Source
from foredraft.zoo.tokenizer import SPECIAL_TOKENS

T = TypeVar("T")
Width = Annotated[int, Range(1, 1 << 20)]
Depth = Annotated[int, Range(1, 1024)]
# 256 bytes and the special tokens at least; token streams are 16 bits wide.
VocabSize = Annotated[int, Range(256 + len(SPECIAL_TOKENS), 1 << 16)]
NotOne = Annotated[float, Range(0, 1, open_high=True)]


@dataclass(frozen=True)
class LlamaShape(Checked):
    """A Llama configuration with tied embeddings."""

    hidden_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Depth
    num_key_value_heads: Depth
    intermediate_size: Width
    max_position_embeddings: Count = 1024
    rope_theta: Annotated[float, Range(1, 10**12)] = 10_000.0

    def describe(self) -> str:
        """Return the shape in words."""
        return (
            f"{self.num_hidden_layers} layers, hidden size {self.hidden_size}, "
            f"{self.num_attention_heads} heads, {self.max_position_embeddings:,} positions"
        )


@dataclass(frozen=True)
class T5Shape(Checked):
    """A T5 configuration (encoder–decoder) with tied embeddings."""

    d_model: Width
    d_kv: Width
    d_ff: Width
    num_heads: Depth
    num_layers: Depth
    num_decoder_layers: Depth
    dropout_rate: NotOne = 0.0

    def describe(self) -> str:
        """Return the shape in words."""
        return (
            f"{self.num_layers} encoder and {self.num_decoder_layers} decoder layers, hidden size "
            f"{self.d_model}, {self.num_heads} heads, relative positions"
        )


ARCHITECTURES: dict[str, type[LlamaShape | T5Shape]] = {"llama": LlamaShape, "t5": T5Shape}


@dataclass(frozen=True)
class TokenizerRecipe(Checked):
    """A byte-level BPE, trained on `sample_mb` of the training split, or taken `from_model`."""

    vocab_size: VocabSize = 8192
    sample_mb: Annotated[float, Range(0, 10**6, open_low=True)] = 24.0
    from_model: str = ""


@dataclass(frozen=True)
class TrainingRecipe(Checked):
    """Optimisation: Muon for hidden matrices, AdamW for the rest, warm-up–stable–decay."""

    steps: Count  # optimiser steps
    # peak, for both optimisers (Muon's update is scaled to AdamW's RMS)
    learning_rate: Annotated[float, Range(0, 100, open_low=True)]
    tokens_per_step: Count = 4096  # tokens in one step
    # tokens in one training sequence; of an encoder–decoder model, the longest prompt or answer
    # that is learnt from
    sequence_length: Count = 256
    # of a causal model, the same during the last `final_share` of the steps
    final_sequence_length: Count = 512
    final_share: Share = 0.25
    warmup_steps: Annotated[int, Range(0, 10**9)] = 100
    decay_share: Share = 0.4  # share of the steps over which the rate falls linearly to zero
    weight_decay: Annotated[float, Range(0, 100)] = 0.1
    checkpoint_seconds: Annotated[int, Range(0, 10**6)] = 180

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sequence_length", "final_sequence_length"):
            Range(1, self.tokens_per_step).check(name, getattr(self, name))


@dataclass(frozen=True)
class Distillation(Checked):
    """Learn from a teacher's distribution: loss = weight·KL(teacher‖student) + (1 − weight)·CE."""

    teacher: str  # a bundled model or a folder
    weight: Share = 0.9  # of the divergence
    # of a causal model, how much the teacher writes for it, see `teacher`
    continued_tokens: Annotated[int, Range(0, 10**10)] = 0
    continued_share: NotOne = 0.5  # fraction of the training tokens that are drawn from that


@dataclass(frozen=True)
class Recipe(Checked):
    """One `recipe.toml`, checked."""

    name: str
    summary: str
    seed: Annotated[int, Range(0, 2**32 - 1)]
    model: LlamaShape | T5Shape
    tokenizer: TokenizerRecipe
    training: TrainingRecipe
    data: tuple[Source, ...]
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_seq2seq and self.distillation and self.distillation.continued_tokens:
            raise ConfigError(
                "continued_tokens is of causal models: an encoder–decoder continues no document; "
                "leave it out"
            )

    @property
    def is_seq2seq(self) -> bool:
        """Whether the network reads a prompt with an encoder."""
        return isinstance(self.model, T5Shape)


SECTIONS: dict[str, type[Checked]] = {
    "tokenizer": TokenizerRecipe,
    "training": TrainingRecipe,
    "distillation": Distillation,
}


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
            f"no recipe {quoted(name_or_path, PATH_LIMIT)}; give a .toml file or one of "
            f"the bundled recipes: {names}"
        )
    shown = quoted(str(path), PATH_LIMIT)
    try:
        table = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"recipe {shown} cannot be read: it is no TOML ({error})") from error
    try:
        return _parse(table)
    except ConfigError as error:
        raise ConfigError(f"recipe {shown} cannot be read: {error}") from error


def _parse(table: dict[str, Json]) -> Recipe:
    table = {key: value for key, value in table.items() if key != "measured"}
    for name in ("model", *SECTIONS):
        if not isinstance(table.get(name, {}), dict):
            raise ConfigError(f"{name} must be a table, not {quoted(table[name])}")
    table["model"] = _model(dict(table.get("model", {})))
    for name, kind in SECTIONS.items():
        if name in table or name != "distillation":
            table[name] = section(kind, table.get(name, {}))
    table["data"] = sources_in(table)
    return section(Recipe, table)


def _model(table: dict[str, Json]) -> LlamaShape | T5Shape:
    architecture = table.pop("architecture", "llama")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        legal = ", ".join(ARCHITECTURES)
        raise ConfigError(f"unknown architecture {quoted(architecture)}; legal: {legal}")
    return section(ARCHITECTURES[architecture], table)


def sources_in(table: dict[str, Json]) -> tuple[Source, ...]:
    """Return the `[[data]]` tables of a recipe.

    Raises:
        ConfigError: there are none, or one is wrong.
    """
    data = table.get("data", [])
    if not isinstance(data, list) or not data or not all(isinstance(d, dict) for d in data):
        raise ConfigError(f"data must be one [[data]] table or more, not {quoted(data)}")
    return tuple(section(Source, source) for source in data)


def section(kind: type[T], table: dict[str, Json]) -> T:
    """Return a dataclass from a TOML table.

    Raises:
        ConfigError: a key is unknown, missing or wrong.
    """
    legal = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in legal:
            raise ConfigError(f"unknown key {key!r}; legal keys: {', '.join(legal)}")
    for key, declared in legal.items():
        if key not in table and declared.default is MISSING:
            raise ConfigError(f"key {key!r} is missing")
    return kind(**table)
