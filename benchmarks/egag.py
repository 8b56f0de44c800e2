"""EGAG on a real model: entropy-adaptive lengths beside fixed ones, plain decoding, entropy_cost.

Every prompt is run with every method, greedily and with nucleus sampling, before the next prompt,
each time in another order. Speeds leave out the first step, which reads the prompt; a ratio is a
geometric mean over prompts with its bootstrap 95 % interval. What was to be compared was decided
beforehand: EGAG (1, 6, 0.9) with a fixed length of 4.

    uv run python benchmarks/egag.py [--target smollm2] [--drafter auto] [--save]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tables import RESULTS, check_least, keep, markdown, parser_of

from foredraft import DecodingConfig, Engine, ForedraftError
from foredraft.bench.intervals import Comparison, compare
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem, load_prompts
from foredraft.core import StepRecord
from foredraft.threads import fit_threads
from foredraft.tracing import summarize

PROMPTS = str(Path(__file__).parent / "prompts" / "real.jsonl")
SAMPLERS = {"greedy": "greedy", "nucleus": "nucleus(temperature=0.8, top_p=0.9)"}
PLAIN, BASELINE, EGAG = "plain", "fixed, gamma 4", "EGAG (1, 6, 0.9)"
CONFIG = DecodingConfig(chat=True, drafting="model", seed=0)
METHODS = {
    PLAIN: ("target", CONFIG),
    "fixed, gamma 1": ("speculative", CONFIG.replace(gamma=1)),
    "fixed, gamma 2": ("speculative", CONFIG.replace(gamma=2)),
    BASELINE: ("speculative", CONFIG.replace(gamma=4)),
    EGAG: (
        "speculative",
        CONFIG.replace(egag=True, egag_gamma_min=1, egag_gamma_max=6, egag_ema=0.9),
    ),
    "entropy_cost": ("speculative", CONFIG.replace(policy="entropy_cost")),
}
SHARES = (0.05, 0.5, 0.95)  # quantiles of the normalised entropy


class Played:
    """What a method did on all prompts of a sampler."""

    def __init__(self) -> None:
        self.records = list[StepRecord]()
        self.speeds = dict[str, float]()  # by prompt
        self.texts = list[list[int]]()

    def figures(self, plain: Played, baseline: Played) -> dict[str, Any]:
        """Return what the table shows, beside plain decoding and the fixed length."""
        summary = summarize(self.records)
        felt = [r.normalized_entropy for r in self.records if r.normalized_entropy is not None]
        return {
            "speed / plain": _ratio(compare(self.speeds, plain.speeds)),
            "speed / fixed, gamma 4": _ratio(compare(self.speeds, baseline.speeds)),
            "tokens a step": summary.mean_acceptance_length,
            "acceptance_rate": summary.acceptance_rate,
            "mean_gamma": summary.mean_gamma,
            "draft calls a step": summary.num_draft_calls / summary.num_steps,
            "entropy": [float(one) for one in np.quantile(felt, SHARES)] if felt else None,
        }


def _ratio(found: Comparison | None) -> dict[str, Any]:
    assert found is not None
    ratio = found.speedup
    return {"median": ratio.value, "low": ratio.low, "high": ratio.high, "word": found.word}


def measured(engine: Engine, prompts: Sequence[PromptItem], sampler: str) -> dict[str, Any]:
    """Return every method's figures under a sampler, and which wrote other texts than plain's."""
    played = {name: Played() for name in METHODS}
    names = list(METHODS)
    for turn, item in enumerate(prompts):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            method, config = METHODS[name]
            config = config.replace(length=item.length, sampler=sampler)
            done = engine.generate(item.prompt, config, method=method)
            speed = summarize(done.records).tokens_per_second
            played[name].texts.append(done.tokens)
            played[name].records += done.records
            if speed is not None:  # else there was one step alone
                played[name].speeds[item.id] = speed
    plain, baseline = played[PLAIN], played[BASELINE]
    return {
        "methods": {name: one.figures(plain, baseline) for name, one in played.items()},
        "unequal": [name for name, one in played.items() if one.texts != plain.texts],
    }


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = [
        {
            "sampler": sampler,
            "method": name,
            "÷ plain": one["speed / plain"],
            "÷ fixed, gamma 4": one["speed / fixed, gamma 4"],
            "tokens a step": one["tokens a step"],
            "acceptance": one["acceptance_rate"],
            "mean gamma": one["mean_gamma"],
            "draft calls a step": one["draft calls a step"],
            "H / ln V, 5 … 50 … 95 %": ", ".join(f"{h:.3f}" for h in one["entropy"] or ()) or None,
        }
        for sampler, its in found["samplers"].items()
        for name, one in its["methods"].items()
    ]
    setting, unequal = found["setting"], found["samplers"]["greedy"]["unequal"]
    return (
        f"- Target {setting['target']}, drafter {setting['drafter']}; {setting['prompts']} prompts "
        f"of five kinds, up to {setting['length']} tokens.\n- Machine: {place(found)}.\n"
        f"- Methods whose greedy texts are not plain decoding's: {', '.join(unequal) or 'none'}.\n"
        f"\n{markdown(rows, '{:.3f}')}"
    )


def main(arguments: list[str]) -> None:
    """Measure and print the table, then one JSON line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--target", default="smollm2", help="[%(default)s]")
    add("--drafter", default="auto", help="a head or a draft model [%(default)s]")
    add("--prompts", type=int, default=4, metavar="N", help="of each kind [%(default)s]")
    add("--length", type=int, default=96, help="most tokens a text [%(default)s]")
    add("--save", action="store_true", help="write benchmarks/results/egag-TARGET.{json,md}")
    args = parser.parse_args(arguments)
    check_least(parser, args, prompts=1, length=2)
    try:
        engine = Engine.load(args.target, args.drafter)
        items = load_prompts([PROMPTS], max_prompts=args.prompts, max_length=args.length)
    except ForedraftError as error:
        parser.error(str(error))
    if engine.drafter is None:
        parser.error(f"there is no drafter for {args.target}; name one with --drafter")
    fit_threads(engine.target.threads)
    engine.warm_up()
    found = {
        "machine": describe_machine(),
        "setting": {
            **{"target": args.target, "drafter": engine.drafter.name},
            **{"prompts": len(items), "length": args.length},
        },
        "samplers": {name: measured(engine, items, spec) for name, spec in SAMPLERS.items()},
    }
    text = rendered(found)
    print(text)
    if args.save:
        title = "# EGAG beside fixed lengths\n\nMade by `benchmarks/egag.py`."
        keep(RESULTS / f"egag-{args.target}.json", found, f"{title}\n\n{text}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
