"""Files in `benchmarks/results` → the tables of the documents. No measured number is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
LABELS = {
    "target_ar": "Target AR",
    "speculative_gamma_4": "Speculative, gamma 4",
    "egag_1_6_0.9": "EGAG (1, 6, 0.9)",
    "nasd_basic_3_filler_3": "NASD (basic 3, filler 3)",
    "transformers_generate": "transformers `generate`",
}
MISSING = {
    "zh": "*尚未测量：`benchmarks/results/{file}` 不存在；运行 `{command}` 会生成它。*",
    "en": "*Not measured yet: there is no `benchmarks/results/{file}`; `{command}` makes it.*",
}


def results(file: str) -> Any:
    """Return what a results file holds; None when it does not exist."""
    path = RESULTS / file
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def missing(language: str, file: str, command: str) -> str:
    """Return the sentence that stands where a measurement is still to be made."""
    return MISSING[language].format(file=file, command=command)


def verifiers(language: str) -> str:
    """Return the mean acceptance length of each verifier, a row a temperature and gamma."""
    cells = {(c["temperature"], c["gamma"], c["verifier"]): c for c in results("verifiers.json")}
    rules = list(dict.fromkeys(rule for _, _, rule in cells))
    lines = [
        f"| temperature | gamma | {' | '.join(rules)} | block / rejection |",
        f"|---|---|{'---:|' * (len(rules) + 1)}",
    ]
    for temperature, gamma in dict.fromkeys((t, g) for t, g, _ in cells):
        row = [cells[temperature, gamma, rule] for rule in rules]
        shown = " | ".join(f"{c['tau']:.3f} ± {c['standard_error']:.3f}" for c in row)
        token, block = (cells[temperature, gamma, rule]["tau"] for rule in ("rejection", "block"))
        lines.append(f"| {temperature} | {gamma} | {shown} | {block / token:.3f} |")
    return "\n".join(lines)


def quick(language: str) -> str:
    """Return tokens per second of `benchmarks/quick.py`, as ratios to the two baselines."""
    found = results("quick.json")
    if found is None:
        return missing(
            language,
            "quick.json",
            "uv run python benchmarks/quick.py --out benchmarks/results/quick.json",
        )
    head = ("方法" if language == "zh" else "method", "× Target AR", "× transformers `generate`")
    lines = ["| " + " | ".join(head) + " |", "|---|---:|---:|"]
    lines += [
        f"| {LABELS.get(row['method'], row['method'])} | {row['ratio_to_target_ar']:.2f} "
        f"| {row['ratio_to_transformers_generate']:.2f} |"
        for row in found["rows"]
    ]
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    source = "来源" if language == "zh" else "source"
    return "\n".join([*lines, "", f"{source}: `benchmarks/results/quick.json`; {machine}"])
