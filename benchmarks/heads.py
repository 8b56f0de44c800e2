"""What a head brings on chat prompts that were never trained on: how much stands, at what price.

Fifty open questions written for this file's prompts go through the target's chat template, each
with the head at gamma 4 and without it, one after the other. Conditional acceptance is the share of
judged draft tokens that stand, of the first, second, … token too; the mean acceptance length is
tokens a step; the draft cost ratio is the median time of a draft call, of that of a step of plain
decoding.

    uv run python benchmarks/heads.py [--target smollm2] [--drafter auto] [--save]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tables import RESULTS, check_least, keep, markdown, parser_of

from foredraft import DecodingConfig, Engine, ForedraftError
from foredraft.bench.intervals import compare
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import load_prompts
from foredraft.core import Completion, StepRecord
from foredraft.models import HeadModel
from foredraft.threads import fit_threads
from foredraft.tracing import summarize
from foredraft.zoo.head_card import conditional_by_position

PROMPTS = str(Path(__file__).parent / "prompts" / "chat.jsonl")
GAMMA = 4
SAMPLERS = {"greedy": "greedy", "nucleus": "nucleus(temperature=0.8, top_p=0.9)"}


def speed(done: Completion) -> float:
    """Return tokens per second of a whole generation."""
    return len(done.tokens) / sum(record.seconds for record in done.records)


def measured(engine: Engine, prompts: Sequence[str], length: int, sampler: str) -> dict[str, Any]:
    """Return what a sampler's texts say."""
    records, alone = list[StepRecord](), list[StepRecord]()
    speeds: dict[str, dict[str, float]] = {"head": {}, "plain": {}}
    unequal = 0
    for number, prompt in enumerate(prompts):
        config = DecodingConfig(
            chat=True, length=length, sampler=sampler, seed=number, gamma=GAMMA, drafting="model"
        )
        order = ("head", "plain") if number % 2 else ("plain", "head")
        done = {
            name: engine.generate(
                prompt, config, method="speculative" if name == "head" else "target"
            )
            for name in order
        }
        for name, completion in done.items():
            speeds[name][str(number)] = speed(completion)
        records += done["head"].records
        alone += done["plain"].records[1:]  # the first reads the prompt
        unequal += done["head"].tokens != done["plain"].tokens
    summary, places = summarize(records), conditional_by_position(records)
    calls = [r.draft_seconds / r.num_draft_calls for r in records if r.num_draft_calls]
    compared = compare(speeds["head"], speeds["plain"])
    assert compared is not None
    ratio = compared.speedup
    return {
        "conditional_acceptance": summary.conditional_acceptance_rate,
        "by_position": places,
        "mean_acceptance_length": summary.mean_acceptance_length,
        "draft_cost_ratio": median(calls) / median(r.verify_seconds for r in alone),
        "speed_ratio": [ratio.value, ratio.low, ratio.high],
        "texts_unequal": unequal if sampler == "greedy" else None,
    }


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    setting = found["setting"]
    rows = [
        {
            "sampler": name,
            "conditional acceptance": f"{one['conditional_acceptance']:.3f}",
            "by place": ", ".join(f"{p:.2f}" for p in one["by_position"]),
            "tokens a step": f"{one['mean_acceptance_length']:.2f}",
            "draft call ÷ plain step": f"{one['draft_cost_ratio']:.3f}",
            "speed ÷ plain": "{:.3f} [{:.3f}, {:.3f}]".format(*one["speed_ratio"]),
        }
        for name, one in found["samplers"].items()
    ]
    unequal = found["samplers"]["greedy"]["texts_unequal"]
    return (
        f"- Target {setting['target']}, drafter {setting['drafter']}, gamma {GAMMA}; "
        f"{setting['prompts']} prompts, up to {setting['length']} tokens.\n"
        f"- Machine: {place(found)}.\n"
        f"- Greedy texts that are not plain decoding's: {unequal}.\n\n{markdown(rows)}"
    )


def main(arguments: list[str]) -> None:
    """Measure and print the table, then one JSON line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--target", default="smollm2", help="[%(default)s]")
    add("--drafter", default="auto", help="a head: its folder or name [%(default)s]")
    add("--prompts", type=int, default=50, help="[%(default)s]")
    add("--length", type=int, default=128, help="most tokens a text [%(default)s]")
    add("--save", action="store_true", help="write benchmarks/results/heads.{json,md}")
    args = parser.parse_args(arguments)
    check_least(parser, args, prompts=1, length=2)
    try:
        engine = Engine.load(args.target, args.drafter)
    except ForedraftError as error:
        parser.error(str(error))
    if engine.drafter is None or not isinstance(engine.drafter.model, HeadModel):
        parser.error(f"there is no head for {args.target}; name one with --drafter FOLDER")
    fit_threads(engine.target.threads)
    engine.warm_up()
    prompts = [item.prompt for item in load_prompts([PROMPTS], max_prompts=args.prompts)]
    found = {
        "machine": describe_machine(),
        "setting": {
            **{"target": args.target, "drafter": engine.drafter.name},
            **{"prompts": len(prompts), "length": args.length},
        },
        "samplers": {
            name: measured(engine, prompts, args.length, spec) for name, spec in SAMPLERS.items()
        },
    }
    text = rendered(found)
    print(text)
    if args.save:
        title = "# A head on chat prompts\n\nMade by `benchmarks/heads.py`."
        keep(RESULTS / "heads.json", found, f"{title}\n\n{text}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
