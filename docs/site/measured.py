"""Files in `benchmarks/results` → the tables of the documents. No measured number is typed."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from docs.site.names import method
from foredraft.files import read_text

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
COUNTED_IN_CHINESE = {
    **{"threads": r"\1 线程", "prompts": r"\1 个提示词", "rounds": r"\1 轮", "seeds": r"\1 个种子"},
    "length": r"长度 \1",
}
COUNTS = ("prompts", "rounds", "seeds", "length")  # told beside a table
FIXED = "speculative gamma=4"  # the documented baseline of EGAG
REAL, ROUNDING = "real.json", "rounding-smollm2.json"
MADE_BY = {
    REAL: "uv run python benchmarks/real.py --save",
    "real-chat.json": "uv run python benchmarks/real.py --chat --save",
    "controlled.json": "uv run python benchmarks/real.py --controls --save",
    "heads.json": "uv run python benchmarks/heads.py --save",
    ROUNDING: "uv run python benchmarks/rounding.py --save",
    "passes-bundled.json": "uv run python benchmarks/passes.py --save",
    "passes-smollm2.json": "uv run python benchmarks/passes.py --target smollm2 --save",
    "passes-bundled-avx2.json": "uv run python benchmarks/passes.py --save",
    "passes-smollm2-avx2.json": "uv run python benchmarks/passes.py --target smollm2 --save",
    "policies-bundled.json": "uv run python benchmarks/policies.py --save",
    "policies-smollm2.json": "uv run python benchmarks/policies.py --target smollm2 --save",
    "policies-bundled-seq2seq.json": (
        "uv run python benchmarks/policies.py --target bundled-seq2seq --rounds 6 --save"
    ),
    "egag-smollm2.json": "uv run python benchmarks/egag.py --save",
    "adversary.json": "uv run python benchmarks/adversary.py --save",
    "step-parts-bundled.json": "uv run python benchmarks/step_parts.py --save",
    "step-parts-smollm2.json": "uv run python benchmarks/step_parts.py --target smollm2 --save",
    "roofline-….json": "uv run python benchmarks/roofline.py --save",
    "verifiers.json": "uv run python benchmarks/verifiers.py --out benchmarks/results",
    "quick.json": "uv run python benchmarks/quick.py --out benchmarks/results/quick.json",
    "documented/summary.json": (
        "uv run foredraft ablate documented --out benchmarks/results/documented"
    ),
    "peers-….json": "uv run python benchmarks/peers.py --save",
    "seq2seq.json": "uv run python benchmarks/seq2seq.py --out benchmarks/results/seq2seq.json",
    "serve.json": "uv run --extra server python benchmarks/serve_load.py --save",
    "vllm.json": "runs/peers/vllm/bin/python benchmarks/in_vllm.py --save",
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
        cells = [method(row["method"], language), *(f"{r:.2f}" for r in medians)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", source(language, file, found)])


def machine(found: Any, *counts: str) -> str:
    """Return in short where a results file was made, and its note if it has one.

    The file itself says the rest: flags of the processor, system, all versions.

    Args:
        found: what the file holds.
        counts: of its setting, to be told too.
    """
    told = found.get("machine", {})
    facts = told | told.get("versions", {}) | found.get("setting", {})
    shown = [str(facts[name]) for name in ("processor",) if facts.get(name)]
    shown += [f"{name} {facts[name]}" for name in ("cuda", "threads", "torch") if facts.get(name)]
    if commit := facts.get("commit"):
        made_at, _, changed = commit.partition(" ")
        shown.append(made_at[:7] + ("+" if changed else ""))
    shown += [f"{name} {facts[name]}" for name in counts if facts.get(name)]
    return ", ".join(filter(None, (*shown, found.get("note")))) or "–"


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
    made = machine(found, *COUNTS)
    if language == "en":
        return f"Source: `benchmarks/results/{file}`; {made}"
    for words, chinese in COUNTED_IN_CHINESE.items():
        made = re.sub(rf"\b{words} (\d+)", chinese, made)
    return f"来源：`benchmarks/results/{file}`；{made.replace(', ', '，')}"


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


def maker(file: str) -> str | None:
    """Return the command that makes a results file; `…` in a name stands for a setting."""
    for name, command in MADE_BY.items():
        if fnmatch(file, name.replace("…", "*")):
            return command
    return None


def files() -> list[str]:
    """Return every results file there is, by its name without compression."""
    paths = [*RESULTS.glob("*.json*"), *RESULTS.glob("*/summary.json*")]
    return sorted({path.relative_to(RESULTS).as_posix().removesuffix(".xz") for path in paths})


def index(language: str) -> str:
    """Return every results file there is, or is to be, with its command and its machine."""
    head = {"zh": ("文件", "由什么生成", "机器、版本、提交"), "en": ("file", "made by", "where")}
    absent = {"zh": "尚未测量", "en": "not measured yet"}[language]
    lines = ["| " + " | ".join(head[language]) + " |", "|---|---|---|"]
    named = [file for file in MADE_BY if "…" not in file]
    for file in dict.fromkeys([*named, *files()]):
        where = machine(results(file)) if file in files() else absent
        lines.append(f"| `{file}` | `{maker(file) or '–'}` | {where} |")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[str], str]] = {
    "quick": quick,
    "seq2seq": seq2seq,
    "ablation": ablation,
    "results": index,
}
