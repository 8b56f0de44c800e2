"""Grid: what an ablation runs — cells × prompts × seeds — and the order it runs them in."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from foredraft.bench.cells import Cell
from foredraft.bench.prompt_sets import PromptItem
from foredraft.files import Json


@dataclass(frozen=True)
class Task:
    """One generation: a cell, a prompt and a seed."""

    order: int  # its place in the schedule, from 0
    cell: Cell  # how to decode
    item: PromptItem  # the prompt
    seed: int  # of the generation
    traced: bool  # whether the draft length and entropy of every step are kept

    @property
    def key(self) -> tuple[str, str, int]:
        """Unique in a grid: cell id, prompt id, seed."""
        return self.cell.id, self.item.id, self.seed


@dataclass(frozen=True)
class Block:
    """Every cell on one prompt with one seed, in random order: what is compared runs together."""

    item: PromptItem
    seed: int
    tasks: tuple[Task, ...]

    def without(self, done: set[tuple[str, str, int]]) -> Block:
        """Return the block of the tasks that are not done."""
        return Block(self.item, self.seed, tuple(t for t in self.tasks if t.key not in done))


@dataclass(frozen=True)
class Grid:
    """A checked plan."""

    name: str  # for titles and manifests
    cells: tuple[Cell, ...]  # ways to decode, Target AR included
    prompts: tuple[PromptItem, ...]  # what to continue
    seeds: tuple[int, ...]  # every cell and prompt runs once with each
    order_seed: int = 0  # seed of the random order
    # labels of cells that others are compared with, besides Target AR
    references: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """Generations of the whole grid."""
        return len(self.cells) * len(self.prompts) * len(self.seeds)

    def blocks(self) -> list[Block]:
        """Return the schedule: seeds in turn, prompts shuffled, cells shuffled for each prompt."""
        rng, blocks, order = random.Random(self.order_seed), [], 0
        for seed in self.seeds:
            for item in rng.sample(self.prompts, len(self.prompts)):
                shuffled = enumerate(rng.sample(self.cells, len(self.cells)), start=order)
                first = seed == self.seeds[0]
                tasks = tuple(Task(place, cell, item, seed, first) for place, cell in shuffled)
                blocks.append(Block(item, seed, tasks))
                order += len(self.cells)
        return blocks

    def to_dict(self) -> dict[str, Json]:
        """Return plain values, ready for JSON: all that decides the rows."""
        return {
            "name": self.name,
            "cells": [cell.to_dict() for cell in self.cells],
            "prompts": [asdict(item) for item in self.prompts],
            "seeds": list(self.seeds),
            "order_seed": self.order_seed,
            "references": list(self.references),
        }

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with anything that decides the rows."""
        return fingerprint(self.to_dict())


def fingerprint(values: dict[str, Json] | Sequence[int]) -> str:
    """Return the first sixteen digits of the SHA-256 of some plain values."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
