"""Results: what a generation brought, beside a baseline; and as plain values, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from foredraft.config import DecodingConfig
from foredraft.core import Completion, StepRecord, TokenLogprob
from foredraft.decoding import Difference, first_difference
from foredraft.files import Json
from foredraft.generation import controls_of
from foredraft.loading import LoadedModel
from foredraft.method import Method
from foredraft.tracing import Summary, summarize


@dataclass(frozen=True)
class Result:
    """One method's completion with its statistics, beside the baseline's.

    Attributes:
        completion: what was generated.
        summary: its statistics.
        speedup: baseline seconds per token / ours; None without a baseline.
        matches_baseline: greedy equality with Target AR, or the first difference; None under
            sampling or without a baseline.
    """

    completion: Completion
    summary: Summary
    speedup: float | None = None
    matches_baseline: bool | Difference | None = None


def beside(
    done: Completion,
    baseline: Completion | None,
    target: LoadedModel,
    config: DecodingConfig,
    prompt: list[int],
) -> Result:
    """Return a completion with its statistics, compared with the baseline.

    Args:
        done: a finished generation.
        baseline: that of plain decoding; None: there is none.
        target: loaded.
        config: of both.
        prompt: tokens.
    """
    summary = summarize(done.records)
    if baseline is None:
        return Result(done, summary)
    ours, theirs = summary.tokens_per_second, summarize(baseline.records).tokens_per_second
    method, matches = Method.of(config, done.method), None
    if method.sampler.is_greedy and done.method != "drafter":
        matches = compared(target, method, prompt, done.tokens, baseline.tokens)
    return Result(done, summary, ours / theirs if ours and theirs else None, matches)


def compared(
    target: LoadedModel, method: Method, prompt: list[int], ours: list[int], baseline: list[int]
) -> bool | Difference:
    """Return whether a greedy output is the baseline's, or where it first differs.

    Args:
        target: loaded.
        method: of our output; its controls bend both.
        prompt: tokens.
        ours: output to judge.
        baseline: output of plain decoding.
    """
    if ours == baseline:
        return True
    context = target.model.open(prompt)
    controls = controls_of(method, target, context)
    context.close()
    return first_difference(target.model, prompt, ours, baseline, controls) or True


def result_dict(result: Result) -> dict[str, object]:
    """Return one flat JSON object for a result."""
    done, matches = result.completion, result.matches_baseline
    return {
        "method": done.method,
        "text": done.text,
        "tokens": done.tokens,
        "finish_reason": str(done.finish_reason),
        "seed": done.seed,
        **result.summary.to_dict(),
        "speedup": result.speedup,
        "matches_baseline": matches.to_dict() if isinstance(matches, Difference) else matches,
    }


def step_dict(record: StepRecord) -> dict[str, object]:
    """Return one JSON object for a step."""
    values = asdict(record) | {"gamma": record.gamma}
    del values["logprobs"]  # they are the tokens', see `logprob_dicts`
    return values


def logprob_dicts(
    records: Sequence[StepRecord], spell: Callable[[Sequence[int]], str]
) -> list[dict[str, Json]]:
    """Return one JSON object for each emitted token whose log-probabilities were asked for.

    Args:
        records: of its steps.
        spell: returns the text of tokens.
    """

    def told(one: TokenLogprob) -> dict[str, Json]:
        numbers = {"logprob": one.logprob, "controlled_logprob": one.controlled}
        finite = {name: n if math.isfinite(n) else None for name, n in numbers.items()}
        return {"token": one.token, "text": spell([one.token]), **finite}

    positions = [position for record in records for position in record.logprobs]
    return [told(one.chosen) | {"top": [told(other) for other in one.top]} for one in positions]
