"""Advice: what was measured, what follows, in plain words and as one JSON object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import accumulate
from operator import mul

from foredraft.bench.machine import place
from foredraft.files import Json

WORTH_IT = 1.05  # a smaller gain is not told from the noise of a clock


@dataclass(frozen=True)
class Candidate:
    """A drafter at a gamma, and what the replay says of it."""

    drafting: str  # spec string of the drafter
    gamma: int | None  # fixed draft length, in tokens; None: the drafter chooses
    mean_acceptance_length: float  # tokens emitted a step
    speedup: float  # predicted, over plain decoding
    measured_speedup: float | None = None  # beside plain decoding; None: not measured

    @property
    def is_worth_it(self) -> bool:
        """Whether it gains, as predicted and as measured."""
        measured = self.speedup if self.measured_speedup is None else self.measured_speedup
        return min(self.speedup, measured) >= WORTH_IT

    @property
    def name(self) -> str:
        """The drafter and its gamma."""
        return self.drafting if self.gamma is None else f"{self.drafting}, gamma {self.gamma}"

    @property
    def figures(self) -> str:
        """Its speedups."""
        if self.measured_speedup is None:
            return f"{self.speedup:.2f}x predicted"
        return f"{self.measured_speedup:.2f}x measured side by side, {self.speedup:.2f}x predicted"


@dataclass(frozen=True)
class Advice:
    """What was measured, and what follows."""

    target: str  # name of the target
    drafter: str | None  # name of the draft model; None: retrieval is weighed
    machine: dict[str, Json]  # as `describe_machine` says
    draft_seconds: dict[int, float]  # D(k) by k
    verify_seconds: dict[int, float]  # T_v(k) by k; T_v(0) is a step of plain decoding
    break_even: float  # the acceptance below which no draft pays; above 1: none does
    # share of drafted tokens kept at each position, given those before were: α
    acceptance: tuple[float, ...]
    conditional_acceptance_rate: float  # α over all positions
    candidates: list[Candidate]  # every drafter and gamma, the best first
    best: Candidate  # the best fixed choice with the draft model, or without one if there is none
    auto: Candidate
    pays: bool  # whether to draft with the model; without one, whether to draft
    alternative: Candidate | None  # the best without the draft model, if it is worth it

    @property
    def draft_cost_ratio(self) -> float:
        """c: seconds of a draft call / seconds of a plain step."""
        return self.draft_seconds[1] / self.verify_seconds[0]

    @property
    def synthetic_acceptance_rates(self) -> list[float]:
        """The chance that the first 1 … K draft tokens are all kept: vLLM's list."""
        return list(accumulate(self.acceptance, mul))

    @property
    def chosen(self) -> Candidate | None:
        """What to decode with; None: plainly."""
        if not self.pays:
            return None
        good = [one for one in (self.best, self.auto) if one.is_worth_it]
        return max(good, key=lambda one: one.measured_speedup or one.speedup)

    @property
    def gamma(self) -> int:
        """Draft tokens a step where the length is fixed, 0 for plain decoding."""
        return (self.best.gamma or 0) if self.pays else 0

    @property
    def seen(self) -> float:
        """The acceptance that was seen: of all drafted tokens, or of first ones."""
        return max(self.conditional_acceptance_rate, *self.acceptance[:1])

    def to_dict(self) -> dict[str, Json]:
        """Return one JSON object; the last three entries are in vLLM's form."""
        chosen = self.chosen
        return {
            "target": self.target,
            "drafter": self.drafter,
            "sampler": "greedy",
            "machine": self.machine,
            "draft_seconds": self.draft_seconds[1],
            "draft_seconds_by_length": {str(k): s for k, s in self.draft_seconds.items()},
            "verify_seconds": {str(k): s for k, s in self.verify_seconds.items()},
            "draft_cost_ratio": self.draft_cost_ratio,
            "acceptance_by_position": list(self.acceptance),
            "conditional_acceptance_rate": self.conditional_acceptance_rate,
            "break_even_acceptance": self.break_even,
            "pays": self.pays,
            "recommendation": {
                "method": "speculative" if chosen else "target",
                "pays": self.pays,
                "drafting": chosen.drafting if chosen else None,
                "gamma": chosen.gamma if chosen else 0,
                "predicted_speedup": chosen.speedup if chosen else 1.0,
                "measured_speedup": chosen.measured_speedup if chosen else 1.0,
            },
            "best_fixed": asdict(self.best),
            "auto": asdict(self.auto),
            "alternative": asdict(self.alternative) if self.alternative else None,
            "candidates": [asdict(c) for c in self.candidates],
            "num_speculative_tokens": len(self.acceptance),
            "synthetic_acceptance_rates": self.synthetic_acceptance_rates,
            "num_speculative_tokens_per_batch_size": [[1, 1, self.gamma]],
        }

    def sentences(self) -> list[str]:
        """Return the advice in plain words."""
        told = [
            f"Target {self.target}, drafter {self.drafter or 'none'}, sampler greedy; "
            f"{place({'machine': self.machine})}.",
            *self._costs(),
            f"The best fixed choice, {self.best.name}: {self.best.figures}.",
            f"{self.auto.name}: {self.auto.figures}.",
        ]
        if self.chosen is not None:
            return [*told, f"Speculation pays: draft with {self.chosen.name}.", *self._instead()]
        if self.drafter is not None:
            beaten = self.alternative is not None and self.best.is_worth_it
            told.append(
                f"{'Better without' if beaten else 'Never with'} this drafter: {self._why()}."
            )
        if self.alternative is not None:
            return [*told, *self._instead()]
        why = "" if self.drafter is not None else f" ({self._why()})"
        return [*told, f"Never here: decode plainly{why}."]

    def _costs(self) -> list[str]:
        draft, verify = self.draft_seconds[1], self.verify_seconds
        longest = max(verify)
        return [
            f"A {'draft call' if self.drafter else 'look for copies'} takes "
            f"{1000 * draft:.2f} ms, a plain step {1000 * verify[0]:.2f} ms "
            f"(c = {self.draft_cost_ratio:.2f}), "
            f"a pass over {longest} draft tokens {1000 * verify[longest]:.2f} ms.",
            f"The target keeps {self.conditional_acceptance_rate:.0%} of the tested draft tokens; "
            f"drafting pays from {self.break_even:.0%} on.",
        ]

    def _why(self) -> str:
        """Return why it never pays."""
        if self.break_even > 1:
            return f"drafts cost more than they could save; {self.break_even:.0%} must be kept"
        if self.break_even > self.seen:
            return f"{self.break_even:.0%} must be kept, and {self.seen:.0%} were"
        return f"at best, {self.best.name} gave {self.best.figures}"

    def _instead(self) -> list[str]:
        if self.alternative is None:
            return []
        return [
            f"Without a draft model, {self.alternative.name.replace(', gamma', ' at gamma')} "
            f"should give {self.alternative.speedup:.2f}x."
        ]


def break_even(
    draft: Callable[[int], float], verify: Callable[[int], float], lengths: tuple[int, ...]
) -> float:
    """Return the least acceptance at which a draft of one of these lengths costs what it brings.

    Above 1 where none does even if all of it is kept.

    Args:
        draft: seconds of making it.
        verify: T_v.
        lengths: in tokens.
    """
    least, plain = float("inf"), verify(0)
    for length in lengths:
        price = max(0.0, (draft(length) + verify(length)) / plain - 1)  # in tokens
        least = min(least, price / length if price >= length else _solved(price, length))
    return least


def _solved(price: float, length: int) -> float:
    """Return the α at which α + α² + … + α^length is the price."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        tokens = sum(middle**i for i in range(1, length + 1))
        low, high = (low, middle) if tokens > price else (middle, high)
    return high
