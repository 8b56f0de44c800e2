"""How near decoding comes to what the memory allows, and where the time of a step goes.

At batch 1 a pass must at least read the weights once, and the keys and values of the context. The
bound is what this machine's memory can read, measured here: the best of a sum and a copy over
arrays no smaller than the weights (a model whose weights fit a cache is bounded by the cache).
A speculative step must read the draft model once a call and the target once; with the measured
acceptance that bounds speculation.

    uv run python benchmarks/roofline.py [--dtype bfloat16] [--device cuda] [--padded 1e9] [--save]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import contenders as c
import tables
import torch
from bandwidth import MOST_BYTES, SIZES, bandwidth, rate_for, seconds
from side_by_side import BASELINE
from tables import markdown

from foredraft import DecodingConfig, Engine, ForedraftError, Network, StepRecord
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem, load_prompts
from foredraft.logits import likeliest

LENGTHS = range(1, 10)  # of a verification pass, in tokens


@dataclass(frozen=True)
class Cost:
    """What one pass over a model must read."""

    weights: int  # bytes of all weights, without an embedding that is not the output layer too
    cached: int  # bytes of keys and values of the context

    @property
    def total(self) -> int:
        """Bytes a pass."""
        return self.weights + self.cached


def cost_of(network: Any, model: Network, context: int) -> Cost:
    """Return the cost of a pass over a Hugging Face module at a context, in tokens.

    The model, the same as it is computed, knows how wide weights and keys lie in memory.
    """
    config = network.config
    count = sum(p.numel() for p in network.parameters())
    if not config.tie_word_embeddings:
        count -= network.get_input_embeddings().weight.numel()
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * context
    itemsize = model.dtype.itemsize
    return Cost(int(count * (model.weight_bytes or itemsize)), cached * itemsize)


def pass_seconds(model: Network, context: int, count: int, repeats: int) -> float:
    """Return the median time of a pass over `count` tokens after `context` others."""
    tokens = [5 + i % 1000 for i in range(context + count)]
    text = model.open(tokens[:context])
    text.extend(text.begin)

    def step() -> None:
        text.extend(tokens[context:], keep=count)
        text.rollback_to(context)

    return median(seconds(step, repeats, model.device))


@dataclass(frozen=True)
class Decoded:
    """Steps of several generations, without the first of each, which reads the prompt."""

    records: list[StepRecord]  # of those steps
    seconds: float  # wall time of those steps, with all that is around them

    @property
    def num_tokens(self) -> int:
        """Tokens emitted."""
        return sum(len(record.emitted) for record in self.records)

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.num_tokens / self.seconds

    @property
    def acceptance_length(self) -> float:
        """Tokens a step."""
        return self.num_tokens / len(self.records)


def decode(engine: Engine, method: str, gamma: int, items: Sequence[PromptItem]) -> Decoded:
    """Decode prompts and keep the steps after the first."""
    engine.warm_up()
    records, elapsed = list[StepRecord](), 0.0
    for item in items:
        config = DecodingConfig(length=item.length, gamma=gamma)
        chunks = iter(engine.stream(item.prompt, config, method=method))
        next(chunks)
        begin = time.perf_counter()
        records += [chunk.record for chunk in chunks]
        elapsed += time.perf_counter() - begin
    return Decoded(records, elapsed)


@dataclass(frozen=True)
class Timings:
    """Direct timings of the forward passes, in seconds."""

    verify: dict[int, float]  # of the target, by number of tokens
    draft: float  # of the draft model, one token
    choose: float  # of taking the likeliest token of `gamma + 1` rows


def timings(engine: Engine, context: int, gamma: int, repeats: int) -> Timings:
    """Time the passes of target and draft model at a context."""
    target, drafter = engine.target.model, engine.drafter
    assert drafter is not None
    lengths = sorted({*LENGTHS, gamma + 1})
    verify = {k: pass_seconds(target, context, k, repeats) for k in lengths}
    logits = torch.randn(gamma + 1, target.vocab_size, device=target.device, dtype=target.dtype)
    choose = median(seconds(lambda: likeliest(logits), repeats, target.device))
    return Timings(verify, pass_seconds(drafter.model, context, 1, repeats), choose)


def profile(done: Decoded, timed: Timings) -> dict[str, float]:
    """Return the mean seconds of a step by part; they add up to the whole step.

    The forward passes and the choice are timed directly; what the records have beyond them is
    Python and small operations, and what the wall clock has beyond the records is around the loop.
    The draft model reads the prompt in a generation's first draft; that is in its rest.
    """
    records = done.records
    draft = fmean(r.num_draft_calls for r in records) * timed.draft
    verify = fmean(timed.verify[len(r.drafted) + 1] for r in records)
    drafting = fmean(r.draft_seconds for r in records)
    verifying = fmean(r.verify_seconds for r in records)
    return {
        "draft: forward passes": draft,
        "draft: rest": drafting - draft,
        "verify: forward pass": verify,
        "verify: likeliest tokens": timed.choose,
        "verify: rest": verifying - verify - timed.choose,
        "around the loop": done.seconds / len(records) - drafting - verifying,
    }


def bounds(
    decoded: dict[str, Decoded], costs: dict[str, Cost], rates: dict[int, float]
) -> list[dict[str, Any]]:
    """Return what the memory allows each method, what it reaches, and its share."""
    target, drafter = (c_.total / rate_for(c_.weights, rates) for c_ in costs.values())
    rows = []
    for name, done in decoded.items():
        calls = fmean(r.num_draft_calls for r in done.records)
        bound = done.acceptance_length / (target + calls * drafter)
        row = {"method": name, "tokens_a_step": done.acceptance_length, "draft_calls_a_step": calls}
        row |= {"bound_tokens_per_second": bound, "tokens_per_second": done.speed}
        rows.append(row | {"share": done.speed / bound})
    return rows


def study(run: c.Contenders, args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return all figures."""
    engine = run.engine
    items = load_prompts(max_prompts=args.prompts, max_length=args.length)
    assert engine.drafter is not None
    device = torch.device(engine.target.model.device)
    context = round(fmean(len(engine.encode(item.prompt)) for item in items)) + args.length // 2
    networks = {"target": run.theirs.model.model, "drafter": run.assistant}
    models = {"target": engine.target.model, "drafter": engine.drafter.model}
    costs = {role: cost_of(network, models[role], context) for role, network in networks.items()}
    del networks, run.theirs, run.assistant
    sizes = {min(MOST_BYTES, cost.weights // 4 * 4) for cost in costs.values()} | {*SIZES}
    rates = bandwidth(sorted(sizes), args.repeats, device)
    methods = {BASELINE: "target", c.SPECULATIVE: "speculative"}
    decoded = {name: decode(engine, m, args.gamma, items) for name, m in methods.items()}
    timed = timings(engine, context, args.gamma, args.repeats)
    return {
        "machine": describe_machine(),
        "target": engine.target.name,
        "setting": asdict(run.setting)
        | {"prompts": len(items), "length": args.length, "context": context},
        "bytes_per_second_by_array_bytes": rates,
        "bytes_a_pass": {role: asdict(cost) for role, cost in costs.items()},
        "bandwidth_taken": {k: rate_for(cost.weights, rates) for k, cost in costs.items()},
        "bounds": bounds(decoded, costs, rates),
        "verify_seconds": timed.verify,
        "draft_seconds": timed.draft,
        "profile_seconds": {name: profile(done, timed) for name, done in decoded.items()},
    }


def rendered(found: dict[str, Any]) -> str:
    """Return the figures as Markdown: megabytes, gigabytes a second, milliseconds."""
    setting, verify = found["setting"], found["verify_seconds"]
    profiles = found["profile_seconds"]
    steps = [
        {"part of a step (ms)": part} | {name: 1000 * profiles[name][part] for name in profiles}
        for part in next(iter(profiles.values()))
    ]
    whole = {name: 1000 * sum(parts.values()) for name, parts in profiles.items()}
    sizes = [
        {"array (MB)": size / 1e6, "bandwidth (GB/s)": rate / 1e9}
        for size, rate in found["bytes_per_second_by_array_bytes"].items()
    ]
    passes = [
        {"a pass reads (MB)": role, "weights": cost["weights"] / 1e6, "cache": cost["cached"] / 1e6}
        | {"bandwidth (GB/s)": found["bandwidth_taken"][role] / 1e9}
        for role, cost in found["bytes_a_pass"].items()
    ]
    durations = {f"{k}": 1000 * v for k, v in verify.items()}
    drafting = {"drafter, 1": 1000 * found["draft_seconds"]}
    parts = [
        f"- Target: {found['target']}; {setting['dtype']}; gamma {setting['gamma']}; "
        f"{setting['prompts']} prompts, up to {setting['length']} tokens, greedy; passes timed at "
        f"{setting['context']} tokens of context.\n- Machine: {place(found)}.",
        markdown(sizes),
        markdown(passes),
        markdown(found["bounds"]),
        markdown([{"pass over": "ms"} | durations | drafting]),
        markdown([*steps, {"": "whole step"} | whole]),
    ]
    return "\n\n".join(parts)


def parser_of() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = tables.parser_of(__doc__)
    add = parser.add_argument
    add("--prompts", type=int, default=5, help="of each kind [%(default)s]")
    add("--length", type=int, default=64, help="most tokens a prompt [%(default)s]")
    add("--repeats", type=int, default=50, help="of every timed pass [%(default)s]")
    add("--gamma", type=int, default=4, help="draft length [%(default)s]")
    tables.add_setting_flags(parser, "roofline")
    return parser


def main(arguments: list[str]) -> None:
    """Measure and print the tables, then one JSON line."""
    parser = parser_of()
    args = parser.parse_args(arguments)
    tables.check_least(parser, args, prompts=1, repeats=1, gamma=1, length=3)
    padded = int(args.padded) if args.padded else None
    setting = c.Setting(args.device, args.dtype, args.gamma, padded=padded)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = study(c.Contenders(setting, Path(folder), [c.SPECULATIVE]), args)
        except ForedraftError as error:
            parser.error(str(error))
    title = "How near decoding comes to the memory's bound"
    tables.end("roofline", title, rendered(found), found, is_kept=args.save)


if __name__ == "__main__":
    main(sys.argv[1:])
