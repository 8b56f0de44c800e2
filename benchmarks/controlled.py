"""What speculation brings where something bends the text: each ÷ plain decoding bent alike.

Four cases on a real model, greedy, through its chat template: a repetition penalty of 1.2 on open
prompts; recipes that obey a JSON schema; files that are to be printed with a name changed, with the
file as the prediction, which a small model seldom follows; and predictions that it does follow but
for one word in thirty: its own answers, edited. Each prompt is decoded by all methods in turns; a
ratio is a geometric mean over prompts with its bootstrap 95 % interval. All texts of a prompt are
the same, or the table says so.

    uv run python benchmarks/real.py --controls [--rounds 3] [--prompts 5] [--save]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies import ratio
from side_by_side import Clock, Measured, Run, measure, our_run
from tables import RESULTS, keep, markdown

from foredraft import DecodingConfig, Engine
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem, load_prompts
from foredraft.files import read_text
from foredraft.threads import fit_threads

HERE = Path(__file__).parent
PROMPTS = HERE / "prompts" / "real.jsonl"
SCHEMA = HERE.parent / "examples" / "recipe.schema.json"
DISHES = (
    *("pancakes", "tomato soup", "an apple pie", "a green salad", "fried rice"),
    *("lentil stew", "banana bread", "an omelette", "roast potatoes", "lemonade"),
)
FILE = re.compile(r"```python\n(.*?)```", re.DOTALL)
NAME = re.compile(r"(?:def|class) (\w+)")
BASE = DecodingConfig(chat=True, seed=0)
LENGTH, LENGTH_OF_JSON = 128, 400
EDITED = 30  # words
PLAIN, AUTO = "plain", "auto"
METHODS = {  # name → method and what is set
    PLAIN: ("target", {}),
    "NASD": ("ngram", {"gamma": 4}),
    "suffix": ("speculative", {"drafting": "suffix", "gamma": 8}),
    AUTO: ("speculative", {"drafting": "auto"}),
}


def recipes(each: int) -> list[PromptItem]:
    """Return prompts for recipes."""
    return [
        PromptItem(f"recipe-{dish}", "JSON", f"Give me a recipe for {dish}.", LENGTH_OF_JSON)
        for dish in DISHES[:each]
    ]


def files(each: int) -> dict[PromptItem, str]:
    """Return prompts that ask for a file with one name changed, and the file as it was."""
    found = {}
    for item in load_prompts([str(PROMPTS)]):
        block, name = FILE.search(item.prompt), NAME.search(item.prompt)
        if block and name:
            asked = f"Print this file again with `{name[1]}` renamed to `{name[1]}2`:"
            prompt = f"{asked}\n\n{block[0]}"
            found[replace(item, kind="prediction", prompt=prompt, length=2 * LENGTH)] = block[0]
    return dict(list(found.items())[:each])


def edited(text: str) -> str:
    """Return a text with one word in `EDITED` spelt backwards."""
    words = re.split(r"(\s+)", text)  # words, and between them what is between them
    for i in range(EDITED, len(words), 2 * EDITED):
        words[i] = words[i][::-1]
    return "".join(words)


def cases(engine: Engine, each: int) -> dict[str, dict[PromptItem, DecodingConfig]]:
    """Return how prompts are decoded, by the name of the case."""

    def answer(item: PromptItem) -> str:
        config = BASE.replace(length=item.length)
        return edited(engine.generate(item.prompt, config, method="target").text)

    every = load_prompts([str(PROMPTS)], max_length=LENGTH)
    chats = [item for item in every if item.kind in ("chat", "summary")]
    penalised = BASE.replace(repetition_penalty=1.2)
    bound = BASE.replace(json_schema=read_text(SCHEMA))
    return {
        "repetition penalty 1.2": dict.fromkeys(chats[: 2 * each], penalised),
        "JSON schema": dict.fromkeys(recipes(2 * each), bound),
        "a file as prediction": {
            item: BASE.replace(prediction=file) for item, file in files(2 * each).items()
        },
        "an edited answer as prediction": {
            item: BASE.replace(prediction=answer(item)) for item in chats[: 2 * each]
        },
    }


def run_of(
    engine: Engine, method: str, settings: dict[str, Any], configs: dict[str, DecodingConfig]
) -> Run:
    """Return a function that generates with a method, each prompt as its config says."""

    def run(item: PromptItem, clock: Clock) -> list[int]:
        return our_run(engine, method, configs[item.id].replace(**settings))(item, clock)

    return run


def rows(name: str, measured: Measured) -> Iterable[dict[str, Any]]:
    """Yield what each method brought in a case."""
    for method in list(METHODS)[1:]:
        yield {
            "case": name,
            "method": method,
            "prompts": len(measured.prompts),
            "÷ plain": ratio(measured.by_prompt(method), measured.by_prompt(PLAIN)),
            "texts alike": measured.outputs(method) == measured.outputs(PLAIN),
        }


def measure_controls(model: str, *, rounds: int, each: int, is_kept: bool) -> None:
    """Measure, print a table and one JSON line, and keep them on request."""
    engine = Engine.load(model, None)
    fit_threads(engine.target.threads)
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "setting": {"target": model, "rounds": rounds},
        "rows": [],
    }
    for name, configs in cases(engine, each).items():
        by_id = {item.id: config for item, config in configs.items()}
        runs = {key: run_of(engine, *value, by_id) for key, value in METHODS.items()}
        found["rows"] += rows(name, measure(runs, list(configs), rounds))
    text = f"{place(found)}\n\n{markdown(found['rows'], '{:.3f}')}"
    print(text)
    print(json.dumps(found))
    if is_kept:
        title = "# Speculation under controls\n\nMade by `benchmarks/real.py --controls`.\n\n"
        keep(RESULTS / "controlled.json", found, title + text)
