"""Tokens per second of our methods and of transformers' own `generate`, on the same weights.

Every prompt is run with every method before the next prompt, in an order that rotates, so that a
machine whose speed drifts treats all alike. A ratio is the median, over prompts and rounds, of the
two methods' tokens per second on the same prompt in the same round.

Tokens per second count whole generations, prompt included, for all methods alike.

    uv run python benchmarks/quick.py [--rounds 3] [--length 60] [--device cpu] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import torch
from prompts import PROMPTS

from specdec import DecodingConfig, Engine, LoadOptions
from specdec.text import encode_prompt

Run = Callable[[str], int]  # prompt → number of generated tokens

CONFIG = DecodingConfig()
OURS = {
    "target_ar": ("target", CONFIG),
    "speculative_gamma_4": ("speculative", CONFIG.replace(gamma=4)),
    "egag_1_6_0.9": (
        "speculative",
        CONFIG.replace(egag=True, egag_gamma_min=1, egag_gamma_max=6, egag_ema=0.9),
    ),
    "nasd_basic_3_filler_3": (
        "ngram",
        CONFIG.replace(ngramstorage="basic", ngram_order=3, top_k_filler=3),
    ),
}
BASELINE, PEER = "target_ar", "transformers_generate"


def our_run(engine: Engine, method: str, config: DecodingConfig) -> Run:
    """Return a function that generates with one of our methods."""
    return lambda prompt: len(engine.generate(prompt, config, method=method).tokens)


def peer_run(engine: Engine, length: int) -> Run:
    """Return a function that generates greedily with transformers on the target's own weights."""
    model, tokenizer = engine.target.model.model, engine.target.tokenizer

    def run(prompt: str) -> int:
        ids = torch.tensor([encode_prompt(tokenizer, prompt)], device=model.device)
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, max_new_tokens=length, do_sample=False)
        # Our text is decoded as it grows; theirs is decoded once, which is less work.
        tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        return out.shape[1] - ids.shape[1]

    return run


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Return tokens per second by method, one value a prompt and round, in the same order."""
    names, speeds = list(runs), {name: [] for name in runs}
    for turn in range(rounds * len(PROMPTS)):
        prompt = PROMPTS[turn % len(PROMPTS)]
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            begin = time.perf_counter()
            tokens = runs[name](prompt)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            speeds[name].append(tokens / (time.perf_counter() - begin))
    return speeds


def row(name: str, speeds: dict[str, list[float]]) -> dict[str, object]:
    """Return one method's figures: median speed, and ratios to the two baselines."""
    figures: dict[str, object] = {"method": name, "tokens_per_second": median(speeds[name])}
    for other in (BASELINE, PEER):
        ratios = [a / b for a, b in zip(speeds[name], speeds[other], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        figures[f"ratio_to_{other}"] = median(ratios)
        figures[f"quartiles_to_{other}"] = [low, high]
    return figures


def commit() -> str:
    """Return the commit that was measured, or `unknown` outside a checkout."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def main() -> None:
    """Measure and print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="passes over the prompts [3]")
    parser.add_argument("--length", type=int, default=60, help="most tokens a prompt [60]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for quick.json")
    args = parser.parse_args()

    engine = Engine.load(options=LoadOptions(device=args.device))
    runs = {
        name: our_run(engine, method, config.replace(length=args.length))
        for name, (method, config) in OURS.items()
    } | {PEER: peer_run(engine, args.length)}
    for run in runs.values():
        run(PROMPTS[0])  # warm-up
    speeds = measure(runs, args.rounds)

    rows = [row(name, speeds) for name in runs]
    print(f"{'method':<24}{'tokens/s':>10}{'/ target AR':>14}{'/ transformers':>16}")
    for r in rows:
        print(
            f"{r['method']:<24}{r['tokens_per_second']:>10.1f}"
            f"{r[f'ratio_to_{BASELINE}']:>13.2f}x{r[f'ratio_to_{PEER}']:>15.2f}x"
        )
    machine = {
        "torch": torch.__version__.split("+")[0],
        "threads": torch.get_num_threads(),
        "device": str(engine.target.model.device),
        "processor": platform.machine(),
        "prompts": len(PROMPTS),
        "rounds": args.rounds,
        "length": args.length,
        "commit": commit(),
    }
    print(json.dumps({"machine": machine, "rows": rows}))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        found = json.dumps({"machine": machine, "rows": rows}, indent=1)
        (args.out / "quick.json").write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
