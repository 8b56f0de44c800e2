"""The pantry: bundled models, and the recipe that made them.

One folder a model, in plain Hugging Face form; `recipe.toml` beside the weights is the whole input of
`specdec train`.
"""

from __future__ import annotations

from pathlib import Path

ZOO_DIR = Path(__file__).parent


def bundled_path(role: str) -> Path:
    """Return the folder of the bundled `target` or `drafter`."""
    return ZOO_DIR / role
