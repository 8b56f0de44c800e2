"""What chapters 4 and 5 say in numbers: drafts that are looked up, beside plain decoding."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from docs.site.measured import CONTENDERS, MADE_BY, REAL, RESULTS, figure, headed, missing
from docs.site.measured import results, source
from foredraft import DecodingConfig, ngram_assisted_speculative_generate
from foredraft.cli.commands import COMMANDS
from foredraft.files import read_text

POLICIES = "policies-bundled.json"
DOCUMENTED = "documented/summary.json"
COPIES = ("nasd", "suffix", "prompt_lookup")  # contenders of `REAL`
ON_BUNDLED = {  # row of `POLICIES` → what a page calls it
    "NASD": "NASD",
    "suffix 8": "suffix, γ 8",
    "prompt_lookup 4": "prompt lookup, γ 4",
    "model 4": {"zh": "草稿模型，γ 4", "en": "draft model, γ 4"},
}
KINDS = {
    **{"chat": "聊天", "copying": "照抄", "code": "代码", "summary": "摘要", "translation": "翻译"},
    **{"dialogue": "对话", "long": "长文本续写", "all": "全部"},
}
SAMPLERS = {"greedy": "贪心", "nucleus": "nucleus"}
HEADS = {"zh": ("采样", "草稿来自"), "en": ("sampler", "drafts from")}
ARGUMENTS = {  # setting → parameter of the function and its slash command, where it has them
    "gamma": ("gamma", "/gamma"),
    "ngramstorage": ("", "/set_ngramstorage"),
    "ngram_order": ("", "/set_ngramstorage"),
    "top_k_filler": ("filler_top_k", "/top_k_filler"),
    "stop_if_unknown": ("stop_if_unknown", "/stop_if_unknown"),
    "reset_in_between": ("", "/reset_in_between"),
}
MEANINGS = {
    "gamma": ("每轮最多起草几个 token", "most tokens drafted in a step"),
    "ngramstorage": ("`basic` 会回退，`onelevel` 不会", "`basic` backs off, `onelevel` does not"),
    "ngram_order": ("n 元组的长度 n", "n, the length of an n-gram"),
    "top_k_filler": ("每个位置计入几个候选 token", "candidates counted at each position"),
    "stop_if_unknown": ("上下文未知时结束草稿", "an unknown context ends the draft"),
    "reset_in_between": ("每个提示词都从空表开始", "every prompt begins with empty counts"),
}


def on_real(language: str) -> str:
    """Return the ratio of each drafter that copies to plain decoding, on a real model."""
    found = results(REAL)
    if found is None:
        return missing(language, REAL, MADE_BY[REAL])
    lines = list[str]()
    for sampler, measured in found["samplers"].items():
        drafts = {row["contender"]: row["draft"] for row in measured["contenders"]}
        for name in COPIES:
            row = _ratios_of(measured, name)
            lines = lines or _headed(language, list(row))
            label = f"{CONTENDERS[name].removeprefix('foredraft, ')}, γ {drafts[name]}"
            lines.append(_row(language, sampler, label, row))
    return "\n".join([*lines, "", source(language, REAL, found)])


def on_bundled(language: str) -> str:
    """Return the same on the bundled pair, with the draft model beside them."""
    found = results(POLICIES)
    if found is None:
        return missing(language, POLICIES, MADE_BY[POLICIES])
    lines = list[str]()
    for sampler, rows in found["rows"].items():
        by_method = {row["method"]: row for row in rows}
        for method, called in ON_BUNDLED.items():
            row = {kind: one for kind, one in by_method[method].items() if kind != "method"}
            lines = lines or _headed(language, list(row))
            label = called if isinstance(called, str) else called[language]
            lines.append(_row(language, sampler, label, row))
    return "\n".join([*lines, "", source(language, POLICIES, found)])


def _ratios_of(measured: Any, name: str) -> dict[str, dict[str, Any]]:
    """Return a contender's ratios to plain decoding, decoding alone, by kind of prompt."""
    return {
        one["kind"]: one
        for one in measured["ratios"]
        if (one["ours"], one["theirs"]) == (name, "plain") and one["decode_only"]
    }


def _headed(language: str, kinds: list[str]) -> list[str]:
    heads = (*HEADS[language], *(_kind(kind, language) for kind in kinds))
    first, second = headed(heads)
    return [first, second.replace("---:|", "---|", 1)]


def _row(language: str, sampler: str, label: str, row: dict[str, dict[str, Any]]) -> str:
    cells = [f"{one['median']:.2f}" for one in row.values()]
    cells[-1] = figure(list(row.values())[-1], "{:.2f}")  # of all kinds, with its interval
    shown = SAMPLERS[sampler] if language == "zh" else sampler
    return f"| {' | '.join([shown, label, *cells])} |"


def _kind(kind: str, language: str) -> str:
    return KINDS[kind] if language == "zh" else kind


def settings(language: str) -> str:
    """Return what NASD is told, where, and what it does unless it is told."""
    lines = headed(
        {
            "zh": ("设置", "含义", "命令行", "交互命令", "默认值", "函数的参数与默认值"),
            "en": ("setting", "meaning", "flag", "in the shell", "default", "argument of the function"),
        }[language]
    )
    lines[1] = "|" + "---|" * 6
    told = inspect.signature(ngram_assisted_speculative_generate).parameters
    for name, (argument, command) in ARGUMENTS.items():
        assert command in COMMANDS
        default = getattr(DecodingConfig(), name)
        flag = name.replace("_", "-")
        cells = [
            f"`{name}`",
            MEANINGS[name][language == "en"],
            f"`--no-{flag}`" if default is True else f"`--{flag}`",
            f"`{command} off`" if default is True else f"`{command}`",
            f"`{default}`",
            f"`{argument}={told[argument].default}`" if argument else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_settings(language: str) -> str:
    """Return which NASD stands behind each results file."""
    default = DecodingConfig()
    peers = [json.loads(read_text(path)) for path in sorted(RESULTS.glob("peers-*.json"))]
    drafts = {
        row["draft"] for measured in results(REAL)["samplers"].values()
        for row in measured["contenders"] if row["contender"] == "nasd"
    }  # fmt: skip
    manifest = json.loads(read_text(RESULTS / "documented" / "manifest.json"))
    cells = [cell["config"] for cell in manifest["grid"]["cells"] if cell["method"] == "ngram"]
    usual = ({default.ngram_order}, {default.top_k_filler})
    rows = [
        (REAL, *usual, drafts, {default.stop_if_unknown}),
        ("policies-*.json", *usual, {default.gamma}, {default.stop_if_unknown}),
        ("quick.json", *usual, {default.gamma}, {default.stop_if_unknown}),
        ("peers-*.json", *usual, {one["setting"]["nasd_gamma"] for one in peers}, {True}),
        ("documented/", *(
            {cell[name] for cell in cells}
            for name in ("ngram_order", "top_k_filler", "gamma", "stop_if_unknown")
        )),
    ]  # fmt: skip
    ends = {
        "zh": {True: "结束草稿", False: "猜一个随机 token"},
        "en": {True: "ends the draft", False: "guesses a random token"},
    }[language]
    lines = headed(
        {
            "zh": ("结果文件", "n", "填充", "γ", "上下文未知时"),
            "en": ("results file", "n", "filler", "γ", "at an unknown context"),
        }[language]
    )
    for file, *numbers, does_end in rows:
        told = [", ".join(map(str, sorted(values))) for values in numbers]
        lines.append(f"| `{file}` | {' | '.join(told)} | {', '.join(ends[e] for e in does_end)} |")
    return "\n".join(lines)


def price(language: str) -> str:
    """Return what four more tokens in a pass of the target cost."""
    bounds = [row for row in results(REAL)["bounds"] if "pass over 5" in row["what"]]
    ratios = [row["measured"] for row in bounds if row["measured"]]
    real, bundled = (f"{one['median']:.2f}" for one in ratios)
    return {
        "zh": (
            f"实测：一次读 5 个 token 的前向计算，在内置目标模型上是读 1 个的 {bundled} 倍，"
            f"在 SmolLM2-135M（4 位）上是 {real} 倍。"
        ),
        "en": (
            f"Measured: a forward pass that reads five tokens takes {bundled} times as long as one that "
            f"reads a single token on the bundled target, and {real} times as long on SmolLM2-135M in 4 bits."
        ),
    }[language]


def filler(language: str) -> str:
    """Return what n and the filler changed in the documented matrix."""
    found = [
        one
        for one in results(DOCUMENTED)["findings"]
        if one["kind"] == "all" and one["label"].startswith("NASD") and "greedy" in one["condition"]
    ]
    rates = [one["means"]["acceptance_rate"]["mean"] for one in found]
    ratios = {one["label"]: one["comparisons"]["target"]["speedup"]["value"] for one in found}
    best, worst = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
    told = {label: label.removeprefix("NASD ").replace(" ", ", ") for label in (best, worst)}
    accepted = f"{min(rates):.1%}", f"{max(rates):.1%}"
    return {
        "zh": (
            f"在内置模型对上试过 {len(found)} 种 $n$ 和 $k$ 的组合，贪心解码：接受率只在 {accepted[0]} 到 {accepted[1]} 之间变化；"
            f"与普通解码之比最高 {ratios[best]:.2f}（`{told[best]}`），最低 {ratios[worst]:.2f}（`{told[worst]}`）。"
        ),
        "en": (
            f"On the bundled pair, with greedy decoding, {len(found)} combinations of $n$ and $k$ were tried. The "
            f"acceptance rate only moved between {accepted[0]} and {accepted[1]}; the ratio to plain decoding was "
            f"highest with `{told[best]}` ({ratios[best]:.2f}) and lowest with `{told[worst]}` ({ratios[worst]:.2f})."
        ),
    }[language]


def claim(language: str) -> str:
    """Return how NASD does beside a draft model of the same length."""
    rows = results(POLICIES)["rows"]
    beside = dict[str, dict[str, float]]()
    for sampler, methods in rows.items():
        by_method = {row["method"]: row for row in methods}
        nasd, model = by_method["NASD"], by_method["model 4"]
        beside[sampler] = {
            kind: nasd[kind]["median"] / model[kind]["median"] for kind in nasd if kind != "method"
        }
    greedy = dict(beside["greedy"])
    every = greedy.pop("all")
    best, wins = max(greedy, key=greedy.__getitem__), [k for k, r in greedy.items() if r >= 1]
    if language == "zh":
        which = "、".join(KINDS[kind] for kind in wins)
        verdict = f"它在{which}上至少一样快" if wins else "没有一类提示词上它更快"
        return (
            f"在内置模型对上，草稿长度同为 4：贪心解码时 NASD 的速度是草稿模型的 {every:.2f} 倍，"
            f"nucleus 采样时是 {beside['nucleus']['all']:.2f} 倍；{verdict}，最接近的是{KINDS[best]}（{greedy[best]:.2f}）。"
        )
    verdict = (
        f"It is at least as fast on {' and '.join(wins)}" if wins else "It is faster on no kind of prompt"
    )
    return (
        f"On the bundled pair, with drafts of four tokens for both, NASD decodes at {every:.2f} times the speed of the "
        f"draft model when greedy and at {beside['nucleus']['all']:.2f} times with nucleus sampling. "
        f"{verdict}, and comes nearest on {best} ({greedy[best]:.2f})."
    )


def reading(language: str) -> str:
    """Return where drafts that are copied won and lost on a real model."""
    samplers = results(REAL)["samplers"]
    rows = {name: _medians(samplers["greedy"], name) for name in COPIES}
    nasd = dict(rows["nasd"])
    del nasd["all"]
    best, worst = max(nasd, key=nasd.__getitem__), min(nasd, key=nasd.__getitem__)
    first = [max(COPIES, key=lambda name: rows[name][kind]) for kind in nasd]
    quickest = max(set(first), key=first.count)
    sampled = _medians(samplers["nucleus"], "nasd")["all"]
    called = CONTENDERS[quickest].removeprefix("foredraft, ")
    if language == "zh":
        lost = "比普通解码还慢" if nasd[worst] < 1 else "几乎没有收益"
        return (
            f"贪心解码时 NASD 在{KINDS[best]}上收益最大（普通解码的 {nasd[best]:.2f} 倍），在{KINDS[worst]}上"
            f"{lost}（{nasd[worst]:.2f} 倍）；nucleus 采样时全部提示词合计 {sampled:.2f} 倍。三种照抄的方法中，{called} "
            f"在 {len(first)} 类提示词的 {first.count(quickest)} 类上最快。"
        )
    lost = "slower than plain decoding" if nasd[worst] < 1 else "hardly any faster"
    return (
        f"With greedy decoding NASD gains most on {best} ({nasd[best]:.2f} times plain decoding) and is {lost} on {worst} "
        f"({nasd[worst]:.2f}); with nucleus sampling it reaches {sampled:.2f} over all prompts. Of the three methods that "
        f"copy, {called} was the fastest on {first.count(quickest)} of {len(first)} kinds of prompt."
    )


def _medians(measured: Any, name: str) -> dict[str, float]:
    return {kind: one["median"] for kind, one in _ratios_of(measured, name).items()}


BLOCKS: dict[str, Callable[[str], str]] = {
    "nasd-real": on_real,
    "nasd-bundled": on_bundled,
    "nasd-settings": settings,
    "nasd-measured": measured_settings,
    "nasd-price": price,
    "nasd-filler": filler,
    "nasd-claim": claim,
    "nasd-reading": reading,
}
