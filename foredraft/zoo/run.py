"""One training run: the recipe, where it computes, and where everything lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, read_text
from foredraft.zoo import bundled_path
from foredraft.zoo.recipe import Recipe, TrainingRecipe

IGNORED = -100  # the label of a position where nothing is to be predicted


@dataclass(frozen=True)
class Run:
    """One training run: the recipe, its run folder and where it computes."""

    recipe: Recipe
    recipe_path: Path
    data_dir: Path
    run_dir: Path
    out_dir: Path
    device: torch.device
    compile: bool = True

    @property
    def name(self) -> str:
        """Of the model."""
        return self.recipe.name

    @property
    def rates(self) -> TrainingRecipe:
        """What decides how fast weights change."""
        return self.recipe.training

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.run_dir / "checkpoint.pt"

    @cached_property
    def recipe_text(self) -> str:
        """The recipe as it was written when this was first asked."""
        return read_text(self.recipe_path)


@dataclass(frozen=True)
class Batch:
    """What a network is shown, and what it should say."""

    inputs: dict[str, Tensor]  # arguments of its forward pass, each of shape `[batch, …]`
    # the next token after each of its positions, or `IGNORED`, shape `[batch, time]`
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(inputs, self.labels.to(device))


def model_folder(name_or_path: str) -> Path:
    """Return the folder of a model given by path or by the name of a bundled one."""
    path = Path(name_or_path)
    path = path if path.is_dir() else bundled_path(name_or_path)
    if not path.is_dir():
        raise ConfigError(
            f"no model folder {quoted(name_or_path, PATH_LIMIT)}; give a folder or a bundled name"
        )
    return path
