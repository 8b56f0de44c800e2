"""Exact distributions by running a random program once for every way its decisions can fall."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from torch import Tensor

from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.models import TableModel
from foredraft.sampling import Rng, Sampler
from tests.doubles import logits_of

T = TypeVar("T", bound=Hashable)
Distribution = dict[tuple[int, ...], float]


class EnumeratedRandomness(Rng):
    """Repeats a script of decisions, then takes the first possible outcome of each new one.

    Args:
        script: decisions to repeat.
        keyed: draws at one position share a uniform number, known only as far as the draws so far
            have narrowed it down: an exact stand-in for `KeyedRng` with another coupling.

    Attributes:
        probability: of the decisions taken so far, multiplied.
        untried: scripts that lead to the outcomes passed over.
    """

    def __init__(self, script: Sequence[int] = (), *, keyed: bool = False) -> None:
        super().__init__(seed=0)
        self.is_keyed = keyed
        self._narrowed: dict[int, tuple[float, float]] = {}  # position → interval in [0, 1]
        self._script = list(script)
        self._taken: list[int] = []
        self.probability = 1.0
        self.untried: list[list[int]] = []

    def accepts(self, probability: float) -> bool:
        assert 0 <= probability <= 1, f"{probability} is no probability"
        return self._choose([1 - probability, probability]) == 1

    def categorical(self, probs: Tensor, position: int) -> int:
        weights = probs.double().tolist()
        total = math.fsum(weights)
        assert min(weights) >= 0, f"{weights} are no weights"
        assert 0 < total < math.inf, f"{weights} are no weights"
        if not self.is_keyed:
            return self._choose([w / total for w in weights])
        ends = [end / total for end in itertools.accumulate(weights)]
        ends[-1] = 1.0
        low, high = self._narrowed.get(position, (0.0, 1.0))
        parts = [(max(low, a), min(high, b)) for a, b in itertools.pairwise([0.0, *ends])]
        token = self._choose([max(0.0, b - a) / (high - low) for a, b in parts])
        self._narrowed[position] = parts[token]
        return token

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


def enumerate_outcomes(run: Callable[[Rng], T], *, keyed: bool = False) -> dict[T, float]:
    """Return the exact distribution of what `run` returns, depth first over its decisions.

    Args:
        run: takes its random decisions from its argument alone.
        keyed: see `EnumeratedRandomness`.
    """
    outcomes: dict[T, float] = {}
    scripts: list[list[int]] = [[]]
    while scripts:
        randomness = EnumeratedRandomness(scripts.pop(), keyed=keyed)
        outcome = run(randomness)
        outcomes[outcome] = outcomes.get(outcome, 0.0) + randomness.probability
        scripts += randomness.untried
    return outcomes


def total_variation(one: dict[T, float], other: dict[T, float]) -> float:
    """Return half the sum of absolute differences."""
    keys = one.keys() | other.keys()
    return 0.5 * math.fsum(abs(one.get(k, 0.0) - other.get(k, 0.0)) for k in keys)


def emitted_distribution(
    parts: Speculation, prompt: list[int], length: int, eos: tuple[int, ...] = ()
) -> Distribution:
    """Return the exact distribution of the speculative loop's first `length` tokens."""

    def run(rng: Rng) -> tuple[int, ...]:
        request = Request(parts.target.open(prompt), rng, max_new_tokens=length, eos_token_ids=eos)
        for _ in speculative_steps(parts, request):
            pass
        return tuple(request.output)

    return enumerate_outcomes(run, keyed=parts.verifier.is_coupled)


def target_distribution(
    target: TableModel,
    sampler: Sampler,
    prompt: list[int],
    length: int,
    eos: tuple[int, ...] = (),
) -> Distribution:
    """Return the product of the target's own probabilities for every text of `length` tokens.

    A text ends early with its first end token.
    """
    distribution: Distribution = {(): 1.0}
    for _ in range(length):
        grown: Distribution = {}
        for text, chance in distribution.items():
            if text and text[-1] in eos:
                grown[text] = chance
                continue
            row = sampler.probs(logits_of(target.next_probs((*prompt, *text)))).tolist()
            grown |= {(*text, token): chance * p for token, p in enumerate(row)}
        distribution = grown
    return distribution
