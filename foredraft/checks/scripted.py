"""Draws under control: every way in which they can fall, each with its exact probability.

A category falls in every possible way. A uniform number is one inner point of each of its cells,
which end where it may be compared: at the ratios that the caller knows, and at all that it was seen
to be compared with. That no cell hides a second behaviour is what `Drawn` is for: it draws
honestly, and must come to what the tree says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

Tokens = tuple[int, ...]
Path = tuple[int, ...]
Run = Callable[["Script"], Tokens]

MOST_RUNS = 50_000  # of one draft
MOST_CUTS = 24  # ends of cells; each uniform number has one more
MOST_NUMBERS = 32  # uniform numbers of one call
MOST_ROUNDS = 4  # in which new ends of cells are tried
INSIDE = 0.381966  # where in its cell a number lies: at no fraction that anybody compares with
SAME = 1e-6  # numbers nearer than this are one, by rounding in float32
ALIKE = 1e-3  # weights of a race are read off float32 scores


class Unscripted(Exception):
    """The function draws in a way that cannot be enumerated; the text says which."""


class Script:
    """Repeats decisions, then takes the first possible outcome of each new one.

    It is also the source of randomness of our plain protocol: `random`, `accepts`, `categorical`.

    Args:
        cuts: ends of the cells of uniform numbers, in (0, 1), ascending.
        decisions: to be repeated.

    Attributes:
        probability: of all decisions, multiplied.
        untried: scripts that lead to the outcomes passed over.
        told: decisions so far → what the next one was drawn from.
        noted: numbers in (0, 1) that something was compared with.
    """

    def __init__(self, cuts: Sequence[float], decisions: Path = ()) -> None:
        self._cells = list(pairwise([0.0, *cuts, 1.0]))
        self._decisions = decisions
        self.taken: Path = ()
        self.probability = 1.0
        self.untried: list[Path] = []
        self.told: dict[Path, list[float]] = {}
        self.noted: set[float] = set()
        self._numbers: list[float] = []

    def random(self) -> float:
        """Return a uniform number in (0, 1)."""
        if len(self._numbers) >= MOST_NUMBERS:
            raise Unscripted(f"it draws more than {MOST_NUMBERS} uniform numbers")
        low, high = self._cells[self._choose([high - low for low, high in self._cells])]
        number = low + self._place() * (high - low)
        self._numbers.append(number)
        return Number(number, self)

    def accepts(self, probability: float) -> bool:
        """Return True with a probability in [0, 1]."""
        return self.categorical([1 - probability, probability]) == 1

    def categorical(self, weights: Tensor | Sequence[float], position: int = 0) -> int:
        """Return an index, each with a chance proportional to its weight."""
        numbers = torch.as_tensor(weights).double().flatten().tolist()
        total = math.fsum(numbers)
        if not (min(numbers, default=-1) >= 0 and 0 < total < math.inf):
            raise ValueError(f"{numbers} are no weights: all must be ≥ 0, and their sum above 0")
        return self._choose([number / total for number in numbers])

    def waiting(self, size: int) -> list[float]:
        """Return the waiting times of a race; who wins is decided when it is asked."""
        return [1.0] * size

    def note(self, numbers: Iterable[float]) -> None:
        """Hear what a number may have been compared with."""
        self.noted.update(
            value
            for value in map(float, numbers)
            if SAME < value < 1 - SAME and not self.has_drawn([value])
        )

    def has_drawn(self, numbers: Iterable[float]) -> bool:
        """Whether one of them is a uniform number of its own."""
        return any(abs(number - own) < SAME for number in numbers for own in self._numbers)

    def _place(self) -> float:
        return INSIDE

    def _choose(self, chances: list[float]) -> int:
        self.told[self.taken] = chances
        depth = len(self.taken)
        choice = self._decisions[depth] if depth < len(self._decisions) else self._new(chances)
        self.taken += (choice,)
        self.probability *= chances[choice]
        return choice

    def _new(self, chances: list[float]) -> int:
        choice, *others = [i for i, chance in enumerate(chances) if chance > 0]
        self.untried += [(*self.taken, other) for other in others]
        return choice


class Drawn(Script):
    """Decides by chance, with numbers from anywhere in their cells."""

    def __init__(self, cuts: Sequence[float], rng: random.Random) -> None:
        super().__init__(cuts)
        self._rng = rng

    def waiting(self, size: int) -> list[float]:
        return [self._rng.expovariate(1.0) for _ in range(size)]

    def _place(self) -> float:
        return self._rng.random()

    def _new(self, chances: list[float]) -> int:
        return self._rng.choices(range(len(chances)), chances)[0]


class Number(float):
    """A uniform number that tells its script what it is compared with."""

    _script: Script

    def __new__(cls, value: float, script: Script) -> Number:
        number = super().__new__(cls, value)
        number._script = script
        return number

    def __lt__(self, other: float) -> bool:
        self._script.note([other])
        return float(self) < float(other)

    def __le__(self, other: float) -> bool:
        return self < other

    def __gt__(self, other: float) -> bool:
        self._script.note([other])
        return float(self) > float(other)

    def __ge__(self, other: float) -> bool:
        return self > other


@dataclass
class Tree:
    """All outcomes of a function, and what its decisions were drawn from.

    Attributes:
        cuts: ends of the cells of uniform numbers.
        outcomes: decisions → tokens.
        chances: decisions so far → chances of the next one.
        distribution: tokens → probability.
        runs: calls of the function, those of earlier rounds included.
    """

    cuts: list[float]
    outcomes: dict[Path, Tokens] = field(default_factory=dict)
    chances: dict[Path, list[float]] = field(default_factory=dict)
    distribution: dict[Tokens, float] = field(default_factory=dict)
    runs: int = 0

    def add(self, script: Script, outcome: Tokens) -> None:
        """Count a run that has ended."""
        self.runs += 1
        self.outcomes[script.taken] = outcome
        self.chances |= script.told
        mass = self.distribution.get(outcome, 0.0) + script.probability
        self.distribution[outcome] = mass

    def agrees(self, run: Run, rng: random.Random) -> bool:
        """Whether an honest run makes the same of the same decisions."""
        script = Drawn(self.cuts, rng)
        outcome = run(script)
        return self.outcomes.get(script.taken) == outcome and all(
            len(chances) == len(self.chances[path])
            and all(abs(a - b) < ALIKE for a, b in zip(chances, self.chances[path], strict=True))
            for path, chances in script.told.items()
        )


def enumerated(run: Run, ratios: Iterable[float], rng: random.Random, checks: int) -> Tree:
    """Return what a function does under every decision, checked by honest runs.

    Args:
        run: calls it, under `Scripted`, with a script.
        ratios: numbers that it may compare a uniform number with.
        rng: of the honest runs.
        checks: how many there are.

    Raises:
        Unscripted: it cannot be enumerated.
    """
    cuts, runs = _merged(ratios), 0
    for round_ in range(MOST_ROUNDS):
        tree, noted = _all_ways(run, cuts)
        runs = tree.runs = runs + tree.runs
        more = _merged([*cuts, *noted])
        if len(more) > MOST_CUTS:  # products of numbers, as in u·q < p: new ones in every round
            more = cuts
        if round_ or more == cuts:  # what it was seen to compare with is tried at least once
            if all(tree.agrees(run, rng) for _ in range(checks)):
                return tree
            if more == cuts:
                raise Unscripted("the same decisions gave different tokens")
        cuts = more
    raise Unscripted("where its behaviour changes was not found")


def _all_ways(run: Run, cuts: list[float]) -> tuple[Tree, set[float]]:
    """Return the tree, and what was compared with on the way."""
    tree, noted, scripts = Tree(cuts), set[float](), list[Path]([()])
    while scripts:
        script = Script(cuts, scripts.pop())
        outcome = run(script)
        tree.add(script, outcome)
        if tree.runs > MOST_RUNS:
            raise Unscripted(f"its draws fall in more than {MOST_RUNS} ways")
        noted |= script.noted
        scripts += script.untried
    return tree, noted


def _merged(numbers: Iterable[float]) -> list[float]:
    merged: list[float] = []
    for number in sorted(n for n in map(float, numbers) if SAME < n < 1 - SAME):
        if not merged or number - merged[-1] > SAME:
            merged.append(number)
    return merged
