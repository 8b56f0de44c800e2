"""Mean acceptance length of each verification rule, by temperature and gamma, on the bundled pair.

Every cell decodes the same prompts with the same seeds, no two generations with the same seed:
`multinomial(temperature=T)`. The mean acceptance length is emitted tokens / steps, the target's own
token included: plain decoding is 1. It does not depend on the machine. The error is the standard
error over generations.

    uv run python benchmarks/verifiers.py [--prompts 5] [--seeds 5] [--out benchmarks/results]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, variance

from rich.console import Console
from rich.progress import track
from tables import keep, markdown, parser_of

from foredraft import DecodingConfig, Engine, summarize
from foredraft.bench.machine import describe_machine
from foredraft.bench.prompt_sets import PromptItem, load_prompts
from foredraft.core import StepRecord
from foredraft.threads import fit_threads

TEMPERATURES = (0.5, 1.0, 1.5)
GAMMAS = (4, 8)
VERIFIERS = ("rejection", "block", "coupled", "exact_match")
Cell = tuple[float, int, str]  # temperature, gamma, verifier


def generations(
    engine: Engine, cell: Cell, items: Sequence[PromptItem], seeds: int
) -> Iterable[list[StepRecord]]:
    """Yield the steps of every prompt with every seed."""
    temperature, gamma, verifier = cell
    sampler = f"multinomial(temperature={temperature})"
    config = DecodingConfig(sampler=sampler, gamma=gamma, verifier=verifier, first_target=False)
    for seed in range(seeds * len(items)):  # no two generations share their randomness
        item = items[seed % len(items)]
        told = config.replace(seed=seed, length=item.length)
        yield list(engine.generate(item.prompt, told).records)


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
    rows = []
    for temperature in TEMPERATURES:
        for gamma in GAMMAS:
            cells = {rule: found[temperature, gamma, rule] for rule in VERIFIERS}
            row = {"temperature": str(temperature), "gamma": gamma}
            row |= {rule: f"{tau:.3f} ± {error:.3f}" for rule, (tau, error) in cells.items()}
            rows.append(row | {"block / rejection": cells["block"][0] / cells["rejection"][0]})
    return markdown(rows, "{:.3f}")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write it with its figures."""
    parser = parser_of(__doc__)
    parser.add_argument("--prompts", type=int, default=5, help="of each kind [5]")
    parser.add_argument("--seeds", type=int, default=5, help="generations a prompt [5]")
    parser.add_argument("--length", type=int, default=60, help="most tokens a generation [60]")
    parser.add_argument("--out", type=Path, help="folder for verifiers.md and verifiers.json")
    args = parser.parse_args(arguments)

    engine = Engine.load()
    fit_threads(engine.target.threads)
    items = load_prompts(max_prompts=args.prompts, max_length=args.length)
    cells = [(t, g, v) for t in TEMPERATURES for g in GAMMAS for v in VERIFIERS]
    found = {
        cell: acceptance_length(list(generations(engine, cell, items, args.seeds)))
        for cell in track(cells, "acceptance", console=Console(stderr=True))
    }
    shown = table(found)
    print(shown)
    if args.out:
        about = f"{len(items)} prompts × {args.seeds} seeds, up to {args.length} tokens each"
        head = f"# Mean acceptance length\n\n{about}; made by `benchmarks/verifiers.py`.\n\n"
        figures = [
            {"temperature": t, "gamma": g, "verifier": v, "tau": tau, "standard_error": error}
            for (t, g, v), (tau, error) in found.items()
        ]
        setting = {"prompts": len(items), "seeds": args.seeds, "length": args.length}
        made = {"machine": describe_machine(), "setting": setting, "rows": figures}
        keep(args.out / "verifiers.json", made, head + shown)


if __name__ == "__main__":
    main()
