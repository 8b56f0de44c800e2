"""Plain decoding: one target pass, one token."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from torch import Tensor

from foredraft.core import StepRecord
from foredraft.decoding.request import Request
from foredraft.logits import check_decides, likeliest
from foredraft.sampling.base import Sampler
from foredraft.sampling.rng import Rng

MODEL = "the model"


def autoregressive_steps(request: Request, sampler: Sampler) -> Iterator[StepRecord]:
    """Decode until the request is finished; yield one record a token.

    Args:
        request: grows in place; with a `KeyedRng` it gets the text of coupled speculation.
        sampler: decides the distribution drawn from.

    Raises:
        ModelError: a row of logits holds no number.
    """
    while not request.finished:
        begin = perf_counter()
        [output] = request.context.network.forward([request.feed([])])
        check_decides(output.logits, MODEL, request.context.network.dtype)  # [1, vocab]
        token = _draw(output.logits, sampler, request.rng, request.length)
        emitted = request.commit([token])
        seconds = perf_counter() - begin - request.check_seconds
        yield StepRecord([], 0, emitted, 0.0, seconds)


def _draw(logits: Tensor, sampler: Sampler, rng: Rng, position: int) -> int:
    if sampler.is_greedy:  # a one-hot distribution need not be made
        return likeliest(logits)[0]
    return rng.categorical(sampler.probs(logits[0]), position)
