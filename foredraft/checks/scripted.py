"""A function's own draws under control: every way they can fall, each with its exact probability.

Whoever draws with torch draws by a few functions. Here these answer by a script. A category
(`multinomial`, `bernoulli`, the race `argmax(weights / exponential)`) falls in every possible way.
A uniform number is one inner point of each of its cells, which end where it may be compared: at the
ratios that the caller knows, and at all that was compared, searched or read while the function ran.
That no cell hides a second behaviour is what `Drawn` is for: it draws honestly, and goes the same
way through the tree.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

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

COMPARING = {
    *("lt", "le", "gt", "ge", "less", "less_equal", "greater", "greater_equal"),
    *("searchsorted", "bucketize"),
}
READING = {"item", "__float__"}  # to be compared, perhaps, where nobody sees it
UNSCRIPTED = {
    *("randn", "randn_like", "randint", "randint_like", "randperm", "normal", "normal_"),
    *("random_", "geometric_", "cauchy_", "log_normal_", "poisson", "binomial", "dropout"),
}


class Unscripted(Exception):  # noqa: N818 - no error: it says why counting must do
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
        ends = [0.0, *cuts, 1.0]
        self._cells = list(zip(ends, ends[1:], strict=False))
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
        if depth < len(self._decisions):
            choice = self._decisions[depth]
        else:
            choice = self._new(chances)
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

    def __lt__(self, other: Any) -> bool:
        self._script.note([other])
        return float(self) < float(other)

    def __le__(self, other: Any) -> bool:
        return self < other

    def __gt__(self, other: Any) -> bool:
        self._script.note([other])
        return float(self) > float(other)

    def __ge__(self, other: Any) -> bool:
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


# --- torch ----------------------------------------------------------------------------------------


class Scripted(TorchFunctionMode):
    """While it is entered, torch's random functions ask a script.

    On leaving it refuses a function that has drawn otherwise as well.
    """

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script
        self._race: Tensor | None = None  # the newest waiting times, `[..., vocab]`
        self._deferred: list[list[float]] = []  # weights of races with shared times, by number
        self._vocab = 0

    def __enter__(self) -> Scripted:
        self._state = _states()
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if error is None and _states() != self._state:
            raise Unscripted("it draws by a way that is not torch's usual one")

    def settled(self, tokens: Tokens) -> Tokens:
        """Put winners in the place of what stood for them in the outcome.

        Rows of one race share their waiting times: only where at most one counts is its winner
        distributed by its own weights alone.
        """
        if not self._deferred:
            return tokens
        weights = dict(enumerate(self._deferred, self._vocab))
        if sum(token in weights for token in tokens) > 1:
            raise Unscripted("two of its tokens share their random numbers")
        return tuple(
            self._script.categorical(weights[token]) if token in weights else token
            for token in tokens
        )

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name in UNSCRIPTED:
            raise Unscripted(f"it draws with torch's {name}")
        draw = getattr(self, f"_{name.strip('_')}", None) if name in DRAWING else None
        if draw is not None:
            return draw(func, args, kwargs)
        out = func(*args, **kwargs)
        operands = [_numbers(one) for one in args] if name in COMPARING | READING else []
        if name in READING or any(self._script.has_drawn(numbers) for numbers in operands):
            for numbers in operands:
                self._script.note(numbers)
        return out

    def _uniform(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        """Fill what the function makes, or is given, with scripted numbers."""
        out = _made(func, args, kwargs)
        low, high = 0.0, 1.0
        if func.__name__ == "uniform_":
            given = dict(zip(("from", "to"), args[1:], strict=False)) | kwargs
            low, high = given.get("from", 0.0), given.get("to", 1.0)
        numbers = [float(self._script.random()) for _ in range(out.numel())]
        return out.copy_(_like(out, [low + (high - low) * number for number in numbers]))

    _rand = _rand_like = _uniform

    def _bernoulli(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        given = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        chances = torch.as_tensor(args[0] if func.__name__ == "bernoulli" else given).clone()
        out = _made(func, args, kwargs)
        flat = chances.double().expand(out.shape).flatten().tolist()
        return out.copy_(_like(out, [float(self._script.accepts(p)) for p in flat]))

    def _multinomial(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        given = dict(zip(("num_samples", "replacement"), args[1:], strict=False)) | kwargs
        out = _made(func, args, kwargs)  # which refuses what are no weights
        drawn = []
        weights = kwargs.get("input", args[0] if args else None)
        for row in weights.double().reshape(-1, weights.shape[-1]):
            left = row.clone()
            for _ in range(int(given["num_samples"])):
                drawn.append(self._script.categorical(left))
                if not given.get("replacement", False):
                    left[drawn[-1]] = 0.0
        return out.copy_(torch.tensor(drawn).reshape(out.shape))

    def _exponential(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        out = args[0]
        out.copy_(_like(out, self._script.waiting(out.numel())))
        self._race = out.detach().clone().double()
        return out

    def _argmax(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        out, scores, race = func(*args, **kwargs), args[0], self._race
        ended = race is None or not scores.is_floating_point() or not scores.dim()
        if ended or race is None or scores.shape[-1] != race.shape[-1]:
            return out
        rows, times = (
            scores.double().reshape(-1, scores.shape[-1]),
            race.reshape(-1, race.shape[-1]),
        )
        shared = len(times) == 1 and len(rows) > 1
        if len(rows) != out.numel() or not (shared or len(rows) == len(times)):
            raise Unscripted("it races in a form that is not known")
        self._vocab = rows.shape[-1]
        winners = []
        for weights, likeliest in zip((rows * times).tolist(), out.flatten().tolist(), strict=True):
            if min(weights) < 0:
                raise Unscripted("it races by logarithms")
            if not any(weights):
                winners.append(likeliest)  # nobody runs
            elif shared:
                self._deferred.append(weights)
                winners.append(self._vocab + len(self._deferred) - 1)
            else:
                winners.append(self._script.categorical(weights))
        return out.copy_(torch.tensor(winners).reshape(out.shape))


DRAWING = {
    *("rand", "rand_like", "uniform_", "bernoulli", "bernoulli_", "multinomial"),
    *("exponential_", "argmax"),
}


def _made(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """Let torch make or check it; the generator that this uses up is put back."""
    state = torch.get_rng_state()
    out: Tensor = func(*args, **kwargs)
    torch.set_rng_state(state)
    return out


def _like(out: Tensor, numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(out.shape)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Tensor):
        floats = value.is_floating_point() and not value.is_meta
        return [float(n) for n in value.detach().flatten().tolist()] if floats else []
    return [value] if isinstance(value, float) else []


def _states() -> tuple[object, ...]:
    """Return where the generators stand that everybody shares."""
    kind, keys, *rest = np.random.get_state()
    return (torch.get_rng_state().numpy().tobytes(), random.getstate(), kind, keys.tobytes(), *rest)  # type: ignore[union-attr]
