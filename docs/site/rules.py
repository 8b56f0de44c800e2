"""The tables of chapter 7 about draft lengths and `auto`: of results files, in either language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.site.measured import figure, headed, tables
from docs.site.names import method, word, words

POLICIES = ("policies-bundled.json", "policies-smollm2.json")
STEP_PARTS = ("step-parts-bundled.json", "step-parts-smollm2.json")
CLAIMS = ("auto / best fixed", "auto / oracle")


def policies(language: str) -> str:
    """Return each fixed choice's and rule's ratio to plain decoding by kind of prompt."""
    return tables(language, POLICIES, _policies)


def claims(language: str) -> str:
    """Return what `auto` gives beside fixed choices and the oracle, and where it must lose."""
    parts = tables(language, POLICIES, _claims), tables(language, ["adversary.json"], _adversary)
    return "\n\n".join(parts)


def step_parts(language: str) -> str:
    """Return where the time of a step goes, in microseconds, a table a target."""
    return tables(language, STEP_PARTS, _step_parts)


def _policies(found: Any, language: str) -> list[str]:
    greedy, nucleus = found["rows"]["greedy"], found["rows"]["nucleus"]
    kinds = [kind for kind in greedy[0] if kind != "method"]
    last = f"nucleus, {word(kinds[-1], language)}"
    lines = headed((*words(["method", *kinds], language), last))
    both = sorted(zip(greedy, nucleus, strict=True), key=lambda two: -two[0][kinds[-1]]["median"])
    for row, sampled in both:
        shown = [row[kind]["median"] for kind in kinds] + [sampled[kinds[-1]]["median"]]
        lines.append(
            f"| {method(row['method'], language)} | {' | '.join(f'{one:.2f}' for one in shown)} |"
        )
    return lines


def _claims(found: Any, language: str) -> list[str]:
    lines = _of_words(words(["sampler", "prompts", *CLAIMS], language))
    for row in found["claims"]:
        kind, _, count = row["prompts"].partition(" ")
        shown = [word(row["sampler"], language), f"{word(kind, language)} {count}"]
        shown += [figure(row[name], "{:.2f}") for name in CLAIMS]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


def _adversary(found: Any, language: str) -> list[str]:
    lines = _of_words(words(["case", "auto / plain"], language))
    for row in found["rows"]:
        lines.append(f"| {word(row['case'], language)} | {figure(row['auto / plain'], '{:.2f}')} |")
    return lines


def _step_parts(found: Any, language: str) -> list[str]:
    sampler, *heads = found["rows"][0]
    names = words([sampler, *heads], language)
    lines = [f"| {' | '.join(names)} |", "|---|---|" + "---:|" * (len(heads) - 1)]
    for row in found["rows"]:
        cells = [
            word(row["sampler"], language),
            method(row["method"], language),
            f"{row['tokens']:.2f}",
        ]
        cells += [f"{row[part]:.0f}" for part in heads[2:]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _of_words(heads: list[str]) -> list[str]:
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]


BLOCKS: dict[str, Callable[[str], str]] = {
    "policies": policies,
    "claims": claims,
    "step-parts": step_parts,
}
