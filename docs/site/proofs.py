"""Measurements of chapter 2b: how much each verifier keeps, and what a draft call costs."""

from __future__ import annotations

from collections.abc import Callable
from math import hypot
from statistics import NormalDist
from typing import Any

from docs.site.measured import MADE_BY, headed, missing, results, source

FILE, ROOFLINE = "verifiers.json", "roofline-cpu-float32.json"
LEVEL = 0.05  # of a difference that is called one, over all rows together
READING = {
    "zh": (
        "粗体的比值与 1 的差别超出噪声（{rows} 行合计的水平为 {level:.0%}）：{which}。"
        "其余各行看不出差别。"
    ),
    "en": (
        "Ratios in bold differ from 1 by more than noise (at a level of {level:.0%} for the {rows} "
        "rows together): {which}. In the others no difference can be seen."
    ),
}
CELL = {"zh": "温度 {0}、γ = {1}", "en": "temperature {0} with γ = {1}"}
NONE, BETWEEN = {"zh": "没有", "en": "none"}, {"zh": "；", "en": "; "}
OWN_PAIR = {
    "zh": (
        "例如内置的一对模型（float32，{threads} 线程）： $M_d / M_t$ = {weights:.3f}，"
        "测得的 $c$ 却只有 {cost:.3f}，因为草稿模型的 {small:.1f} MB 权重留在缓存里，"
        "读取速度为每秒 {fast:.0f} GB；目标模型的 {large:.1f} MB 每秒只能读 {slow:.0f} GB。"
    ),
    "en": (
        "For example, the bundled pair in float32 with {threads} threads has "
        "$M_d / M_t$ = {weights:.3f}, but a measured $c$ of only {cost:.3f}, because the "
        "{small:.1f} MB of the draft model stay in a cache that is read at {fast:.0f} GB/s, while "
        "the {large:.1f} MB of the target are read at {slow:.0f} GB/s."
    ),
}


def verifiers(language: str) -> str:
    """Return the mean acceptance length of each verifier, a row a temperature and gamma.

    Where block and token rejection differ by more than noise, their ratio is bold.
    """
    found = results(FILE)
    cells = {(c["temperature"], c["gamma"], c["verifier"]): c for c in found["rows"]}
    rules = list(dict.fromkeys(rule for _, _, rule in cells))
    rows = list(dict.fromkeys((t, g) for t, g, _ in cells))
    heat = {"zh": "温度", "en": "temperature"}[language]
    lines = headed((heat, "γ", *(f"`{rule}`" for rule in rules), "block / rejection"))
    apart = []
    for temperature, gamma in rows:
        row = {rule: cells[temperature, gamma, rule] for rule in rules}
        ratio, error = quotient(row["block"], row["rejection"])
        shown = f"{ratio:.3f} ± {error:.3f}"
        if beyond_noise(ratio, error, len(rows)):
            apart.append(CELL[language].format(temperature, gamma))
            shown = f"**{shown}**"
        kept = [f"{c['tau']:.3f} ± {c['standard_error']:.3f}" for c in row.values()]
        lines.append(f"| {' | '.join([f'{temperature}', f'{gamma}', *kept, shown])} |")
    which = BETWEEN[language].join(apart) or NONE[language]
    read = READING[language].format(rows=len(rows), level=LEVEL, which=which)
    return "\n".join([*lines, "", read, "", source(language, FILE, found)])


def quotient(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Return the ratio of two measured lengths and its standard error, as of independent ones.

    They have their prompts in common, which makes the true error, if anything, smaller.
    """
    ratio = one["tau"] / other["tau"]
    return ratio, ratio * hypot(*(c["standard_error"] / c["tau"] for c in (one, other)))


def beyond_noise(ratio: float, error: float, comparisons: int) -> bool:
    """Whether a ratio differs from 1, at `LEVEL` for all comparisons together (Bonferroni)."""
    return abs(ratio - 1) > NormalDist().inv_cdf(1 - LEVEL / (2 * comparisons)) * error


def own_pair(language: str) -> str:
    """Return what a draft call of the bundled pair costs beside what its weights would say."""
    found = results(ROOFLINE)
    if found is None:
        return missing(language, ROOFLINE, MADE_BY.get(ROOFLINE, "benchmarks/roofline.py"))
    weights = {who: passed["weights"] for who, passed in found["bytes_a_pass"].items()}
    bandwidth = found["bandwidth_taken"]
    sentence = OWN_PAIR[language].format(
        threads=found["machine"]["threads"],
        weights=weights["drafter"] / weights["target"],
        cost=found["draft_seconds"] / found["verify_seconds"]["1"],
        small=weights["drafter"] / 1e6,
        large=weights["target"] / 1e6,
        fast=bandwidth["drafter"] / 1e9,
        slow=bandwidth["target"] / 1e9,
    )
    return f"{sentence}\n\n{source(language, ROOFLINE, found)}"


BLOCKS: dict[str, Callable[[str], str]] = {"verifiers": verifiers, "own-pair": own_pair}
