"""Plain decoding: one target pass, one token."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from torch import Tensor

from foredraft.core import StepRecord
from foredraft.decoding.sequence import Sequence
from foredraft.logits import check_decides, likeliest
from foredraft.models.base import LanguageModel
from foredraft.sampling.base import Sampler
from foredraft.sampling.rng import Rng

MODEL = "the model"


def autoregressive_steps(
    target: LanguageModel, sequence: Sequence, sampler: Sampler, rng: Rng
) -> Iterator[StepRecord]:
    """Decode until the sequence is finished; yield one record a token.

    Args:
        target: started with the sequence's prompt.
        sequence: grows in place.
        sampler: decides the distribution drawn from.
        rng: source of randomness; a `KeyedRng` gives the text of coupled speculation.

    Raises:
        ModelError: a row of logits holds no number.
    """
    while not sequence.finished:
        begin = perf_counter()
        logits = target.extend(sequence.tokens[target.length :], keep=1)  # [1, vocab]
        check_decides(logits, MODEL, target.dtype)
        token = _draw(logits, sampler, rng, sequence.length)
        emitted = sequence.commit([token])
        seconds = perf_counter() - begin - sequence.check_seconds
        yield StepRecord([], 0, emitted, 0.0, seconds)


def _draw(logits: Tensor, sampler: Sampler, rng: Rng, position: int) -> int:
    if sampler.is_greedy:  # a one-hot distribution need not be made
        return likeliest(logits)[0]
    return rng.categorical(sampler.probs(logits[0]), position)
