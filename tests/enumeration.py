"""Exact distributions by running a random program once for every way its decisions can fall."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from torch import Tensor

from specdec.decoding import Sequence as TokenSequence
from specdec.decoding import Speculation, speculative_steps
from specdec.models import TableModel
from specdec.sampling import Rng, Sampler
from tests.doubles import logits_of

T = TypeVar("T", bound=Hashable)
Distribution = dict[tuple[int, ...], float]


class EnumeratedRandomness(Rng):
    """Repeats a script of decisions, then takes the first possible outcome of each new one.

    Attributes:
        probability: of the decisions taken so far, multiplied.
        untried: scripts that lead to the outcomes passed over.
    """

    def __init__(self, script: Sequence[int] = ()) -> None:
        super().__init__(seed=0)
        self._script = list(script)
        self._taken: list[int] = []
        self.probability = 1.0
        self.untried: list[list[int]] = []

    def accepts(self, probability: float) -> bool:
        assert 0 <= probability <= 1, f"{probability} is no probability"
        return self._choose([1 - probability, probability]) == 1

    def categorical(self, probs: Tensor) -> int:
        weights = probs.double().tolist()
        total = math.fsum(weights)
        assert min(weights) >= 0, f"{weights} are no weights"
        assert 0 < total < math.inf, f"{weights} are no weights"
        return self._choose([w / total for w in weights])

    def below(self, n: int) -> int:
        return self._choose([1 / n] * n)

    def _choose(self, chances: list[float]) -> int:
        depth = len(self._taken)
        if depth < len(self._script):
            choice = self._script[depth]
        else:
            choice, *others = [i for i, chance in enumerate(chances) if chance > 0]
            self.untried += [[*self._taken, other] for other in others]
        self._taken.append(choice)
        self.probability *= chances[choice]
        return choice


def enumerate_outcomes(run: Callable[[Rng], T]) -> dict[T, float]:
    """Return the exact distribution of what `run` returns, depth first over its decisions.

    Args:
        run: takes its random decisions from its argument alone.
    """
    outcomes: dict[T, float] = {}
    scripts: list[list[int]] = [[]]
    while scripts:
        randomness = EnumeratedRandomness(scripts.pop())
        outcome = run(randomness)
        outcomes[outcome] = outcomes.get(outcome, 0.0) + randomness.probability
        scripts += randomness.untried
    return outcomes


def total_variation(one: dict[T, float], other: dict[T, float]) -> float:
    """Return half the sum of absolute differences."""
    keys = one.keys() | other.keys()
    return 0.5 * math.fsum(abs(one.get(k, 0.0) - other.get(k, 0.0)) for k in keys)


def emitted_distribution(parts: Speculation, prompt: list[int], length: int) -> Distribution:
    """Return the exact distribution of the speculative loop's first `length` tokens."""

    def run(rng: Rng) -> tuple[int, ...]:
        sequence = TokenSequence(
            parts.target.start(prompt), max_new_tokens=length, max_length=parts.target.max_length
        )
        for _ in speculative_steps(parts, sequence, rng):
            pass
        return tuple(sequence.output)

    return enumerate_outcomes(run)


def target_distribution(
    target: TableModel, sampler: Sampler, prompt: list[int], length: int
) -> Distribution:
    """Return the product of the target's own probabilities for every text of `length` tokens."""
    distribution: Distribution = {}
    for text in itertools.product(range(target.vocab_size), repeat=length):
        probability = 1.0
        for i, token in enumerate(text):
            row = target.next_probs((*prompt, *text[:i]))
            probability *= float(sampler.probs(logits_of(row))[token])
        distribution[text] = probability
    return distribution
