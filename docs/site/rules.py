"""The tables of chapter 7 about draft lengths and `auto`: of results files, in either language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.site.measured import figure, headed, tables

POLICIES = ("policies-bundled.json", "policies-smollm2.json")
STEP_PARTS = ("step-parts-bundled.json", "step-parts-smollm2.json")
CLAIMS = ("auto / plain", "auto / best fixed", "that is", "auto / oracle")
IN_CHINESE = {
    **{"method": "方法", "sampler": "采样", "prompts": "提示词", "case": "情形", "that is": "即"},
    **{"auto / plain": "auto / 普通解码", "auto / best fixed": "auto / 最好的固定选择"},
    "auto / oracle": "auto / 神谕",
}


def policies(language: str) -> str:
    """Return each fixed choice's and rule's ratio to plain decoding by kind of prompt."""
    return tables(language, POLICIES, _policies)


def claims(language: str) -> str:
    """Return what `auto` gives beside plain decoding, the best fixed choices and the oracle."""
    parts = tables(language, POLICIES, _claims), tables(language, ["adversary.json"], _adversary)
    return "\n\n".join(parts)


def step_parts(language: str) -> str:
    """Return where the time of a step goes, in microseconds, a table a target."""
    return tables(language, STEP_PARTS, _step_parts)


def _policies(found: Any, language: str) -> list[str]:
    greedy, nucleus = found["rows"]["greedy"], found["rows"]["nucleus"]
    kinds = [kind for kind in greedy[0] if kind != "method"]
    lines = headed((*_named(["method"], language), *kinds, f"nucleus, {kinds[-1]}"))
    for row, sampled in zip(greedy, nucleus, strict=True):
        shown = [row[kind]["median"] for kind in kinds] + [sampled[kinds[-1]]["median"]]
        lines.append(f"| `{row['method']}` | {' | '.join(f'{one:.2f}' for one in shown)} |")
    return lines


def _claims(found: Any, language: str) -> list[str]:
    lines = _of_words(_named(["sampler", "prompts", *CLAIMS], language))
    for row in found["claims"]:
        ratios = {name: figure(row[name], "{:.2f}") for name in CLAIMS if name != "that is"}
        cells = row | ratios | {"that is": row["that is"].replace(" | ", ", ")}
        shown = [str(cells[name]) for name in ("sampler", "prompts", *CLAIMS)]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


def _adversary(found: Any, language: str) -> list[str]:
    lines = _of_words(_named(["case", "auto / plain"], language))
    for row in found["rows"]:
        lines.append(f"| {row['case']} | {figure(row['auto / plain'], '{:.2f}')} |")
    return lines


def _step_parts(found: Any, language: str) -> list[str]:
    sampler, *heads = found["rows"][0]
    lines = [f"| {' | '.join([sampler, *heads])} |", "|---|---|" + "---:|" * (len(heads) - 1)]
    for row in found["rows"]:
        cells = [row["sampler"], f"`{row['method']}`", f"{row['tokens']:.2f}"]
        cells += [f"{row[part]:.0f}" for part in heads[2:]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _named(heads: list[str], language: str) -> list[str]:
    return [IN_CHINESE[head] for head in heads] if language == "zh" else heads


def _of_words(heads: list[str]) -> list[str]:
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]


BLOCKS: dict[str, Callable[[str], str]] = {
    "policies": policies,
    "claims": claims,
    "step-parts": step_parts,
}
