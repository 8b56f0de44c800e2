"""Gamma policies and drafters beside plain decoding and beside each other, by kind of prompt.

What was to be compared was decided beforehand: `cost_aware` with the best fixed gamma of each kind
and with EGAG; each hybrid with the better of its two parts under the same policy. Speeds are of
whole generations; a ratio is a geometric mean over prompts with its bootstrap 95 % interval. The
run is that of a grid, survives interrupts, and has a report of its own:

    uv run foredraft ablate benchmarks/grids/policies.toml --out runs/policies
    uv run python benchmarks/policies.py runs/policies [--out benchmarks/results]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tables import keep, markdown, parser_of

from foredraft import ForedraftError
from foredraft.bench.analysis import Analysis, Finding, analyse
from foredraft.bench.cells import TARGET
from foredraft.bench.folder import RunFolder
from foredraft.bench.grid_file import load_grid
from foredraft.bench.intervals import Interval

GRID = Path(__file__).parent / "grids" / "policies.toml"
COST_AWARE, EGAG, FIXED = "policy policy=cost_aware", "EGAG", "fixed gamma="
DRAFTER = "drafter drafting={} policy={}"
HYBRID = "hybrid(suffix, model)"
SAME = Interval(1.0, 1.0, 1.0)  # Target AR beside itself
ALONE = {"fixed(gamma=4)": "fixed gamma=4", "cost_aware": COST_AWARE}  # the draft model's own cells


def rows_of(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return every cell's speed, tokens a step, and ratio to Target AR."""
    speedups = [
        f.comparisons[TARGET].speedup if TARGET in f.comparisons else SAME for f in findings
    ]
    return [
        {
            "sampler": sampler_of(f),
            "kind": f.kind,
            "method": f.label,
            "tokens_per_second": f.mean("throughput_tokens_per_second"),
            "mean_acceptance_length": f.mean("mean_acceptance_length"),
            "ratio_to_target_ar": speedup.value,
            "interval": [speedup.low, speedup.high],
        }
        for f, speedup in zip(findings, speedups, strict=True)
    ]


def sampler_of(finding: Finding) -> str:
    """Return the sampler's name."""
    return finding.condition.removeprefix("sampler=").split("(")[0]


def claims_of(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the comparisons that matter, with intervals."""
    found = []
    for kind in dict.fromkeys(f.kind for f in analysis.findings):
        for condition in analysis.conditions:
            cells = {f.label: f for f in analysis.of(kind=kind, condition=condition)}
            for ours, theirs in _pairs(cells):
                speedup = cells[ours].comparisons[theirs].speedup
                about = {"sampler": sampler_of(cells[ours]), "kind": kind}
                about |= {"method": ours, "against": theirs, "ratio": speedup.value}
                found.append(about | {"interval": [speedup.low, speedup.high]})
    return found


def _pairs(cells: dict[str, Finding]) -> list[tuple[str, str]]:
    def quickest(labels: Sequence[str]) -> str:
        return max(labels, key=lambda label: cells[label].mean("throughput_tokens_per_second") or 0)

    fixed = [label for label in cells if label.startswith(FIXED)]
    pairs = [(COST_AWARE, quickest(fixed)), (COST_AWARE, EGAG)]
    for policy, alone in ALONE.items():
        suffix = DRAFTER.format("suffix", policy)
        pairs.append((DRAFTER.format(HYBRID, policy), quickest([suffix, alone])))
    return pairs


def _in_cells(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose interval is one cell."""
    ends = [["–" if v is None else f"{v:.2f}" for v in row["interval"]] for row in rows]
    return [row | {"interval": " … ".join(e)} for row, e in zip(rows, ends, strict=True)]


def main(arguments: list[str] | None = None) -> None:
    """Print the tables of a finished run and one JSON line, and write them on request."""
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path, help="folder of a run of benchmarks/grids/policies.toml")
    parser.add_argument("--out", type=Path, help="folder for policies.md and policies.json")
    args = parser.parse_args(arguments)
    grid = load_grid(str(GRID))
    try:
        folder = RunFolder(args.run, grid, resume=True)
    except ForedraftError as error:
        parser.error(str(error))
    labels = tuple(dict.fromkeys(cell.label for cell in grid.cells))
    analysis = analyse(replace(grid, references=labels), folder.rows)
    rows, claims = rows_of(analysis.findings), claims_of(analysis)
    shown = "\n\n".join(markdown(_in_cells(table), "{:.2f}") for table in (rows, claims))
    setting = {"prompts": len(grid.prompts), "rounds": len(grid.seeds)}
    machine = folder.manifest["sittings"][-1]["machine"]
    found = {"machine": machine, "setting": setting, "rows": rows, "claims": claims}
    print(shown)
    print(json.dumps(found))
    if args.out:
        head = "# Gamma policies and drafters\n\nMade by `benchmarks/policies.py`.\n\n"
        keep(args.out / "policies.json", found, head + shown)


if __name__ == "__main__":
    main()
