"""Where speculation cannot pay: `auto` beside plain decoding, which it must not lose to.

Five cases on the bundled pair: a drafter of noise (its weights are random, its time is real),
sampling at temperature 1.5, translation, texts of 8 tokens, and prompts of one word. Each prompt is
decoded with both in turns; a ratio is a geometric mean over prompts with its bootstrap 95 %
interval.

    uv run python benchmarks/adversary.py [--rounds 3] [--save]
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from policies import AUTO, PLAIN, drafting, ratio
from side_by_side import CONFIG, Measured, measure, our_run
from tables import RESULTS, check_least, keep, markdown, parser_of

from foredraft import DecodingConfig, Engine
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem, load_prompts
from foredraft.loading import LoadedModel, LoadOptions, load, load_drafter
from foredraft.loading.runtime import can_fuse
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel
from foredraft.threads import fit_threads

MOST = 20  # prompts of a case
WORDS = (
    *("The", "A", "She", "He", "They", "Once", "When", "If", "It", "There"),
    *("My", "We", "In", "On", "After", "Today", "Why", "How", "Then", "One"),
)
HOT = CONFIG.replace(sampler="multinomial(temperature=1.5)", seed=0)


def noise(engine: Engine) -> Engine:
    """Return the pair with a draft model of the same shape whose weights are random."""
    module = load("bundled", "drafter", LoadOptions(runtime="transformers")).model.model
    torch.manual_seed(0)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    network = (FusedModel if can_fuse() else NativeModel)(module)
    loaded = load_drafter("bundled", engine.target, LoadOptions())
    return Engine(
        engine.target,
        LoadedModel("noise", network, loaded.tokenizer, loaded.eos_token_ids),
    )


def cases(engine: Engine) -> dict[str, tuple[Engine, DecodingConfig, list[PromptItem]]]:
    """Return who decodes which prompts how, by the name of the case."""
    stories = list(load_prompts(["dialogue", "long"], max_prompts=MOST // 2, max_length=80))
    short = [replace(one, length=8) for one in load_prompts(["dialogue"], max_prompts=MOST)]
    words = [PromptItem(f"word-{word}", "word", word, 60) for word in WORDS]
    return {
        "a drafter of noise": (noise(engine), CONFIG, stories),
        "temperature 1.5": (engine, HOT, stories),
        "translation": (engine, CONFIG, list(load_prompts(["translation"], max_prompts=MOST))),
        "texts of 8 tokens": (engine, CONFIG, short),
        "prompts of one word": (engine, CONFIG, words),
    }


def row(name: str, measured: Measured) -> dict[str, Any]:
    """Return a case's ratio."""
    return {
        "case": name,
        "prompts": len(measured.prompts),
        "auto / plain": ratio(measured.by_prompt(AUTO), measured.by_prompt(PLAIN)),
    }


def main() -> None:
    """Measure, print a table and one JSON line, and keep them on request."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="passes over the prompts [3]")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/adversary.*")
    args = parser.parse_args()
    check_least(parser, args, rounds=1)
    engine = Engine.load()
    fit_threads(engine.target.threads)
    rows = []
    for name, (pair, config, items) in cases(engine).items():
        method, settings = drafting(AUTO, sampler=config.sampler, seed=config.seed)
        runs = {
            PLAIN: our_run(pair, "target", config),
            AUTO: our_run(pair, method, settings),
        }
        rows.append(row(name, measure(runs, items, args.rounds)))
    found = {"machine": describe_machine(), "setting": {"rounds": args.rounds}, "rows": rows}
    text = f"{place(found)}\n\n{markdown(rows, '{:.3f}')}"
    print(text)
    print(json.dumps(found))
    if args.save:
        title = "# Where speculation cannot pay\n\nMade by `benchmarks/adversary.py`.\n\n"
        keep(RESULTS / "adversary.json", found, title + text)


if __name__ == "__main__":
    main()
