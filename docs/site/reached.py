"""What heads and controls bring: sentences and tables of results files, in either language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from docs.site.measured import figure, headed, missing, results, source

HEADS, CHAT, CONTROLLED = "heads.json", "real-chat.json", "controlled.json"
MADE_BY = {
    HEADS: "uv run python benchmarks/heads.py --save",
    CHAT: "uv run python benchmarks/real.py --chat --save",
    CONTROLLED: "uv run python benchmarks/real.py --controls --save",
}
HEAD_COLUMNS = {
    "en": ("sampler", "acceptance rate α", "τ", "cost ratio c", "speed ÷ plain decoding"),
    "zh": ("采样", "接受率 α", "τ", "成本比 c", "速度 ÷ 普通解码"),
}
CASE_COLUMNS = {
    "en": ("case", "prompts", "NASD", "suffix", "auto"),
    "zh": ("情形", "提示词数", "NASD", "suffix", "auto"),
}
IN_CHINESE = {
    **{"greedy": "贪心", "nucleus": "核采样", "repetition penalty 1.2": "重复惩罚 1.2"},
    **{"JSON schema": "JSON schema", "a file as prediction": "以一个文件作预测"},
    "an edited answer as prediction": "以修改过的回答作预测",
}
SUMMARY = {  # of the fifty questions
    "en": (
        "On {prompts} questions that nothing was trained on, at γ = {gamma}, a drafted token is "
        "accepted with probability {alpha:.2f} and a forward pass of the target yields {tau:.2f} "
        "tokens. Greedily that is {greedy} times the speed of plain decoding; with nucleus "
        "sampling it is {nucleus} times{doubt}."
    ),
    "zh": (
        "在 {prompts} 个从未用于训练的问题上，γ = {gamma} 时，草稿 token 被接受的概率是 "
        "{alpha:.2f}，目标模型每次前向计算得到 {tau:.2f} 个 token。贪心时速度是普通解码的 "
        "{greedy} 倍；核采样时是 {nucleus} 倍{doubt}。"
    ),
}
DOUBT = {
    "en": ", an interval that includes 1, so no gain is shown",
    "zh": "，区间包含 1，所以看不出有收益",
}
IN_CHAT = {
    "en": (
        "Measured beside other engines on {prompts} questions and with the γ that suits it best, "
        "{gamma}, the head reaches {greedy} times plain decoding greedily and {nucleus} times with "
        "nucleus sampling."
    ),
    "zh": (
        "与其他引擎并排测量 {prompts} 个问题，并用最适合它的 γ = {gamma}：贪心时是普通解码的 "
        "{greedy} 倍，核采样时是 {nucleus} 倍。"
    ),
}


def head(language: str) -> str:
    """Return what the bundled head reaches: sentences first, then the figures behind them."""
    found, chat = results(HEADS), results(CHAT)
    if found is None or chat is None:
        file = HEADS if found is None else CHAT
        return missing(language, file, MADE_BY[file])
    lines = headed(HEAD_COLUMNS[language])
    for name, row in found["samplers"].items():
        cells = [_said(name, language), f"{row['conditional_acceptance']:.2f}"]
        cells += [f"{row['mean_acceptance_length']:.2f}", f"{row['draft_cost_ratio']:.2f}"]
        lines.append(f"| {' | '.join([*cells, _ratio(row['speed_ratio'])])} |")
    sentences = [_summary(found, language), _beside(chat, language)]
    sources = [source(language, HEADS, found), source(language, CHAT, chat)]
    return "\n".join([*sentences, "", *lines, "", "\n\n".join(sources)])


def controlled(language: str) -> str:
    """Return the speed of speculation under controls, divided by that of plain decoding."""
    found = results(CONTROLLED)
    if found is None:
        return missing(language, CONTROLLED, MADE_BY[CONTROLLED])
    cases: dict[str, dict[str, Any]] = {}
    for row in found["rows"]:
        cases.setdefault(row["case"], {})[row["method"]] = row
    lines = headed(CASE_COLUMNS[language])
    for case, rows in cases.items():
        ratios = [figure(row["÷ plain"], "{:.2f}") for row in rows.values()]
        prompts = next(iter(rows.values()))["prompts"]
        lines.append(f"| {_said(case, language)} | {prompts} | {' | '.join(ratios)} |")
    return "\n".join([*lines, "", source(language, CONTROLLED, found)])


def _summary(found: Mapping[str, Any], language: str) -> str:
    greedy, nucleus = (found["samplers"][name] for name in ("greedy", "nucleus"))
    gamma = len(greedy["by_position"])
    _, low, high = nucleus["speed_ratio"]
    return SUMMARY[language].format(
        prompts=found["setting"]["prompts"],
        gamma=gamma,
        alpha=greedy["conditional_acceptance"],
        tau=greedy["mean_acceptance_length"],
        greedy=_ratio(greedy["speed_ratio"]),
        nucleus=_ratio(nucleus["speed_ratio"]),
        doubt=DOUBT[language] if low <= 1 <= high else "",
    )


def _beside(found: Mapping[str, Any], language: str) -> str:
    wanted = {"ours": "head", "theirs": "plain", "kind": "all", "decode_only": False}
    ratios = {
        name: next(one for one in its["ratios"] if wanted.items() <= one.items())
        for name, its in found["samplers"].items()
    }
    contenders = found["samplers"]["greedy"]["contenders"]
    gamma = next(one["draft"] for one in contenders if one["contender"] == "head")
    greedy, nucleus = (figure(ratios[name], "{:.2f}") for name in found["samplers"])
    prompts = found["setting"]["prompts"]
    return IN_CHAT[language].format(prompts=prompts, gamma=gamma, greedy=greedy, nucleus=nucleus)


def _ratio(three: list[float]) -> str:
    middle, low, high = three
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _said(words: str, language: str) -> str:
    return IN_CHINESE[words] if language == "zh" else words


BLOCKS: dict[str, Callable[[str], str]] = {"head": head, "controlled": controlled}
