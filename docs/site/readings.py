"""Sentences and short tables of chapter 7 that say what its measurements mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.site import pass_times as passes
from docs.site.conclusions import told, verdict
from docs.site.measured import headed, results


def one_thing(language: str) -> str:
    """Return one ratio, γ = 4 beside plain decoding, in the files that hold it."""
    head = {
        "zh": ("文件", "÷ 普通解码，贪心，内置的一对", "统计量", "提示词", "机器与版本"),
        "en": ("file", "÷ plain decoding, greedy, bundled pair", "statistic", "prompts", "where"),
    }[language]
    lines = ["| " + " | ".join(head) + " |", "|---|---:|---|---|---|"]
    for file, (found, statistic, prompts) in _of_one_thing(language).items():
        shown = told(found) if isinstance(found, dict) else f"{found:.2f}"
        machine = results(file)["machine"]
        where = ", ".join(
            [str(machine["processor"]).removesuffix(" Processor"), str(machine["commit"])[:7]]
        )
        lines.append(f"| `{file}` | {shown} | {statistic} | {prompts} | {where} |")
    return "\n".join(lines)


def _of_one_thing(language: str) -> dict[str, tuple[Any, str, str]]:
    quick = {row["method"]: row for row in results("quick.json")["rows"]}
    policies = {row["method"]: row for row in results("policies-bundled.json")["rows"]["greedy"]}
    peers = next(
        row
        for row in results("peers-cpu-float32.json")["ratios"]
        if (row["ours"], row["theirs"], row["kind"]) == ("speculative", "target_ar", "all")
        and not row["decode_only"]
    )
    ablation = next(
        one["comparisons"]["target"]["speedup"]
        for one in results("documented/summary.json")["findings"]
        if one["kind"] == "all" and one["label"] == "speculative gamma=4"
        if one["condition"] == "sampler=greedy"
    )
    ablation = {"median": ablation["value"], **{end: ablation[end] for end in ("low", "high")}}
    zh = language == "zh"
    median = "各提示词比值的中位数" if zh else "median of the ratios prompt by prompt"
    mean = "各提示词比值的几何平均" if zh else "geometric mean of the ratios prompt by prompt"
    counts = (
        (
            "20 个，60 token",
            "70 个，最多 160 token",
            "70 个，每个三个种子",
            "32 个，64 token，γ 另行选定",
        )
        if zh
        else ("20, 60 tokens", "70, up to 160 tokens", "70, three seeds", "32, 64 tokens, γ tuned")
    )
    return {
        "quick.json": (quick["speculative_gamma_4"]["ratio_to_target_ar"], median, counts[0]),
        "policies-bundled.json": (policies["model 4"]["all"], mean, counts[1]),
        "documented/summary.json": (ablation, mean, counts[2]),
        "peers-cpu-float32.json": (peers, median, counts[3]),
    }


def batches(language: str) -> str:
    """Return what a step of speculation costs as texts share a pass, and what it asks of drafts."""
    head = {
        "zh": (
            "共用前向的文本数",
            "一轮的代价，以普通解码的一轮为 1",
            "打平所需的 α",
            "α = 0.8 时的加速比",
        ),
        "en": (
            "texts in the pass",
            "cost of a step, in plain steps",
            "α to break even",
            "speed-up at α = 0.8",
        ),
    }[language]
    parts = []
    for name in passes.MODELS:
        gains = dict(passes.speedups(name, passes.ALPHA))
        lines = [f"**{passes.NAMES[language][name]}**", "", *headed(head)]
        for texts, cost in passes.by_texts(name):
            alpha = passes.needed(cost, passes.gamma())
            never = "没有" if language == "zh" else "none"
            shown = never if alpha is None else f"{alpha:.2f}"
            lines.append(f"| {texts} | {cost:.2f} | {shown} | {gains[texts]:.2f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def pass_times(language: str) -> str:
    """Return how far a pass over several tokens is from one over one, in a sentence."""
    real, bundled = (dict(passes.by_tokens(name)) for name in passes.MODELS)
    length = passes.gamma() + 1
    knees = [passes.flat_until(name) for name in passes.MODELS]
    narrow = [dict(passes.by_tokens(f"{name}-{passes.NARROW}"))[length] for name in passes.MODELS]
    if language == "zh":
        return (
            f"读 {length} 个 token 的一次前向，在真实模型上是读 1 个的 {real[length]:.2f} 倍，"
            f"在内置目标模型上是 {bundled[length]:.2f} 倍；读 64 个分别是 {real[64]:.1f} 和 "
            f"{bundled[64]:.1f} 倍。不超过 {passes.FLAT} 倍的平坦段分别到 {knees[0]} 个和 "
            f"{knees[1]} 个 token 为止。在只有 AVX2 的处理器上，读 {length} 个分别是 "
            f"{narrow[0]:.2f} 和 {narrow[1]:.2f} 倍。"
        )
    return (
        f"A pass that reads {length} tokens takes {real[length]:.2f} times as long as one that "
        f"reads a single token on the real model, and {bundled[length]:.2f} times on the bundled "
        f"target; one that reads 64 takes {real[64]:.1f} and {bundled[64]:.1f} times as long. The "
        f"flat part, up to {passes.FLAT} times, ends at {knees[0]} and {knees[1]} tokens. On a "
        f"processor with AVX2 alone, {length} tokens take {narrow[0]:.2f} and {narrow[1]:.2f} "
        "times as long as one."
    )


def busy(language: str) -> str:
    """Return what speculation gives a server with one client and with eight, in sentences."""
    rows = {
        (row["model"], row["sampler"], row["speculation"]): row
        for row in results("serve.json")["rows"]
    }
    said = []
    for model in dict.fromkeys(model for model, _, _ in rows):
        on, off = (rows[model, "greedy", switch] for switch in ("on", "off"))
        one, eight = (on[f"{count} clients"] / off[f"{count} clients"] for count in (1, 8))
        name = passes.NAMES[language].get(model, model)
        if language == "zh":
            said.append(f"{name}：一个客户端时 {one:.2f} 倍，八个时 {eight:.2f} 倍")
        else:
            said.append(f"{name}, {one:.2f} × with one client and {eight:.2f} × with eight")
    if language == "zh":
        return f"在服务器上测得的投机开 ÷ 关，贪心：{'；'.join(said)}（`serve.json`）。"
    return (
        f"Measured on the server, speculation on ÷ off, greedy: {'; '.join(said)} (`serve.json`)."
    )


def hot(language: str) -> str:
    """Return what a high temperature and a drafter of noise do to `auto`, in a sentence."""
    rows = {row["case"]: row["auto / plain"] for row in results("adversary.json")["rows"]}
    hot, noise = rows["temperature 1.5"], rows["a drafter of noise"]
    if language == "zh":
        return (
            f"温度 1.5 时 `auto` 是普通解码的 {told(hot)} 倍（{verdict(hot, language)}），"
            f"草稿模型输出噪声时是 {told(noise)} 倍（{verdict(noise, language)}）。"
        )
    return (
        f"At temperature 1.5 `auto` gives {told(hot)} × plain decoding "
        f"({verdict(hot, language)}), and {told(noise)} × with a draft model that says noise "
        f"({verdict(noise, language)})."
    )


def time_of_a_step(language: str) -> str:
    """Return which share of a step forward passes are, in a sentence."""
    shares = []
    for file in ("step-parts-bundled.json", "step-parts-smollm2.json"):
        for row in results(file)["rows"][:2]:  # greedy: plain, and the fixed draft length
            parts = {name: row[name] for name in row if name not in ("sampler", "method", "tokens")}
            spent = parts["target pass"] + parts["draft calls"]
            shares.append(f"{spent / sum(parts.values()):.0%}")
    if language == "zh":
        return (
            f"前向计算占普通解码一轮的 {shares[0]}（内置的一对）和 {shares[2]}（真实模型），"
            f"占投机一轮的 {shares[1]} 和 {shares[3]}；其余是 Python 和小运算。"
        )
    return (
        f"Forward passes are {shares[0]} of a step of plain decoding on the bundled pair and "
        f"{shares[2]} on the real model, and {shares[1]} and {shares[3]} of a step of speculation. "
        "The rest is Python and small operations."
    )


def assisted(language: str) -> str:
    """Return how the assisted contenders were set, in a sentence."""
    found = [
        results(f"peers-cpu-{dtype}.json")["scikit_learn"] for dtype in ("float32", "bfloat16")
    ]
    absent = not any(found)
    if language == "zh":
        state = (
            "没有安装 scikit-learn，所以它的置信度阈值固定不变" if absent else "装有 scikit-learn"
        )
        return (
            f"*transformers 辅助生成*用它的默认设置（测量时{state}）；"
            "*最好的固定长度*是关掉阈值与长度调度，取 1 到 6 中在另选的提示词上最快的长度。"
        )
    state = (
        "scikit-learn was not installed, so that its confidence threshold stayed fixed"
        if absent
        else "scikit-learn was installed"
    )
    return (
        f"*transformers, assisted* has its default settings ({state}); *best fixed length* is "
        "without threshold and schedule, with the length from 1 to 6 that was quickest on prompts "
        "set aside for the choice."
    )


BLOCKS: dict[str, Callable[[str], str]] = {
    "one-thing": one_thing,
    "batches": batches,
    "pass-times": pass_times,
    "busy": busy,
    "hot": hot,
    "time-of-a-step": time_of_a_step,
    "assisted": assisted,
}
