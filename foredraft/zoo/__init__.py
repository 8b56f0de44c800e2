"""The bundled models, and the recipes that made them.

One folder a model, in plain Hugging Face form; `recipe.toml` beside the weights is the whole input
of `foredraft train`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

ZOO_DIR = Path(__file__).parent
HEADS_DIR = ZOO_DIR / "heads"


def bundled_path(role: str) -> Path:
    """Return the folder of a bundled model: `target`, `drafter`, `seq2seq_target`, …."""
    return ZOO_DIR / role


def bundled_recipes() -> list[str]:
    """Return the names of the bundled recipes."""
    return sorted(path.parent.name for path in ZOO_DIR.glob("*/recipe.toml"))


def describe_bundled() -> list[str]:
    """Return one line for each bundled model: its name, what it is, and whether it is there."""
    lines = []
    recipes = [bundled_path(name) / "recipe.toml" for name in bundled_recipes()]
    for recipe in (*recipes, *sorted(HEADS_DIR.glob("*/recipe.toml"))):
        table = tomllib.loads(recipe.read_text(encoding="utf-8"))
        weights = recipe.with_name("model.safetensors")
        size = f"{weights.stat().st_size / 1e6:.1f} MB" if weights.is_file() else "not trained yet"
        lines.append(f"{table['name']:<16} {size:<16} {table['summary']}")
    return lines
