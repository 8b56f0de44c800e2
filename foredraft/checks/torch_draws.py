"""torch's random functions, asking a script: whoever draws with torch draws by a few of them.

`rand`, `uniform_`, `bernoulli`, `multinomial` ask for uniform numbers and categories; the race
`argmax(weights / exponential)` is a category, too. What is compared, searched or read is noted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from foredraft.checks.scripted import Script, Tokens, Unscripted

Given: TypeAlias = Any  # what torch's functions take, and hand over

COMPARING = {
    *("lt", "le", "gt", "ge", "less", "less_equal", "greater", "greater_equal"),
    *("searchsorted", "bucketize"),
}
READING = {"item", "__float__"}  # to be compared, perhaps, where nobody sees it
UNSCRIPTED = {
    *("randn", "randn_like", "randint", "randint_like", "randperm", "normal", "normal_"),
    *("random_", "geometric_", "cauchy_", "log_normal_", "poisson", "binomial", "dropout"),
}


class SharedRace(Unscripted):
    """Several draws of one race: to be asked again with `defers`."""


class Scripted(TorchFunctionMode):
    """While it is entered, torch's random functions ask a script.

    On leaving it refuses a function that has drawn otherwise as well.

    Args:
        script: answers.
        defers: let a number from beyond the vocabulary stand for the winner of a race until it is
            known which winners count; see `settled`.
    """

    def __init__(self, script: Script, *, defers: bool = False) -> None:
        super().__init__()
        self._script, self._defers = script, defers
        self._race: Tensor | None = None  # the newest waiting times, `[..., vocab]`
        self._races = self._asked = 0  # how many there were; rows that asked the newest one
        self._deferred: list[tuple[int, list[float]]] = []  # number of the race, weights
        self._vocab = 0

    def __enter__(self) -> Scripted:
        self._state = _states()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: Given, error: Given, trace: Given) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        if error is None and _states() != self._state:
            raise Unscripted("it draws by a way that is not torch's usual one")

    def settled(self, tokens: Tokens) -> Tokens:
        """Put winners in the place of what stood for them in the outcome.

        Rows that share their waiting times are no independent draws: only where at most one of them
        counts is its winner distributed by its own weights alone.
        """
        waiting = dict(enumerate(self._deferred, self._vocab))
        races = [waiting[token][0] for token in tokens if token in waiting]
        if len(races) > len(set(races)):
            raise Unscripted("two of its tokens share their random numbers")
        return tuple(
            self._script.categorical(waiting[token][1]) if token in waiting else token
            for token in tokens
        )

    def __torch_function__(
        self, func: Given, types: Given, args: Given = (), kwargs: dict[str, Given] | None = None
    ) -> Given:
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

    def _uniform(self, func: Given, args: Given, kwargs: dict[str, Given]) -> Tensor:
        """Fill what the function makes, or is given, with scripted numbers."""
        out = _made(func, args, kwargs)
        low, high = 0.0, 1.0
        if func.__name__ == "uniform_":
            given = dict(zip(("from", "to"), args[1:], strict=False)) | kwargs
            low, high = given.get("from", 0.0), given.get("to", 1.0)
        numbers = [float(self._script.random()) for _ in range(out.numel())]
        return _filled(out, [low + (high - low) * number for number in numbers])

    _rand = _rand_like = _uniform

    def _bernoulli(self, func: Given, args: Given, kwargs: dict[str, Given]) -> Tensor:
        given = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        if func.__name__ == "bernoulli":
            given = args[0] if args else kwargs["input"]
        chances = torch.as_tensor(given).clone()
        out = _made(func, args, kwargs)
        flat = chances.double().expand(out.shape).flatten().tolist()
        return _filled(out, [float(self._script.accepts(p)) for p in flat])

    def _multinomial(self, func: Given, args: Given, kwargs: dict[str, Given]) -> Tensor:
        given = dict(zip(("num_samples", "replacement"), args[1:], strict=False)) | kwargs
        out = _made(func, args, kwargs)  # which refuses what are no weights
        drawn = []
        weights: Tensor = args[0] if args else kwargs["input"]
        for row in weights.double().reshape(-1, weights.shape[-1]):
            left = row.clone()
            for _ in range(int(given["num_samples"])):
                drawn.append(self._script.categorical(left))
                if not given.get("replacement", False):
                    left[drawn[-1]] = 0.0
        return _filled(out, drawn)

    def _exponential(self, func: Given, args: Given, kwargs: dict[str, Given]) -> Tensor:
        out: Tensor = args[0]
        _filled(out, self._script.waiting(out.numel()))
        self._race, self._asked = out.detach().clone().double(), 0
        self._races += 1
        return out

    def _argmax(self, func: Given, args: Given, kwargs: dict[str, Given]) -> Tensor:
        out: Tensor = func(*args, **kwargs)
        scores, race = args[0] if args else kwargs["input"], self._race
        if race is None or not (scores.is_floating_point() and scores.dim()):
            return out
        vocab = race.shape[-1]
        if scores.shape[-1] != vocab:
            return out
        rows, times = (
            scores.double().reshape(-1, scores.shape[-1]),
            race.reshape(-1, race.shape[-1]),
        )
        self._asked += len(rows)
        if len(rows) != out.numel() or len(times) not in (1, len(rows)):
            raise Unscripted("it races in a form that is not known")
        if self._asked > len(times) and not self._defers:
            raise SharedRace("its races share their random numbers")
        self._vocab = vocab
        winners = []
        for weights, likeliest in zip((rows * times).tolist(), out.flatten().tolist(), strict=True):
            if min(weights) < 0:
                raise Unscripted("it races by logarithms")
            if not any(weights):
                winners.append(likeliest)  # nobody runs
            elif self._defers:
                self._deferred.append((self._races, weights))
                winners.append(vocab + len(self._deferred) - 1)
            else:
                winners.append(self._script.categorical(weights))
        return _filled(out, winners)


DRAWING = {
    *("rand", "rand_like", "uniform_", "bernoulli", "bernoulli_", "multinomial"),
    *("exponential_", "argmax"),
}


def _made(func: Given, args: Given, kwargs: dict[str, Given]) -> Tensor:
    """Let torch make or check it; the generator that this uses up is put back."""
    state = torch.get_rng_state()
    out: Tensor = func(*args, **kwargs)
    torch.set_rng_state(state)
    return out


def _filled(out: Tensor, numbers: Sequence[float]) -> Tensor:
    """Put numbers in the place of those that stand there."""
    return out.copy_(torch.tensor(numbers, dtype=torch.float64).reshape(out.shape))


def _numbers(value: Given) -> list[float]:
    if isinstance(value, Tensor):
        floats = value.is_floating_point() and not value.is_meta
        return [float(n) for n in value.detach().flatten().tolist()] if floats else []
    return [value] if isinstance(value, float) else []


def _states() -> tuple[object, ...]:
    """Return where the generators stand that everybody shares."""
    numpy = np.random.get_state(legacy=False)["state"]
    place = numpy["key"].tobytes(), numpy["pos"]
    return (torch.get_rng_state().numpy().tobytes(), random.getstate(), *place)
