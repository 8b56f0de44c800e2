"""The formulas of chapter 2, as functions: what its tables and its figure are computed from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from math import floor, log

ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
COSTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def expected_tokens(alpha: float, gamma: int) -> float:
    """Return E[emitted tokens a step] = 1 + α + … + α^γ."""
    return sum(alpha**i for i in range(gamma + 1))


def speedup(alpha: float, cost: float, gamma: int) -> float:
    """Return the speed-up over plain decoding when a draft call costs `cost` target calls."""
    return expected_tokens(alpha, gamma) / (1 + gamma * cost)


def best_gamma(alpha: float, cost: float) -> int:
    """Return the gamma of the highest speed-up: the first whose successor is no better."""
    return next(g for g in count() if speedup(alpha, cost, g + 1) <= speedup(alpha, cost, g))


def oracle(alpha: float, cost: float) -> float:
    """Return the speed-up of a draft that ends exactly before its first rejection."""
    return 1 / (1 - alpha + cost * alpha)


def best_gamma_table() -> str:
    """Return γ* and its speed-up, a row a cost ratio and a column an acceptance rate."""
    head = "| c \\ α | " + " | ".join(f"{alpha:g}" for alpha in ALPHAS) + " |"
    lines = [head, "|---|" + "---:|" * len(ALPHAS)]
    for cost in COSTS:
        best = [best_gamma(alpha, cost) for alpha in ALPHAS]
        cells = [f"{g} · {speedup(a, cost, g):.2f}×" for a, g in zip(ALPHAS, best, strict=True)]
        lines.append(f"| {cost:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def oracle_table() -> str:
    """Return how far the best fixed gamma stays behind the oracle."""
    alphas = (0.6, 0.7, 0.8, 0.9)
    lines = ["| c \\ α | " + " | ".join(f"{alpha:g}" for alpha in alphas) + " |"]
    lines.append("|---|" + "---:|" * len(alphas))
    for cost in (0.05, 0.1, 0.2):
        cells = []
        for alpha in alphas:
            fixed, ideal = speedup(alpha, cost, best_gamma(alpha, cost)), oracle(alpha, cost)
            cells.append(f"{fixed:.2f}× → {ideal:.2f}×")
        lines.append(f"| {cost:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def entropy_table() -> str:
    """Return the gamma that EGAG asks for, by the drafter's entropy and the vocabulary."""
    entropies, gamma_max = (0.05, 0.25, 0.6, 1.3, 2.18, 3.99), 6
    lines = ["| V \\ H (nats) | " + " | ".join(f"{h:g}" for h in entropies) + " |"]
    lines.append("|---|" + "---:|" * len(entropies))
    for vocab in (8_192, 32_000, 128_256, 151_936):
        shares = [h / log(vocab) for h in entropies]
        cells = [f"{share:.3f} · γ {floor((1 - share) * gamma_max)}" for share in shares]
        lines.append(f"| {vocab} | {' | '.join(cells)} |")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[str], str]] = {
    "best-gamma": lambda language: best_gamma_table(),
    "oracle": lambda language: oracle_table(),
    "entropy": lambda language: entropy_table(),
}
