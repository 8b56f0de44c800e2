"""The recipe of a head: what decides it, and nothing measured."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from transformers import LlamaConfig

from foredraft.errors import ConfigError, foreign, quoted
from foredraft.files import PATH_LIMIT, Json, read_text
from foredraft.models import Network
from foredraft.models.head_module import HeadConfig
from foredraft.ranges import Checked, Count, Range, Share, checked
from foredraft.zoo import HEADS_DIR
from foredraft.zoo.corpus import Source
from foredraft.zoo.recipe import Width, section, sources_in

GENERAL, QUICK = HEADS_DIR / "general.toml", HEADS_DIR / "quick.toml"
FromTarget = Annotated[int, Range(0, 1 << 20)]  # 0: the target decides
MULTIPLE = 32  # of a size, so that rows are whole blocks when they are rounded


@dataclass(frozen=True)
class HeadShape(Checked):
    """The layer of a head; its hidden size, and what 0 stands for, are the target's."""

    # after how many of the target's layers its states are read; (): half of them, and all
    layers: tuple[FromTarget, ...] = ()
    num_attention_heads: FromTarget = 0
    num_key_value_heads: FromTarget = 0
    head_dim: Width = 64
    intermediate_size: FromTarget = 0
    draft_vocab_size: Width = 8192

    def __post_init__(self) -> None:
        super().__post_init__()
        for layer in self.layers:
            checked("layers", layer, FromTarget)

    def config_for(self, target: Network) -> HeadConfig:
        """Return the config of a head of this shape for a target.

        Raises:
            ConfigError: the target has no such layers.
        """
        hidden, depth = target.state_size, target.num_watchable
        layers = self.layers or (depth // 2, depth)
        if max(layers) > depth:
            raise ConfigError(f"layers are {list(layers)}; legal for this target: 0 … {depth}")
        heads = self.num_attention_heads or _heads_for(hidden, self.head_dim)
        kv_heads = self.num_key_value_heads or (heads // 2 if heads % 2 == 0 else heads)
        if heads % kv_heads:
            raise ConfigError(f"num_key_value_heads is {kv_heads}; legal: a divisor of {heads}")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim is {self.head_dim}; legal: an even number")
        with foreign("making a head of [head]", "correct the recipe", ConfigError):
            layer = LlamaConfig(
                vocab_size=target.vocab_size,
                hidden_size=hidden,
                intermediate_size=self.intermediate_size or _multiple(hidden // 2),
                num_hidden_layers=1,
                num_attention_heads=heads,
                num_key_value_heads=kv_heads,
                head_dim=self.head_dim,
                max_position_embeddings=target.max_length,
                rms_norm_eps=1e-5,
                tie_word_embeddings=False,
            )
        columns = min(self.draft_vocab_size, target.vocab_size)
        return HeadConfig(layer, layers, hidden, columns)


def _multiple(size: int) -> int:
    return max(size // MULTIPLE, 1) * MULTIPLE


def _heads_for(hidden: int, head_dim: int) -> int:
    """Return how many heads: half as many as fill the hidden size, or the next even divisor."""
    most = max(2, hidden // (2 * head_dim))
    return max((n for n in range(2, most + 1, 2) if hidden % n == 0), default=1)


@dataclass(frozen=True)
class HeadTexts(Checked):
    """What the target writes for it."""

    tokens: Count  # of its answers, in all
    length: Count = 224  # most tokens of an answer
    prompt_length: Count = 224  # most tokens of a prompt; longer ones are left out


@dataclass(frozen=True)
class HeadTraining(Checked):
    """Optimisation: Muon for matrices, AdamW for the rest, warm-up–stable–decay."""

    steps: Count
    learning_rate: Annotated[float, Range(0, 100, open_low=True)]
    rows_per_step: Count = 3072  # tokens of a batch, about
    longest: Count = 384  # tokens of a text that are learnt from
    unrolled: Annotated[int, Range(1, 16)] = 3  # steps, all but the first on its own guesses
    unrolled_after: Share = 0.75  # of the steps; before, it is told all
    acceptance: Share = 0.5  # share of the loss that is of acceptance itself
    acceptance_after: Share = 0.55  # of the steps; before, all of it is cross-entropy
    warmup_steps: Annotated[int, Range(0, 10**9)] = 20
    decay_share: Share = 0.6
    weight_decay: Annotated[float, Range(0, 100)] = 0.05
    checkpoint_seconds: Annotated[int, Range(0, 10**6)] = 120


@dataclass(frozen=True)
class HeadRecipe(Checked):
    """One recipe of a head, checked."""

    name: str
    summary: str
    seed: Annotated[int, Range(0, 2**32 - 1)]
    head: HeadShape
    texts: HeadTexts
    training: HeadTraining
    data: tuple[Source, ...]
    target: str = ""  # its name; --target says another

    def for_target(self, name: str) -> HeadRecipe:
        """Return the recipe for a target by its name.

        Raises:
            ConfigError: neither says which.
        """
        if not (name or self.target):
            raise ConfigError("a head needs its target; name it with --target NAME")
        return replace(self, target=name or self.target)


HEAD_SECTIONS: dict[str, type[Checked]] = {
    "head": HeadShape,
    "texts": HeadTexts,
    "training": HeadTraining,
}


def load_head_recipe(path: Path) -> HeadRecipe:
    """Read a recipe.

    Raises:
        ConfigError: no such file, not TOML, or a key is missing, unknown or of the wrong type.
    """
    shown = quoted(str(path), PATH_LIMIT)
    if not path.is_file():
        raise ConfigError(f"no recipe {shown}; give a .toml file with --recipe")
    try:
        table: dict[str, Json] = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"recipe {shown} cannot be read: it is no TOML ({error})") from error
    try:
        return _parse({key: value for key, value in table.items() if key != "measured"})
    except ConfigError as error:
        raise ConfigError(f"recipe {shown} cannot be read: {error}") from error


def _parse(table: dict[str, Json]) -> HeadRecipe:
    for name, kind in HEAD_SECTIONS.items():
        found = table.get(name, {})
        if not isinstance(found, dict):
            raise ConfigError(f"{name} must be a table, not {quoted(found)}")
        lists = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
        table[name] = section(kind, found | lists)
    table["data"] = sources_in(table)
    return section(HeadRecipe, table)
