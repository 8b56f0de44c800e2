"""Tokens per second and mean acceptance length of gamma policies and drafters, by kind of prompt.

Seventy prompts of four kinds, greedy and nucleus, on the bundled pair, in one interleaved run: each
prompt is run with every method before the next one, in an order that rotates, so that a machine
whose speed drifts treats all alike. Figures are over whole generations without their first step
(the prompt). The interval of a ratio is a bootstrap over prompts, 95 %.

The oracle knows the text and is there for greedy only; it is played with the lengths found
beforehand, so that it pays for no draft call in vain. The draft lengths of the drafters' own
comparison are `fixed(gamma=4)`, and `cost_aware`.

    uv run python benchmarks/policies.py [--quick] [--rounds 1] [--out benchmarks/results]

With `--resume FILE` every generation is noted as it is done, and what is noted is not run again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from foredraft import DecodingConfig, Engine
from foredraft.bench.machine import flags, processor
from foredraft.bench.prompt_sets import KINDS, PromptItem, load_prompts
from foredraft.core import StepRecord
from foredraft.decoding import Request, speculative_steps
from foredraft.files import append_whole, lines_of, read_text, write_whole
from foredraft.gamma import OracleGamma
from foredraft.models.threads import fit_threads
from foredraft.sampling import rng_for

PLAIN = "target_ar"
POLICIES = {
    **{f"fixed_{g}": {"policy": f"fixed(gamma={g})"} for g in (2, 4, 6, 8)},
    "heuristic": {"policy": "heuristic"},
    "confidence_0.4": {"policy": "confidence(threshold=0.4, gamma=20)"},
    "egag": {"egag": True, "egag_gamma_min": 1, "egag_gamma_max": 6, "egag_ema": 0.9},
    "svip": {"policy": "svip"},
    "adaedl": {"policy": "adaedl"},
    "cost_aware": {"policy": "cost_aware"},
}
DRAFTERS = {  # the draft model alone is what the policies above draft with
    f"{name}/{policy}": {"drafting": spec, "policy": policy}
    for name, spec in (
        ("nasd", "ngram"),
        ("prompt_lookup", "prompt_lookup"),
        ("suffix", "suffix"),
        ("hybrid", "hybrid(suffix, model)"),
    )
    for policy in ("fixed(gamma=4)", "cost_aware")
}
SAMPLERS = {"greedy": "greedy", "nucleus": "nucleus(temperature=0.8, top_p=0.9)"}
ORACLE = "oracle"
FIXED = tuple(name for name in POLICIES if name.startswith("fixed"))
RESAMPLES = 1000


@dataclass(frozen=True)
class Run:
    """One generation: tokens and seconds after its first step, and the steps they took."""

    kind: str
    prompt: str
    sampler: str
    method: str
    round: int
    tokens: int
    seconds: float
    steps: int
    emitted: int


def methods(sampler: str) -> dict[str, dict[str, Any]]:
    """Return what to compare under a sampler: settings by name."""
    oracle = {ORACLE: {}} if sampler == "greedy" else {}
    return {PLAIN: {}, **POLICIES, **DRAFTERS, **oracle}


def generate(
    engine: Engine, item: PromptItem, config: DecodingConfig, method: str, recorded: Any
) -> list[StepRecord]:
    """Return the steps of one generation."""
    if method == PLAIN:
        return list(engine.generate(item.prompt, config, method="target").records)
    if method != ORACLE:
        return list(engine.generate(item.prompt, config).records)
    parts = engine.speculation("speculative", config)
    lengths: list[int] | None = None
    for _ in range(2):  # once to find where drafts end, once without paying for it
        tokens = engine.encode(item.prompt)
        request = Request(
            parts.target.open(tokens),
            rng_for(config.seed, keyed=False),
            max_new_tokens=config.length,
            eos_token_ids=engine.target.eos_token_ids,
        )
        rule = OracleGamma(recorded, lengths)
        played = replace(parts, policy=rule)
        records = list(speculative_steps(played, request))
        lengths = [len(record.drafted) for record in records]
    return records


def measure(
    engine: Engine, items: list[PromptItem], rounds: int, done: set[tuple[Any, ...]]
) -> Iterator[Run]:
    """Yield every generation that is not yet done, interleaved."""
    turn = 0
    for number in range(rounds):
        for item in items:
            for sampler, spec in SAMPLERS.items():
                names = list(methods(sampler))
                base = DecodingConfig(length=item.length, sampler=spec, seed=1000 * number + 42)
                recorded = None
                if sampler == "greedy" and any(
                    (item.id, sampler, n, number) not in done for n in names
                ):
                    recorded = engine.generate(item.prompt, base, method="target").tokens
                turn += 1
                for i in range(len(names)):
                    name = names[(i + turn) % len(names)]
                    if (item.id, sampler, name, number) in done:
                        continue
                    config = base.replace(**methods(sampler)[name])
                    records = generate(engine, item, config, name, recorded)
                    later = records[1:]
                    yield Run(
                        item.kind,
                        item.id,
                        sampler,
                        name,
                        number,
                        tokens=sum(len(r.emitted) for r in later),
                        seconds=sum(r.seconds for r in later),
                        steps=len(records),
                        emitted=sum(len(r.emitted) for r in records),
                    )


def rate(runs: list[Run]) -> float:
    """Return tokens per second over all runs together."""
    seconds = sum(run.seconds for run in runs)
    return sum(run.tokens for run in runs) / seconds if seconds else 0.0


def ratio_interval(ours: list[Run], theirs: list[Run]) -> tuple[float, float, float]:
    """Return the ratio of two methods' rates on the same prompts, and its 95 % interval."""
    prompts = sorted({run.prompt for run in ours})
    by_prompt = [
        ([r for r in ours if r.prompt == p], [r for r in theirs if r.prompt == p]) for p in prompts
    ]
    source = random.Random(0)

    def ratio(pairs: list[tuple[list[Run], list[Run]]]) -> float:
        one = rate([run for pair in pairs for run in pair[0]])
        other = rate([run for pair in pairs for run in pair[1]])
        return one / other if other else 0.0

    resampled = sorted(ratio(source.choices(by_prompt, k=len(by_prompt))) for _ in range(RESAMPLES))
    low, high = resampled[int(0.025 * RESAMPLES)], resampled[int(0.975 * RESAMPLES) - 1]
    return ratio(by_prompt), low, high


def rows(runs: list[Run]) -> list[dict[str, Any]]:
    """Return the figures of every sampler, kind and method; kind `all` is over all prompts."""
    found = []
    for sampler in SAMPLERS:
        for kind in (*KINDS, "all"):
            chosen = [r for r in runs if r.sampler == sampler and kind in (r.kind, "all")]
            plain = [r for r in chosen if r.method == PLAIN]
            for method in methods(sampler):
                ours = [r for r in chosen if r.method == method]
                if not ours or not plain:
                    continue
                ratio, low, high = ratio_interval(ours, plain)
                found.append(
                    {
                        "sampler": sampler,
                        "kind": kind,
                        "method": method,
                        "tokens_per_second": rate(ours),
                        "mean_acceptance_length": sum(r.emitted for r in ours)
                        / sum(r.steps for r in ours),
                        "ratio_to_target_ar": ratio,
                        "interval": [low, high],
                    }
                )
    return found


def claims(runs: list[Run]) -> list[dict[str, Any]]:
    """Return the comparisons that matter, as ratios with intervals; ≥ 1 within it is "not slower".

    `cost_aware` against the best fixed gamma of each kind, and against EGAG; each hybrid against
    the better of its two parts under the same policy.
    """
    found = []
    for sampler in SAMPLERS:
        for kind in (*KINDS, "all"):
            chosen = [r for r in runs if r.sampler == sampler and kind in (r.kind, "all")]
            of = {m: [r for r in chosen if r.method == m] for m in methods(sampler)}
            pairs = [("cost_aware", max(FIXED, key=lambda m: rate(of[m]))), ("cost_aware", "egag")]
            for policy, alone in (("fixed(gamma=4)", "fixed_4"), ("cost_aware", "cost_aware")):
                better = max((f"suffix/{policy}", alone), key=lambda m: rate(of[m]))
                pairs.append((f"hybrid/{policy}", better))
            for ours, theirs in pairs:
                if of[ours] and of[theirs]:
                    ratio, low, high = ratio_interval(of[ours], of[theirs])
                    found.append(
                        {"sampler": sampler, "kind": kind, "method": ours, "against": theirs}
                        | {"ratio": ratio, "interval": [low, high], "not_slower": high >= 1}
                    )
    return found


def table(figures: list[dict[str, Any]], compared: list[dict[str, Any]]) -> str:
    """Return figures and comparisons as two Markdown tables."""
    lines = [
        "| sampler | prompts | method | tokens/s | tokens/step | / Target AR | 95 % |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for row in figures:
        low, high = row["interval"]
        lines.append(
            f"| {row['sampler']} | {row['kind']} | {row['method']} "
            f"| {row['tokens_per_second']:.1f} | {row['mean_acceptance_length']:.2f} "
            f"| {row['ratio_to_target_ar']:.2f} | {low:.2f} … {high:.2f} |"
        )
    lines += ["", "| sampler | prompts | method | against | ratio | 95 % | not slower |"]
    lines.append("|---|---|---|---|---:|---|---|")
    for row in compared:
        low, high = row["interval"]
        lines.append(
            f"| {row['sampler']} | {row['kind']} | {row['method']} | {row['against']} "
            f"| {row['ratio']:.3f} | {low:.3f} … {high:.3f} "
            f"| {'yes' if row['not_slower'] else 'no'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the tables and one JSON line, and write them on request."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="passes over the prompts [1]")
    parser.add_argument("--quick", action="store_true", help="two prompts a kind, 30 tokens each")
    parser.add_argument("--resume", type=Path, help="file in which generations are noted")
    parser.add_argument("--out", type=Path, help="folder for policies.md and policies.json")
    args = parser.parse_args()

    items = list(load_prompts())
    if args.quick:
        items = [
            PromptItem(i.id, i.kind, i.prompt, 30)
            for kind in KINDS
            for i in [item for item in items if item.kind == kind][:2]
        ]
    runs: list[Run] = []
    if args.resume and args.resume.exists():
        runs = [Run(**json.loads(line)) for line in lines_of(read_text(args.resume, torn=True))]
    done = {(r.prompt, r.sampler, r.method, r.round) for r in runs}

    engine = Engine.load()
    fit_threads(engine.target.threads)
    engine.warm_up()
    for run in measure(engine, items, args.rounds, done):
        runs.append(run)
        if args.resume:
            append_whole(args.resume, (json.dumps(vars(run)) + "\n").encode())

    figures, compared = rows(runs), claims(runs)
    shown = table(figures, compared)
    machine = {
        "torch": torch.__version__.split("+")[0],
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "flags": flags(),
        "prompts": len(items),
        "rounds": args.rounds,
    }
    result = json.dumps({"machine": machine, "rows": figures, "claims": compared})
    print(shown)
    print(result)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        about = f"{machine}; made by `benchmarks/policies.py`"
        head = f"# Gamma policies and drafters\n\n{about}.\n\n"
        write_whole(args.out / "policies.md", head + shown + "\n")
        write_whole(args.out / "policies.json", result + "\n")


if __name__ == "__main__":
    main()
