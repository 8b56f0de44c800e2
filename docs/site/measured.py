"""Files in `benchmarks/results` → the tables of the documents. No measured number is typed."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foredraft.bench.machine import place
from foredraft.files import read_text

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
LABELS = {
    "target_ar": "Target AR",
    "speculative_gamma_4": "Speculative, gamma 4",
    "egag_1_6_0.9": "EGAG (1, 6, 0.9)",
    "nasd_basic_3_filler_3": "NASD (basic 3, filler 3)",
    "transformers_generate": "transformers `generate`",
}
FIXED = "speculative gamma=4"  # the documented baseline of EGAG
REAL, ROUNDING = "real.json", "rounding-smollm2.json"
CONTENDERS = {
    "plain": "foredraft, plain",
    "nasd": "foredraft, NASD",
    "suffix": "foredraft, suffix",
    "prompt_lookup": "foredraft, prompt lookup",
    "hybrid": "foredraft, hybrid(suffix, ngram)",
    "head": "foredraft, head",
    "auto": "foredraft, auto with head",
    "transformers": "transformers, bfloat16",
    "transformers_lookup": "transformers, bfloat16, prompt lookup",
    "llamacpp": "llama.cpp",
    "llamacpp_lookup": "llama.cpp, prompt lookup",
    "openvino": "OpenVINO GenAI",
    "openvino_lookup": "OpenVINO GenAI, prompt lookup",
    "ours": "foredraft",
}
MADE_BY = {
    REAL: "uv run python benchmarks/real.py --save",
    ROUNDING: "uv run python benchmarks/rounding.py --save",
    "verifiers.json": "uv run python benchmarks/verifiers.py --out benchmarks/results",
    "quick.json": "uv run python benchmarks/quick.py --out benchmarks/results/quick.json",
    "policies-bundled.json": "uv run python benchmarks/policies.py --save",
    "policies-smollm2.json": "uv run python benchmarks/policies.py --target smollm2 --save",
    "serve.json": "uv run --extra server python benchmarks/serve_load.py --save",
    "adversary.json": "uv run python benchmarks/adversary.py --save",
    "step-parts-bundled.json": "uv run python benchmarks/step_parts.py --save",
    "step-parts-smollm2.json": "uv run python benchmarks/step_parts.py --target smollm2 --save",
    "documented/summary.json": (
        "uv run foredraft ablate documented --out benchmarks/results/documented"
    ),
    "peers-….json": "uv run python benchmarks/peers.py --save",
    "seq2seq.json": "uv run python benchmarks/seq2seq.py --out benchmarks/results/seq2seq.json",
}
MISSING = {
    "zh": "*尚未测量：`benchmarks/results/{file}` 不存在；运行 `{command}` 会生成它。*",
    "en": "*Not measured yet: there is no `benchmarks/results/{file}`; `{command}` makes it.*",
}


def results(file: str) -> Any:
    """Return what a results file holds; None when it does not exist."""
    path = RESULTS / file
    packed = path.with_name(f"{path.name}.xz")  # what is large lies compressed
    if not path.exists() and packed.exists():
        return json.loads(lzma.decompress(packed.read_bytes()))
    return json.loads(read_text(path)) if path.exists() else None


def missing(language: str, file: str, command: str) -> str:
    """Return the sentence that stands where a measurement is still to be made."""
    return MISSING[language].format(file=file, command=command)


def speeds(language: str, file: str, command: str) -> str:
    """Return a file of `benchmarks/side_by_side.py`: ratios to the two baselines, and where."""
    found = results(file)
    if found is None:
        return missing(language, file, command)
    head = ("方法" if language == "zh" else "method", "× Target AR", "× transformers `generate`")
    lines = ["| " + " | ".join(head) + " |", "|---|---:|---:|"]
    for row in found["rows"]:
        ratios = [row[f"ratio_to_{other}"] for other in ("target_ar", "transformers_generate")]
        medians = [r["median"] if isinstance(r, dict) else r for r in ratios]  # with an interval
        cells = [LABELS.get(row["method"], row["method"]), *(f"{r:.2f}" for r in medians)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", source(language, file, found)])


def machine(found: Any) -> str:
    """Return what a results file says about where it was made, and its note if it has one."""
    return ", ".join(filter(None, (place(found), found.get("note")))) or "–"


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
        cells = [CONTENDERS[row["contender"]], *(figure(row[name], "{:.0f}") for name in names)]
        held = [row[name] or "–" for name in ("peak_memory_mb", "of_imports_mb")]
        lines.append(f"| {' | '.join(cells)} | {held[0]} ({held[1]}) |")
    return "\n".join([*lines, "", source(language, REAL, found)])


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
    ratio = "比值" if language == "zh" else "ratio"
    lines = headed((ratio, *kinds, "nucleus, all"))
    for ours, theirs in pairs:
        row = [cells.get(("greedy", ours, theirs, kind), "–") for kind in kinds]
        row.append(cells.get(("nucleus", ours, theirs, "all"), "–"))
        lines.append(f"| {CONTENDERS[ours]} ÷ {CONTENDERS[theirs]} | {' | '.join(row)} |")
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
        lines.append(
            f"| {row['what']} | {row['bound']} | {shown} | {row['verdict']} | {row['how']} |"
        )
    return "\n".join(lines)


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
        f"| {CONTENDERS[who]} | {one['mean_kl_nats']:.2e} | {one['equal_greedy_share']:.2%} |"
        for who, one in found["figures"].items()
    ]
    return "\n".join([*lines, "", source(language, ROUNDING, found)])


def headed(head: tuple[str, ...]) -> list[str]:
    """Return the first lines of a table whose first column holds names and the others figures."""
    return ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]


def figure(found: dict[str, Any], form: str) -> str:
    """Return a median, with its interval where it has one."""
    middle, *ends = (found[name] for name in ("median", "low", "high"))
    if middle is None:
        return "–"
    told = [form.format(end) for end in ends if end is not None]
    return form.format(middle) + (f" [{', '.join(told)}]" if told else "")


def source(language: str, file: str, found: Any) -> str:
    """Return the line below a table: its file, and where it was made."""
    label = "来源：" if language == "zh" else "Source: "
    return f"{label}`benchmarks/results/{file}`; {machine(found)}"


def tables(language: str, files: Sequence[str], table: Callable[[Any, str], list[str]]) -> str:
    """Return a table for each results file, with its source, or what makes it.

    Args:
        language: of the page.
        files: JSON.
        table: its lines, of what a file holds and a language.
    """
    parts = []
    for file in files:
        if (found := results(file)) is None:
            parts.append(missing(language, file, MADE_BY[file]))
        else:
            parts.append("\n".join([*table(found, language), "", source(language, file, found)]))
    return "\n\n".join(parts)


def quick(language: str) -> str:
    """Return the ratios of `benchmarks/quick.py`."""
    return speeds(language, "quick.json", MADE_BY["quick.json"])


def seq2seq(language: str) -> str:
    """Return the ratios of `benchmarks/seq2seq.py`."""
    return speeds(language, "seq2seq.json", MADE_BY["seq2seq.json"])


def peers(language: str) -> str:
    """Return the ratios to other libraries, one table a results file of `benchmarks/peers.py`."""
    files = sorted(path.name for path in RESULTS.glob("peers-*.json"))
    if not files:
        return missing(language, "peers-….json", MADE_BY["peers-….json"])
    return "\n\n".join(_peers(language, file) for file in files)


def _peers(language: str, file: str) -> str:
    found = results(file)
    ratios = [r for r in found["ratios"] if not r["decode_only"]]
    kinds = list(dict.fromkeys(r["kind"] for r in ratios))
    label = "比值" if language == "zh" else "ratio"
    lines = [f"| {label} | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
    for ours, theirs in dict.fromkeys((r["ours"], r["theirs"]) for r in ratios):
        row = {r["kind"]: r for r in ratios if (r["ours"], r["theirs"]) == (ours, theirs)}
        shown = " | ".join(f"{row[k]['median']:.2f}" if k in row else "–" for k in kinds)
        lines.append(f"| `{ours}` / `{theirs}` | {shown} |")
    return "\n".join([*lines, "", source(language, file, found)])


def ablation(language: str) -> str:
    """Return the documented matrix: every cell over all prompts beside two others."""
    found = results("documented/summary.json")
    if found is None:
        return missing(language, "documented/summary.json", MADE_BY["documented/summary.json"])
    head = {
        "zh": ("采样", "方法", "× Target AR", "× 固定 γ = 4", "接受率", "平均 γ"),
        "en": ("sampler", "method", "× Target AR", "× fixed γ = 4", "acceptance", "mean γ"),
    }[language]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|---|---:|---:|"]
    for finding in found["findings"]:
        if finding["kind"] != "all":
            continue
        compared = [finding["comparisons"].get(other) for other in ("target", FIXED)]
        means = finding["means"]
        numbers = [means.get(name, {}).get("mean") for name in ("acceptance_rate", "mean_gamma")]
        cells = [
            finding["condition"].removeprefix("sampler=").split("(")[0],
            f"`{finding['label']}`",
            *(_with_interval(c["speedup"]) if c else "–" for c in compared),
            "–" if numbers[0] is None else f"{numbers[0]:.0%}",
            "–" if numbers[1] is None else f"{numbers[1]:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    source = "来源：" if language == "zh" else "Source: "
    return "\n".join([*lines, "", f"{source}`benchmarks/results/documented/`; {machine(found)}"])


def _with_interval(speedup: dict[str, float]) -> str:
    return f"{speedup['value']:.2f} [{speedup['low']:.2f}, {speedup['high']:.2f}]"


def index(language: str) -> str:
    """Return every results file there is, or is to be, with its command and its machine."""
    head = {"zh": ("文件", "由什么生成", "机器、版本、提交"), "en": ("file", "made by", "where")}
    absent = {"zh": "尚未测量", "en": "not measured yet"}[language]
    lines = ["| " + " | ".join(head[language]) + " |", "|---|---|---|"]
    paths = [*RESULTS.glob("*.json*"), *RESULTS.glob("*/summary.json*")]
    present = sorted(path.relative_to(RESULTS).as_posix().removesuffix(".xz") for path in paths)
    for file in dict.fromkeys([*MADE_BY, *present]):
        if "…" in file:  # a pattern; its files are listed one by one
            continue
        where = machine(results(file)) if file in present else absent
        maker = MADE_BY.get("peers-….json" if file.startswith("peers-") else file)
        command = f"`{maker}`" if maker else "–"
        lines.append(f"| `{file}` | {command} | {where} |")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[str], str]] = {
    "real": real,
    "real-ratios": real_ratios,
    "real-bounds": real_bounds,
    "rounding": rounding,
    "quick": quick,
    "seq2seq": seq2seq,
    "peers": peers,
    "ablation": ablation,
    "results": index,
}
