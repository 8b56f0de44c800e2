"""Several methods on the same prompts, side by side, and transformers' own `generate` beside ours.

Every prompt is run with every method before the next prompt, in an order that rotates, so that a
machine whose speed drifts treats all alike. A ratio is the median, over prompts and rounds, of the
two methods' tokens per second on the same prompt in the same round.

Tokens per second count whole generations, prompt included, for all methods alike.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
import transformers
from transformers import DynamicCache, EncoderDecoderCache

from specdec import DecodingConfig, EncoderDecoderModel, Engine
from specdec.decoding import first_difference
from specdec.models.cache import cache_argument
from specdec.text import encode_prompt

Run = Callable[[str], list[int]]  # prompt → generated tokens
BASELINE, PEER = "target_ar", "transformers_generate"


@dataclass(frozen=True)
class Measured:
    """What the methods did, by their names.

    Attributes:
        prompts: that were run.
        speeds: tokens per second, one value a prompt and round, in the same order for all.
        outputs: the tokens of the first round, one list a prompt.
    """

    prompts: Sequence[str]
    speeds: dict[str, list[float]]
    outputs: dict[str, list[list[int]]]


def our_run(engine: Engine, method: str, config: DecodingConfig) -> Run:
    """Return a function that generates with one of our methods."""
    return lambda prompt: engine.generate(prompt, config, method=method).tokens


def peer_run(engine: Engine, length: int, *, assistant: Any = None) -> Run:
    """Return a function that generates greedily with transformers on the target's own weights.

    Args:
        engine: whose target's weights are used.
        length: most tokens to generate.
        assistant: a Hugging Face module that drafts, with transformers' own settings.
    """
    adapter, tokenizer = engine.target.model, engine.target.tokenizer
    model = adapter.model
    assisted = {} if assistant is None else {"assistant_model": assistant}

    def run(prompt: str) -> list[int]:
        tokens = encode_prompt(tokenizer, prompt)
        begin = adapter.start_tokens if isinstance(adapter, EncoderDecoderModel) else tokens
        ids = torch.tensor([tokens], device=model.device)  # [1, time]
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=length,
            do_sample=False,
            **assisted,
            **_memory(model),
        )
        generated: list[int] = out[0, len(begin) :].tolist()
        # Our text is decoded as it grows; theirs is decoded once, which is less work.
        tokenizer.decode(generated, skip_special_tokens=True)
        return generated

    return run


def _memory(model: Any) -> dict[str, Any]:
    """Return a cache for an encoder–decoder's `generate`, none for any other.

    The one that transformers 5.24 makes has as many layers as the encoder, so that it fails with a
    T5 whose decoder has more.
    """
    if not model.config.is_encoder_decoder:
        return {}
    return {cache_argument(model): EncoderDecoderCache(DynamicCache(), DynamicCache())}


def measure(runs: dict[str, Run], prompts: Sequence[str], rounds: int) -> Measured:
    """Run every method on every prompt, after a warm-up."""
    names = list(runs)
    for run in runs.values():
        run(prompts[0])
    speeds: dict[str, list[float]] = {name: [] for name in names}
    outputs: dict[str, list[list[int]]] = {name: [] for name in names}
    for turn in range(rounds * len(prompts)):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            begin = time.perf_counter()
            tokens = runs[name](prompts[turn % len(prompts)])
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            speeds[name].append(len(tokens) / (time.perf_counter() - begin))
            if turn < len(prompts):
                outputs[name].append(tokens)
    return Measured(prompts, speeds, outputs)


def row(measured: Measured, name: str, engine: Engine) -> dict[str, Any]:
    """Return a method's median speed, its ratios to both baselines, and how often it differs."""
    figures: dict[str, Any] = {
        "method": name,
        "tokens_per_second": median(measured.speeds[name]),
    }
    for other in (BASELINE, PEER):
        pairs = zip(measured.speeds[name], measured.speeds[other], strict=True)
        low, middle, high = quantiles((a / b for a, b in pairs), n=4)
        figures[f"ratio_to_{other}"] = middle
        figures[f"quartiles_to_{other}"] = [low, high]
    return figures | _differences(measured, name, engine)


def _differences(measured: Measured, name: str, engine: Engine) -> dict[str, int]:
    """Count the greedy outputs that are not Target AR's, and those that rounding explains."""
    found = [
        first_difference(engine.target.model, engine.encode(prompt), ours, baseline)
        for prompt, ours, baseline in zip(
            measured.prompts, measured.outputs[name], measured.outputs[BASELINE], strict=True
        )
    ]
    known = [difference for difference in found if difference is not None]
    return {
        "texts": len(found),
        "texts_that_differ": len(known),
        "near_ties": sum(difference.is_near_tie for difference in known),
    }


def report(measured: Measured, engine: Engine, out: Path | None = None, **settings: Any) -> None:
    """Print a table, then one JSON line with the machine and the settings; keep it as `out`."""
    rows = [row(measured, name, engine) for name in measured.speeds]
    width = max(len(name) for name in measured.speeds) + 2
    print(f"{'method':<{width}}{'tokens/s':>9}{'/ target AR':>22}{'/ transformers':>22}  same text")
    for r in rows:
        ratios = "".join(_ratio(r, other) for other in (BASELINE, PEER))
        same = f"{r['texts'] - r['texts_that_differ']}/{r['texts']}"
        if r["near_ties"]:
            same += f" ({r['near_ties']} near-ties)"
        print(f"{r['method']:<{width}}{r['tokens_per_second']:>9.1f}{ratios}  {same}")
    machine = {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "device": str(engine.target.model.device),
        "processor": platform.machine(),
        "commit": commit(),
    }
    found = {"machine": machine | settings, "rows": rows}
    print(json.dumps(found))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def commit() -> str:
    """Return the commit that was measured, or `unknown` outside a checkout."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def _ratio(figures: dict[str, Any], other: str) -> str:
    low, high = figures[f"quartiles_to_{other}"]
    return f"{figures[f'ratio_to_{other}']:>7.2f}x [{low:>5.2f}, {high:>5.2f}]"
