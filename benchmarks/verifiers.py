"""Mean acceptance length of each verification rule, by temperature and gamma, on the bundled pair.

Every cell decodes the same prompts with the same seeds, no two generations with the same seed:
`multinomial(temperature=T)`. The mean acceptance length is emitted tokens / steps, the target's own
token included: plain decoding is 1. It does not depend on the machine. The error is the standard
error over generations.

    uv run python benchmarks/verifiers.py [--seeds 5] [--length 60] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from math import sqrt
from pathlib import Path
from statistics import mean, variance

from prompts import PROMPTS
from rich.console import Console
from rich.progress import track
from side_by_side import machine_of

from foredraft import DecodingConfig, Engine, summarize
from foredraft.core import StepRecord
from foredraft.files import write_whole
from foredraft.models.threads import fit_threads

TEMPERATURES = (0.5, 1.0, 1.5)
GAMMAS = (4, 8)
VERIFIERS = ("rejection", "block", "coupled", "exact_match")
Cell = tuple[float, int, str]  # temperature, gamma, verifier


def generations(engine: Engine, cell: Cell, seeds: int, length: int) -> Iterable[list[StepRecord]]:
    """Yield the steps of every prompt with every seed."""
    temperature, gamma, verifier = cell
    config = DecodingConfig(
        sampler=f"multinomial(temperature={temperature})",
        gamma=gamma,
        verifier=verifier,
        length=length,
        first_target=False,
    )
    for seed in range(seeds * len(PROMPTS)):  # no two generations share their randomness
        prompt = PROMPTS[seed % len(PROMPTS)]
        yield list(engine.generate(prompt, config.replace(seed=seed)).records)


def acceptance_length(texts: list[list[StepRecord]]) -> tuple[float, float]:
    """Return emitted / steps over all texts, and its standard error as of a ratio of sums."""
    tau = summarize([record for records in texts for record in records]).mean_acceptance_length
    assert tau is not None
    steps = [len(records) for records in texts]
    emitted = [sum(len(record.emitted) for record in records) for records in texts]
    residuals = [e - tau * s for e, s in zip(emitted, steps, strict=True)]
    return tau, sqrt(variance(residuals) / len(texts)) / mean(steps)


def table(found: dict[Cell, tuple[float, float]]) -> str:
    """Return the results as a Markdown table, a row a temperature and gamma."""
    lines = [
        f"| temperature | gamma | {' | '.join(VERIFIERS)} | block / rejection |",
        f"|---|---|{'---:|' * (len(VERIFIERS) + 1)}",
    ]
    for temperature in TEMPERATURES:
        for gamma in GAMMAS:
            cells = [found[temperature, gamma, verifier] for verifier in VERIFIERS]
            shown = " | ".join(f"{tau:.3f} ± {error:.3f}" for tau, error in cells)
            ratio = cells[1][0] / cells[0][0]
            lines.append(f"| {temperature} | {gamma} | {shown} | {ratio:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write it with its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="generations a prompt [5]")
    parser.add_argument("--length", type=int, default=60, help="most tokens a generation [60]")
    parser.add_argument("--out", type=Path, help="folder for verifiers.md and verifiers.json")
    args = parser.parse_args()

    engine = Engine.load()
    fit_threads(engine.target.threads)
    cells = [(t, g, v) for t in TEMPERATURES for g in GAMMAS for v in VERIFIERS]
    found = {
        cell: acceptance_length(list(generations(engine, cell, args.seeds, args.length)))
        for cell in track(cells, "acceptance", console=Console(stderr=True))
    }
    shown = table(found)
    print(shown)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        about = f"{len(PROMPTS)} prompts × {args.seeds} seeds, up to {args.length} tokens each"
        head = f"# Mean acceptance length\n\n{about}; made by `benchmarks/verifiers.py`.\n\n"
        write_whole(args.out / "verifiers.md", head + shown + "\n")
        figures = [
            {"temperature": t, "gamma": g, "verifier": v, "tau": tau, "standard_error": error}
            for (t, g, v), (tau, error) in found.items()
        ]
        settings = {"prompts": len(PROMPTS), "seeds": args.seeds, "length": args.length}
        made = {"machine": machine_of(engine) | settings, "rows": figures}
        write_whole(args.out / "verifiers.json", json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
