"""Several methods on the same prompts, side by side, and transformers' own `generate` beside ours.

Every prompt is run with every method before the next prompt, each time in another order, so that a
machine whose speed drifts treats all alike, and nobody always finds in the caches what the same one
has left there. A ratio is that of two methods' tokens per second on
the same prompt in the same round: the median over prompts, with its bootstrap interval.

Tokens per second count whole generations, prompt included, for all methods alike; decode only
leaves out what was there first, and the time until it was.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tables import keep, markdown
from transformers import DynamicCache, EncoderDecoderCache

from foredraft import DecodingConfig, EncoderDecoderModel, Engine
from foredraft.bench.intervals import bootstrap
from foredraft.bench.machine import describe_machine, synchronize
from foredraft.bench.prompt_sets import PromptItem
from foredraft.decoding import first_difference
from foredraft.loading import LoadedModel
from foredraft.models.cache import cache_argument
from foredraft.text import encode_prompt

BASELINE, PEER = "target_ar", "transformers_generate"
CONFIG = DecodingConfig()
EGAG = CONFIG.replace(egag=True, egag_gamma_min=1, egag_gamma_max=6, egag_ema=0.9)
WITH_A_MODEL = {  # ours: name → method and settings
    BASELINE: ("target", CONFIG),
    "speculative_gamma_4": ("speculative", CONFIG.replace(gamma=4)),
    "egag_1_6_0.9": ("speculative", EGAG),
}


@dataclass(frozen=True)
class Sample:
    """One generation of one method."""

    tokens: list[int]  # what was generated
    seconds: float  # of the whole generation
    first_seconds: float  # until the first tokens were there
    num_first: int  # how many those were

    @property
    def speed(self) -> float:
        """Tokens per second, prompt included."""
        return len(self.tokens) / self.seconds

    @property
    def decode_speed(self) -> float:
        """Tokens per second after the first ones; not a number where there were no others."""
        later = len(self.tokens) - self.num_first
        return later / (self.seconds - self.first_seconds) if later else float("nan")


class Clock:
    """What a `Run` tells when its tokens are there; it has the methods of a transformers streamer.

    Attributes:
        first_seconds: from the start to the first tokens.
        num_first: how many tokens came first.
    """

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._is_prompt = True
        self.first_seconds, self.num_first = 0.0, 0

    def emitted(self, count: int) -> None:
        """Note that `count` tokens are there; only the first call matters."""
        if not self.num_first:
            self.first_seconds, self.num_first = time.perf_counter() - self._begin, count

    def put(self, tokens: Any) -> None:
        """Take what `generate` streams: the prompt, then new tokens."""
        if not self._is_prompt:
            self.emitted(tokens.numel())
        self._is_prompt = False

    def end(self) -> None:
        """Take the end of a stream."""

    def seconds(self) -> float:
        """Return the time since the start, once the device is done."""
        synchronize()
        return time.perf_counter() - self._begin


Run = Callable[[PromptItem, Clock], list[int]]  # prompt, clock → generated tokens


@dataclass(frozen=True)
class Measured:
    """What the methods did, by their names."""

    prompts: Sequence[PromptItem]  # that were run
    # all prompts of the first round in order, then of the second, …
    samples: dict[str, list[Sample]]

    def outputs(self, name: str) -> list[list[int]]:
        """Return the tokens of the first round, one list a prompt."""
        return [sample.tokens for sample in self.samples[name][: len(self.prompts)]]

    def speeds(self, name: str, *, decode: bool = False) -> list[float]:
        """Return tokens per second, one value a prompt and round."""
        return [s.decode_speed if decode else s.speed for s in self.samples[name]]

    def by_prompt(self, name: str) -> dict[str, float]:
        """Return tokens per second over all rounds, by the prompts' ids."""
        speeds = {}
        for i, item in enumerate(self.prompts):
            own = self.samples[name][i :: len(self.prompts)]
            speeds[item.id] = sum(len(one.tokens) for one in own) / sum(s.seconds for s in own)
        return speeds


def our_run(engine: Engine, method: str, config: DecodingConfig) -> Run:
    """Return a function that generates with one of our methods."""

    def run(item: PromptItem, clock: Clock) -> list[int]:
        generation = engine.stream(item.prompt, config.replace(length=item.length), method=method)
        for record in generation.steps():
            clock.emitted(len(record.emitted))
        return generation.completion.tokens  # whose text is decoded once, as the peers' is

    return run


def peer_run(peer: LoadedModel, *, assistant: Any = None, **settings: Any) -> Run:
    """Return a function that generates with transformers' `generate`, greedily unless told.

    The target is loaded for its runtime; the assistant is a Hugging Face module that drafts, with
    its own generation config.
    """
    adapter, tokenizer = peer.model, peer.tokenizer
    model = adapter.model
    if assistant is not None:
        settings["assistant_model"] = assistant

    def run(item: PromptItem, clock: Clock) -> list[int]:
        tokens = encode_prompt(tokenizer, item.prompt)
        begin = adapter.start_tokens if isinstance(adapter, EncoderDecoderModel) else tokens
        ids = torch.tensor([tokens], device=model.device)  # [1, time]
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=item.length,
            streamer=clock,
            **({"do_sample": False} | settings),
            **_memory(model),
        )
        generated: list[int] = out[0, len(begin) :].tolist()
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


def measure(runs: dict[str, Run], prompts: Sequence[PromptItem], rounds: int) -> Measured:
    """Run every method on every prompt, after a warm-up."""
    for run in runs.values():
        sample(run, prompts[0])
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    order = random.Random(0)
    for turn in range(rounds * len(prompts)):
        for name in order.sample(list(runs), len(runs)):
            samples[name].append(sample(runs[name], prompts[turn % len(prompts)]))
    return Measured(prompts, samples)


def sample(run: Run, item: PromptItem) -> Sample:
    """Run one method on one prompt."""
    clock = Clock()
    tokens = run(item, clock)
    return Sample(tokens, clock.seconds(), clock.first_seconds, clock.num_first)


def median_of(values: Sequence[float], num_prompts: int) -> dict[str, float | None]:
    """Return the median over prompts with its bootstrap interval.

    Args:
        values: one a prompt and round, as in `Measured`. A prompt's rounds are reduced to their
            median first; a prompt with a value that is no number is left out.
        num_prompts: prompts of a round.

    Returns:
        `median`, `low` and `high`; None where there is nothing to take them of.
    """
    table = np.array(values, dtype=float).reshape(-1, num_prompts)  # [rounds, prompts]
    table = table[:, ~np.isnan(table).any(axis=0)]
    if not table.size:
        return dict.fromkeys(("median", "low", "high"))
    found = bootstrap(np.median(table, axis=0), np.median)
    return {"median": found.value, "low": found.low, "high": found.high}


def ratio(measured: Measured, ours: str, theirs: str, *, decode: bool = False) -> dict[str, Any]:
    """Return the ratio of two methods' tokens per second, with its interval."""
    speeds = (measured.speeds(name, decode=decode) for name in (ours, theirs))
    return median_of([a / b for a, b in zip(*speeds, strict=True)], len(measured.prompts))


def row(measured: Measured, name: str, engine: Engine) -> dict[str, Any]:
    """Return a method's median speed, its ratios to both baselines, and how often it differs."""
    figures: dict[str, Any] = {"method": name, "tokens_per_second": median(measured.speeds(name))}
    figures |= {f"ratio_to_{other}": ratio(measured, name, other) for other in (BASELINE, PEER)}
    return figures | differences(measured, name, engine)


def differences(measured: Measured, name: str, engine: Engine) -> dict[str, int]:
    """Count the greedy outputs that are not Target AR's, and those that rounding explains."""
    outputs = (measured.outputs(name), measured.outputs(BASELINE))
    found = [
        first_difference(engine.target.model, engine.encode(item.prompt), ours, baseline)
        for item, ours, baseline in zip(measured.prompts, *outputs, strict=True)
    ]
    known = [difference for difference in found if difference is not None]
    return {
        "texts": len(found),
        "texts_that_differ": len(known),
        "near_ties": sum(difference.is_near_tie for difference in known),
    }


def same_text(figures: dict[str, Any]) -> str:
    """Return how many texts are Target AR's, as a table shows it."""
    same = f"{figures['texts'] - figures['texts_that_differ']}/{figures['texts']}"
    return same + (f" ({figures['near_ties']} near-ties)" if figures["near_ties"] else "")


def report(measured: Measured, engine: Engine, out: Path | None = None, **setting: Any) -> None:
    """Print a table, then one JSON line with the machine and the setting; keep it as `out`."""
    rows = [row(measured, name, engine) for name in measured.samples]
    print(markdown([r | {"texts": same_text(r)} for r in rows]))
    setting |= {"device": str(engine.target.model.device), "prompts": len(measured.prompts)}
    found = {"machine": describe_machine(), "setting": setting, "rows": rows}
    print(json.dumps(found))
    if out is not None:
        keep(out, found)
