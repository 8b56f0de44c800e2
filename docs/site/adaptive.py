"""What EGAG brings: tables and sentences of results files, for chapter 6 and the plan."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import Any

from docs.site.measured import FIXED, MADE_BY, figure, headed, missing, results, source
from docs.site.names import word

BUNDLED, REAL, MATRIX = "policies-bundled.json", "egag-smollm2.json", "documented/summary.json"
ALL = "all"
LENGTHS = ("model 1", "model 2", "model 3", "model 4", "model 6")
RULES = ("EGAG", "entropy_cost, in nats", "entropy_cost, priced", "entropy_cost")
EGAG_CELL = "EGAG egag_gamma_max=6 egag_ema=0.9"  # of the documented matrix
IN_REAL, BASELINE = "EGAG (1, 6, 0.9)", "fixed, gamma 4"  # as `benchmarks/egag.py` calls them
GAMMA_MAX = 6
WORDS = {
    "zh": {
        "faster": "更快",
        "slower": "更慢",
        "no difference found": "没有发现差别",
        "too few prompts": "提示词太少，没有区间",
        "greedy": "贪心",
        "nucleus": "采样",
    },
    "en": {"greedy": "Greedy", "nucleus": "Sampled"},
}


def bundled(language: str) -> str:
    """Return EGAG and its relatives beside fixed lengths on the bundled pair, ÷ plain decoding."""
    found = results(BUNDLED)
    if found is None:
        return missing(language, BUNDLED, MADE_BY[BUNDLED])
    head = {"zh": ("方法", "贪心", "采样（nucleus）"), "en": ("method", "greedy", "nucleus")}
    lines = headed(head[language])
    rows = {
        sampler: {row["method"]: row[ALL] for row in of} for sampler, of in found["rows"].items()
    }
    for name in (*LENGTHS, *RULES):
        cells = [figure(rows[sampler][name], "{:.2f}") for sampler in ("greedy", "nucleus")]
        lines.append(f"| {_shown(name, language)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", source(language, BUNDLED, found)])


def _shown(name: str, language: str) -> str:
    if name in LENGTHS:
        return ("固定长度 " if language == "zh" else "fixed length ") + name.split()[-1]
    said = {
        "EGAG": "EGAG (1, 6, 0.9)",
        "entropy_cost, in nats": "`entropy_cost(…, priced=False)`",
        "entropy_cost, priced": "`entropy_cost(…, calibrated=False)`",
    }
    return said.get(name, f"`{name}`")


def _called(name: str, language: str) -> str:
    """Return what a method of `benchmarks/egag.py` is called on a page."""
    if language == "en" or name.startswith(("EGAG", "entropy_cost")):
        return name
    return name.replace("plain", "普通解码").replace("fixed, gamma", "固定长度")


def real(language: str) -> str:
    """Return EGAG beside fixed lengths on a real model: a reading, then the table."""
    found = results(REAL)
    if found is None:
        return missing(language, REAL, MADE_BY[REAL])
    head = {
        "zh": ("采样", "方法", "÷ 普通解码", "÷ 固定 γ = 4", "每轮 token", "接受率", "平均 γ"),
        "en": (
            "sampler",
            "method",
            "÷ plain",
            "÷ fixed γ = 4",
            "tokens a round",
            "acceptance",
            "mean γ",
        ),
    }[language]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    for sampler, its in found["samplers"].items():
        for name, one in its["methods"].items():
            ratios = [
                figure(one[key], "{:.2f}") for key in ("speed / plain", f"speed / {BASELINE}")
            ]
            counts = [
                f"{one['tokens a step']:.2f}",
                "–" if one["acceptance_rate"] is None else f"{one['acceptance_rate']:.0%}",
                "–" if one["mean_gamma"] is None else f"{one['mean_gamma']:.2f}",
            ]
            shown = f"{word(sampler, language)} | {_called(name, language)}"
            lines.append(f"| {shown} | {' | '.join([*ratios, *counts])} |")
    said = (
        " ".join(_reading(found, language))
        if language == "en"
        else "".join(_reading(found, language))
    )
    return "\n".join([said, "", *lines, "", source(language, REAL, found)])


def _reading(found: dict[str, Any], language: str) -> list[str]:
    """Return sentences about a results file of `benchmarks/egag.py`."""
    said = []
    for sampler, its in found["samplers"].items():
        one = its["methods"][IN_REAL]
        fixed, plain = one[f"speed / {BASELINE}"], one["speed / plain"]
        best = max(
            (name for name in its["methods"] if name.startswith("fixed")),
            key=lambda name: float(its["methods"][name]["speed / plain"]["median"]),
        )
        low, middle, high = one["entropy"]
        lengths = [floor((1 - h) * GAMMA_MAX) for h in (high, low)]
        said.append(
            _SENTENCE[language].format(
                sampler=_word(sampler, language),
                ratio=figure(fixed, "{:.2f}"),
                word=_word(fixed["word"], language),
                plain=figure(plain, "{:.2f}"),
                plain_word=_word(plain["word"], language),
                best=best.split()[-1],
                best_ratio=f"{its['methods'][best]['speed / plain']['median']:.2f}",
                middle=f"{middle:.3f}",
                low=f"{low:.3f}",
                high=f"{high:.3f}",
                shortest=lengths[0],
                longest=lengths[1],
            )
        )
    return said


_SENTENCE = {
    "en": (
        "**{sampler}**: EGAG has {ratio} of the speed of a fixed length of 4 ({word}) and {plain} "
        "of plain decoding's ({plain_word}); the quickest fixed length of the table, {best}, has "
        "{best_ratio}. Half of its $H_{{\\text{{norm}}}}$ are below {middle}, nine tenths between "
        "{low} and {high}, for which it asks for {shortest} to {longest} tokens."
    ),
    "zh": (
        "**{sampler}**：EGAG 的速度是固定长度 4 的 {ratio} 倍（{word}），"
        "是普通解码的 {plain} 倍（{plain_word}）；"
        "表中最快的固定长度是 {best}，为 {best_ratio} 倍。"
        "它的 $H_{{\\text{{norm}}}}$ 一半低于 {middle}，九成在 {low} 与 {high} 之间，"
        "要求的长度是 {shortest} 到 {longest} 个 token。"
    ),
}


def conclusion(language: str) -> str:
    """Return the outcome of the documented matrix in a sentence for each sampler."""
    found = results(MATRIX)
    if found is None:
        return missing(language, MATRIX, MADE_BY[MATRIX])
    cells = [one for one in found["findings"] if one["kind"] == ALL]
    total, failed = (sum(one[key] for one in cells) for key in ("num_rows", "num_failed"))
    said = []
    for one in cells:
        if one["label"] != EGAG_CELL:
            continue
        sampler = one["condition"].removeprefix("sampler=").split("(")[0]
        values: dict[str, str] = {"sampler": _word(sampler, language)}
        for key, other in (("fixed", FIXED), ("plain", "target")):
            compared = one["comparisons"][other]
            values[key] = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**compared["speedup"])
            values[f"{key}_word"] = _word(compared["word"], language)
        values["cost"] = f"{one['means']['draft_cost_ratio']['mean']:.2f}"
        values["entropy"] = f"{one['means']['mean_normalized_entropy']['mean']:.2f}"
        fixed = next(c for c in cells if c["label"] == FIXED and c["condition"] == one["condition"])
        values["fixed_cost"] = f"{fixed['means']['draft_cost_ratio']['mean']:.2f}"
        said.append("- " + _OUTCOME[language].format(**values))
    counted = {
        "en": f"Counted over {total:,} generations, {failed or 'none'} of them failed.",
        "zh": f"共 {total:,} 次生成，{f'{failed} 次失败' if failed else '没有一次失败'}。",
    }
    return "\n".join([*said, "", counted[language]])


_OUTCOME = {
    "en": (
        "**{sampler}**: {fixed} of the speed of a fixed γ = 4 ({fixed_word}), {plain} of plain "
        "decoding's ({plain_word}). A draft call took {cost} of a target pass, where the fixed "
        "length paid {fixed_cost}; the mean $H_{{\\text{{norm}}}}$ was {entropy}."
    ),
    "zh": (
        "**{sampler}**：速度是固定 γ = 4 的 {fixed} 倍（{fixed_word}），"
        "是普通解码的 {plain} 倍（{plain_word}）。"
        "一次草稿调用占目标前向的 {cost}，固定长度时是 {fixed_cost}；"
        " $H_{{\\text{{norm}}}}$ 的平均值是 {entropy}。"
    ),
}


def _word(word: str, language: str) -> str:
    return WORDS[language].get(word, word)


BLOCKS: dict[str, Callable[[str], str]] = {
    "egag-bundled": bundled,
    "egag-real": real,
    "egag-conclusion": conclusion,
}
