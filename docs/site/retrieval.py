"""What chapters 4 and 5 say in numbers: drafts that are looked up, beside plain decoding."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from docs.site.measured import (
    MADE_BY,
    REAL,
    figure,
    files,
    headed,
    missing,
    results,
    source,
)
from docs.site.names import drafter
from foredraft import DecodingConfig, ngram_assisted_speculative_generate
from foredraft.cli.commands import COMMANDS

POLICIES = "policies-bundled.json"
DOCUMENTED = "documented/summary.json"
COUNTED = ("ngram_order", "top_k_filler", "gamma")
COPIES = ("nasd", "suffix", "prompt_lookup")  # contenders of `REAL`
ON_BUNDLED: dict[str, str | dict[str, str]] = {  # row of `POLICIES` → what a page calls it
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


SAID: dict[str, dict[str, str]] = {
    "price": {
        "zh": (
            "实测：一次读 5 个 token 的前向计算，在内置目标模型上是读 1 个的 {bundled:.2f} 倍，"
            "在 SmolLM2-135M（4 位）上是 {real:.2f} 倍。"
        ),
        "en": (
            "Measured: a forward pass that reads five tokens takes {bundled:.2f} times as long as "
            "one that reads a single token on the bundled target, and {real:.2f} times as long on "
            "SmolLM2-135M in 4 bits."
        ),
    },
    "filler": {
        "zh": (
            "在内置模型对上试过 {count} 种 $n$ 和 $k$ 的组合，贪心解码：接受率只在 {low:.1%} 到 "
            "{high:.1%} 之间变化；与普通解码之比最高 {ratio:.2f}（`{best}`），"
            "最低 {other:.2f}（`{worst}`）。"
        ),
        "en": (
            "On the bundled pair, with greedy decoding, {count} combinations of $n$ and $k$ were "
            "tried. The acceptance rate only moved between {low:.1%} and {high:.1%}; the ratio to "
            "plain decoding was highest with `{best}` ({ratio:.2f}) and lowest with `{worst}` "
            "({other:.2f})."
        ),
    },
    "claim": {
        "zh": (
            "在内置模型对上，草稿长度同为 4：贪心解码时 NASD 的速度是草稿模型的 {greedy:.2f} 倍，"
            "nucleus 采样时是 {nucleus:.2f} 倍。{verdict}，最接近的是{nearest}（{ratio:.2f}）。"
        ),
        "en": (
            "On the bundled pair, with drafts of four tokens for both, NASD decodes at "
            "{greedy:.2f} times the speed of the draft model when greedy and at "
            "{nucleus:.2f} times with nucleus sampling. {verdict}, and it comes nearest on "
            "{nearest} ({ratio:.2f})."
        ),
    },
    "reading": {
        "zh": (
            "贪心解码时 NASD 在{best}上收益最大（普通解码的 {high:.2f} 倍），在{worst}上{lost}"
            "（{low:.2f} 倍）；nucleus 采样时全部提示词合计 {sampled:.2f} 倍。三种照抄的方法中，"
            "{quickest}在 {kinds} 类提示词的 {first} 类上最快。"
        ),
        "en": (
            "With greedy decoding NASD gains most on {best} ({high:.2f} times plain decoding) and "
            "is {lost} on {worst} ({low:.2f}); with nucleus sampling it reaches {sampled:.2f} over "
            "all prompts. Of the three methods that copy, {quickest} was the fastest on {first} of "
            "{kinds} kinds of prompt."
        ),
    },
}
IF_NOT_AND_IF: dict[str, dict[str, tuple[str, str]]] = {
    "verdict": {
        "zh": ("没有一类提示词上它更快", "它在{wins}上至少一样快"),
        "en": ("It is faster on no kind of prompt", "It is at least as fast on {wins}"),
    },
    "lost": {
        "zh": ("几乎没有收益", "比普通解码还慢"),
        "en": ("hardly any faster", "slower than plain decoding"),
    },
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
            comma = "，" if language == "zh" else ", "
            label = f"{drafter(name, language)}{comma}γ {drafts[name]}"
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
            "en": (
                "setting",
                "meaning",
                "flag",
                "in the shell",
                "default",
                "argument of the function",
            ),
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
    ends = {
        "zh": {True: "结束草稿", False: "猜一个随机 token"},
        "en": {True: "ends the draft", False: "guesses a random token"},
    }[language]
    heads = {
        "zh": ("结果文件", "n", "填充", "γ", "上下文未知时"),
        "en": ("results file", "n", "filler", "γ", "at an unknown context"),
    }
    lines = headed(heads[language])
    for file, settings in _settings_by_file().items():
        numbers = [", ".join(map(str, sorted(settings[name]))) for name in COUNTED]
        said = ", ".join(ends[value] for value in settings["stop_if_unknown"])
        lines.append(f"| `{file}` | {' | '.join(numbers)} | {said} |")
    return "\n".join(lines)


def _settings_by_file() -> dict[str, dict[str, set[Any]]]:
    """Return the values that each setting of NASD has in each results file.

    Files tell what their scripts vary; what they leave alone has the default.
    """
    usual = {name: {getattr(DecodingConfig(), name)} for name in (*COUNTED, "stop_if_unknown")}
    contenders = [
        row for measured in results(REAL)["samplers"].values() for row in measured["contenders"]
    ]
    peers = [results(file) for file in files() if file.startswith("peers-")]
    manifest = results("documented/manifest.json")
    cells = [cell["config"] for cell in manifest["grid"]["cells"] if cell["method"] == "ngram"]
    return {
        REAL: usual | {"gamma": {r["draft"] for r in contenders if r["contender"] == "nasd"}},
        "policies-*.json": usual,
        "quick.json": usual,
        "peers-*.json": usual | {"gamma": {found["setting"]["nasd_gamma"] for found in peers}},
        "documented/": {name: {cell[name] for cell in cells} for name in usual},
    }


def price(language: str) -> str:
    """Return what four more tokens in a pass of the target cost."""
    bounds = [row["measured"] for row in results(REAL)["bounds"] if "pass over 5" in row["what"]]
    real, bundled = (one["median"] for one in bounds)
    return SAID["price"][language].format(real=real, bundled=bundled)


def filler(language: str) -> str:
    """Return what n and the filler changed in the documented matrix."""
    found = {
        one["label"].removeprefix("NASD ").replace(" ", ", "): one
        for one in results(DOCUMENTED)["findings"]
        if one["kind"] == "all" and one["label"].startswith("NASD") and "greedy" in one["condition"]
    }
    rates = [one["means"]["acceptance_rate"]["mean"] for one in found.values()]
    ratios = {key: one["comparisons"]["target"]["speedup"]["value"] for key, one in found.items()}
    best, worst = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
    return SAID["filler"][language].format(
        count=len(found),
        low=min(rates),
        high=max(rates),
        best=best,
        ratio=ratios[best],
        worst=worst,
        other=ratios[worst],
    )


def claim(language: str) -> str:
    """Return how NASD does beside a draft model of the same length."""
    beside = dict[str, dict[str, float]]()
    for sampler, methods in results(POLICIES)["rows"].items():
        rows = {row["method"]: row for row in methods}
        beside[sampler] = {  # a ratio of geometric means is the geometric mean of ratios
            kind: one["median"] / rows["model 4"][kind]["median"]
            for kind, one in rows["NASD"].items()
            if kind != "method"
        }
    every, nucleus = beside["greedy"].pop("all"), beside["nucleus"]["all"]
    nearest = max(beside["greedy"], key=beside["greedy"].__getitem__)
    wins = [_kind(kind, language) for kind, ratio in beside["greedy"].items() if ratio >= 1]
    verdict = IF_NOT_AND_IF["verdict"][language][bool(wins)]
    return SAID["claim"][language].format(
        greedy=every,
        nucleus=nucleus,
        verdict=verdict.format(wins=("、" if language == "zh" else ", ").join(wins)),
        nearest=_kind(nearest, language),
        ratio=beside["greedy"][nearest],
    )


def reading(language: str) -> str:
    """Return where drafts that are copied won and lost on a real model."""
    samplers = results(REAL)["samplers"]
    rows = {name: _medians(samplers["greedy"], name) for name in COPIES}
    nasd = {kind: ratio for kind, ratio in rows["nasd"].items() if kind != "all"}
    best, worst = max(nasd, key=nasd.__getitem__), min(nasd, key=nasd.__getitem__)
    first = [max((rows[name][kind], name) for name in COPIES)[1] for kind in nasd]
    quickest = max(COPIES, key=first.count)
    return SAID["reading"][language].format(
        best=_kind(best, language),
        high=nasd[best],
        worst=_kind(worst, language),
        low=nasd[worst],
        lost=IF_NOT_AND_IF["lost"][language][nasd[worst] < 1],
        sampled=_medians(samplers["nucleus"], "nasd")["all"],
        quickest=drafter(quickest, language),
        first=first.count(quickest),
        kinds=len(first),
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
