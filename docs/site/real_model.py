"""The tables of the real model, and of the bundled pair beside other libraries."""

from __future__ import annotations

import re
from collections.abc import Callable

from docs.site.measured import (
    MADE_BY,
    REAL,
    ROUNDING,
    figure,
    headed,
    missing,
    results,
    source,
)
from docs.site.names import contender, method, word, words

PEERS = "peers-cpu-float32.json"
PEERS_BY = MADE_BY["peers-….json"]

BOUNDS_IN_CHINESE = {
    "plain decoding ÷ llama.cpp, same file": "普通解码 ÷ llama.cpp，同一文件",
    "plain decoding ÷ OpenVINO GenAI, same file": "普通解码 ÷ OpenVINO GenAI，同一文件",
    "pass over 5 tokens ÷ pass over 1": "读 5 个 token 的前向计算 ÷ 读 1 个",
    "reading a prompt of 256 tokens ÷ llama.cpp": "读 256 个 token 的提示词 ÷ llama.cpp",
    "n-gram or suffix speculation ÷ plain, copying and code": (
        "n 元组或后缀匹配 ÷ 普通解码，复制与代码"
    ),
    "the same ÷ OpenVINO's prompt lookup": "同上 ÷ OpenVINO 的提示词查找",
    "bundled target in float32, no matrix tiles: pass over 5 ÷ pass over 1": (
        "内置目标模型，float32，不用矩阵块指令：读 5 个 ÷ 读 1 个"
    ),
    "from the command to the first token, imports apart, seconds": (
        "从输入命令到首个 token，不计导入，秒"
    ),
}
VERDICTS = {"met": "达到", "missed": "未达到", "not measured": "未测量"}
HOW_IN_CHINESE = {
    r"decoding alone, all kinds": "只算解码，全部类别",
    r"(\d+) of each in turns, (\d+) tokens before": r"各 \1 次，轮流，前面有 \2 个 token",
    r"(\d+) of each in turns": r"各 \1 次，轮流",
    r"(\d+) tokens, (\d+) times": r"\1 个 token，\2 次",
    r"suffix, decoding alone \(÷ plain, whole generations: ([\d.]+)\)": (
        r"后缀匹配，只算解码（整次生成 ÷ 普通解码：\1）"
    ),
    r"loading and first token, (\d+) new processes": r"加载与首个 token，\1 个新进程",
    r"it is left out": "未参加",
}


def real(language: str) -> str:
    """Return the speed of every contender of `benchmarks/real.py` on a real model, greedy."""
    found = results(REAL)
    if found is None:
        return missing(language, REAL, MADE_BY[REAL])
    head = {
        "zh": (
            "",
            "整次生成，token/秒",
            "只算解码，token/秒",
            "首个 token，毫秒",
            "峰值内存（其中导入），MB",
        ),
        "en": (
            "",
            "tokens/s, whole",
            "tokens/s, decoding alone",
            "first token, ms",
            "peak (of imports), MB",
        ),
    }[language]
    lines = headed(head)
    for row in found["samplers"]["greedy"]["contenders"]:
        names = ("tokens_per_second", "decode_tokens_per_second", "time_to_first_token_ms")
        cells = [
            contender(row["contender"], language),
            *(figure(row[name], "{:.0f}") for name in names),
        ]
        held = [row[name] or "–" for name in ("peak_memory_mb", "of_imports_mb")]
        lines.append(f"| {' | '.join(cells)} | {held[0]} ({held[1]}) |")
    made = [f"{source(language, REAL, found)}; {found['machine']['flags']}"]
    others = sorted({one for one in found["versions"].values() if "foredraft" not in one})
    return "\n".join([*lines, "", "; ".join([*made, *others])])


def real_ratios(language: str) -> str:
    """Return its ratios of decoding alone by kind of prompt, and all of nucleus sampling."""
    found = results(REAL)
    if found is None:
        return missing(language, REAL, MADE_BY[REAL])
    cells = {
        (sampler, one["ours"], one["theirs"], one["kind"]): figure(one, "{:.2f}")
        for sampler, measured in found["samplers"].items()
        for one in measured["ratios"]
        if one["decode_only"]
    }
    pairs = list(dict.fromkeys((ours, theirs) for _, ours, theirs, _ in cells))
    kinds = list(dict.fromkeys(kind for *_, kind in cells))
    lines = headed((*words(["ratio", *kinds], language), f"nucleus, {word('all', language)}"))
    for ours, theirs in pairs:
        row = [cells.get(("greedy", ours, theirs, kind), "–") for kind in kinds]
        row.append(cells.get(("nucleus", ours, theirs, "all"), "–"))
        lines.append(
            f"| {contender(ours, language)} ÷ {contender(theirs, language)} | {' | '.join(row)} |"
        )
    return "\n".join(lines)


def real_bounds(language: str) -> str:
    """Return how quick it must be, each bound beside what it was."""
    found = results(REAL)
    if found is None:
        return missing(language, REAL, MADE_BY[REAL])
    head = {
        "zh": ("", "要求", "测得", "", "怎么测"),
        "en": ("", "wanted", "measured", "", "how"),
    }[language]
    lines = headed(head)
    for row in found["bounds"]:
        shown = "–" if row["measured"] is None else figure(row["measured"], "{:.2f}")
        what, verdict, how = (row[name] for name in ("what", "verdict", "how"))
        if language == "zh":
            what, verdict, how = BOUNDS_IN_CHINESE[what], VERDICTS[verdict], _how(how)
        lines.append(f"| {what} | {row['bound']} | {shown} | {verdict} | {how} |")
    return "\n".join(lines)


def _how(told: str) -> str:
    """Return how a bound was measured, in Chinese; numbers stay."""
    for pattern, chinese in HOW_IN_CHINESE.items():
        told = re.sub(pattern, chinese, told)
    return told


def rounding(language: str) -> str:
    """Return how far 8-bit activations are from float32 ones, ours and llama.cpp's."""
    found = results(ROUNDING)
    if found is None:
        return missing(language, ROUNDING, MADE_BY[ROUNDING])
    head = {
        "zh": ("", "每个 token 的平均 KL，nat", "贪心选择相同"),
        "en": ("", "mean KL a token, nats", "equal greedy choices"),
    }[language]
    lines = headed(head)
    lines += [
        f"| {contender(who, language)} | {one['mean_kl_nats']:.2e} | "
        f"{one['equal_greedy_share']:.2%} |"
        for who, one in found["figures"].items()
    ]
    return "\n".join([*lines, "", source(language, ROUNDING, found)])


def peers(language: str) -> str:
    """Return the ratios to other libraries by kind of prompt, in float32."""
    found = results(PEERS)
    return missing(language, PEERS, PEERS_BY) if found is None else _peers(language, PEERS)


def _peers(language: str, file: str) -> str:
    found = results(file)
    ratios = [r for r in found["ratios"] if not r["decode_only"]]
    kinds = list(dict.fromkeys(r["kind"] for r in ratios))
    lines = headed(tuple(words(["ratio", *kinds], language)))
    for ours, theirs in dict.fromkeys((r["ours"], r["theirs"]) for r in ratios):
        row = {r["kind"]: r for r in ratios if (r["ours"], r["theirs"]) == (ours, theirs)}
        shown = " | ".join(f"{row[k]['median']:.2f}" if k in row else "–" for k in kinds)
        pair = f"{method(ours, language)} ÷ {method(theirs, language)}"
        lines.append(f"| {pair} | {shown} |")
    return "\n".join([*lines, "", source(language, file, found)])


BLOCKS: dict[str, Callable[[str], str]] = {
    "real": real,
    "real-ratios": real_ratios,
    "real-bounds": real_bounds,
    "rounding": rounding,
    "peers": peers,
}
