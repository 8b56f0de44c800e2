"""What a pass costs, from the results of `benchmarks/passes.py`: for figures and sentences."""

from __future__ import annotations

from functools import cache
from typing import Any

from docs.site.measured import results
from docs.site.theory import expected_tokens

MODELS = ("smollm2", "bundled")
NARROW = "avx2"  # behind the name: measured on a processor without vectors of 512 bits
NAMES = {
    "zh": {"smollm2": "SmolLM2-135M，4 位", "bundled": "内置目标模型"},
    "en": {"smollm2": "SmolLM2-135M, 4 bits", "bundled": "bundled target"},
}
FLAT = 1.5  # up to here a pass counts as no longer than that over one token
ALPHA = 0.8


@cache
def _rows(name: str) -> dict[tuple[str, int, int], Any]:
    """Return row by model, texts and tokens of a results file."""
    rows = results(file_of(name))["rows"]
    return {(row["model"], row["texts"], row["tokens"]): row for row in rows}


def file_of(name: str) -> str:
    """Return a model's results file."""
    return f"passes-{name}.json"


def by_tokens(name: str) -> list[tuple[int, float]]:
    """Return (tokens read of one text, time relative to that of one token)."""
    return [
        (tokens, row["ratio"]["median"])
        for (model, texts, tokens), row in _rows(name).items()
        if model == "target" and texts == 1
    ]


def flat_until(name: str) -> int:
    """Return the most tokens below the first number whose pass takes more than `FLAT` times one."""
    curve = by_tokens(name)
    most = curve[0][0]
    for tokens, ratio in curve:
        if ratio > FLAT:
            break
        most = tokens
    return most


def gamma() -> int:
    """Return the draft length of the measured steps."""
    return int(results(file_of(MODELS[0]))["gamma"])


def by_texts(name: str) -> list[tuple[int, float]]:
    """Return (texts that share a pass, cost of a step of speculation in plain steps)."""
    rows, length = _rows(name), gamma()
    found = []
    for model, texts, tokens in rows:
        if model != "target" or tokens != length + 1:
            continue
        drafter = rows.get(("draft model", texts, 1))
        draft = length * drafter["ratio"]["median"] if drafter else 0.0
        step = draft + rows["target", texts, tokens]["ratio"]["median"]
        found.append((texts, step / rows["target", texts, 1]["ratio"]["median"]))
    return found


def speedups(name: str, alpha: float) -> list[tuple[int, float]]:
    """Return (texts that share a pass, speed-up of speculation at an acceptance rate)."""
    gain = expected_tokens(alpha, gamma())
    return [(texts, gain / cost) for texts, cost in by_texts(name)]


def needed(cost: float, length: int) -> float | None:
    """Return the acceptance rate at which a step pays for its cost; None: no rate does."""
    if cost >= length + 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if expected_tokens(middle, length) > cost else (middle, high)
    return high
