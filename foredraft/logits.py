"""Rows of logits: the likeliest token of each, the two largest of one, and whether a row says any.

Knows tensors; knows neither models nor samplers. Of equals the first is the likeliest, everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foredraft.errors import ModelError

Floats = npt.NDArray[np.float32]
LEAST = np.float32(-1e3)  # of a logit below the largest
MOST_LOOKS = 8  # for the largest of a row, before sorting is quicker


class Likeliest(NamedTuple):
    """What is likeliest after each of some rows of logits.

    Attributes:
        tokens: the likeliest of each row.
        decided: rows before the first whose largest logit is no number, so that it decides nothing.
    """

    tokens: list[int]
    decided: int

    @classmethod
    def by(cls, tokens: list[int], margins: Sequence[float]) -> Likeliest:
        """Return what is likeliest by tokens and how far each is ahead, NaN where nothing is."""
        for row, margin in enumerate(margins):
            if math.isnan(margin):
                return cls(tokens, row)
        return cls(tokens, len(tokens))


def likeliest(logits: Tensor) -> Likeliest:
    """Return what is likeliest after each row of `[rows, vocab]`.

    NaN is larger than anything to a search for the largest, so that a look at what
    was found finds NaN, +∞ and rows of −∞. On a CPU by numpy, ten times as quick as torch.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        rows = logits.detach().numpy()
        tokens: list[int] = rows.argmax(-1).tolist()
        largest = [rows.item(row, token) for row, token in enumerate(tokens)]
    else:
        tokens = logits.argmax(-1).tolist()
        largest = logits.amax(-1).tolist()
    return Likeliest(tokens, _num_finite(largest))


def two_largest(logits: Tensor) -> tuple[int, float, float]:
    """Return the first of the likeliest tokens, its logit and the second largest, of `[vocab]`.

    The second of a vocabulary of one is −∞. On a CPU by numpy, which passes over them three times
    in less time than torch sorts them.
    """
    if len(logits) < 2:
        return 0, float(logits[0]), -math.inf
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.float64):
        first, second = logits.topk(2).values.tolist()
        return int(logits.argmax()), first, second  # of equals topk takes any
    values = logits.detach().numpy()
    at = int(values.argmax())
    others = [part.max() for part in (values[:at], values[at + 1 :]) if len(part)]
    return at, float(values[at]), float(max(others))


def entropy_of(logits: Tensor) -> float:
    """Return H of the softmax of `[vocab]`, in nats; −∞ is no mass.

    With d = logits − max and weights e^d of sum Z it is ln Z − Σ d e^d / Z. On a CPU by numpy, for
    the reason of `several_likeliest`.
    """
    if logits.device.type != "cpu":
        log_probs = logits.float().log_softmax(-1)
        return float(torch.special.entr(log_probs.exp()).sum())  # entr(0) = 0
    below, weights, total = _softened(logits)
    return max(math.log(total) - float(np.dot(below, weights)) / total, 0.0)


def chance_of(logits: Tensor, token: int) -> float:
    """Return a token's share of the softmax of `[vocab]`."""
    if logits.device.type != "cpu":
        return float(logits.float().softmax(-1)[token])
    _, weights, total = _softened(logits)
    return float(weights[token]) / total


def _softened(logits: Tensor) -> tuple[Floats, Floats, float]:
    """Return how far each logit lies below the largest, the weights e^that, and their sum."""
    values = logits.detach().float().numpy()
    below = np.maximum(values - values.max(), LEAST)  # e^LEAST is nothing, and no NaN times −∞
    weights = np.exp(below)
    return below, weights, float(weights.sum(dtype=np.float64))


def several_likeliest(logits: Tensor, count: int) -> list[list[int]]:
    """Return the likeliest tokens of each row of `[rows, vocab]`, falling; at most `count` of each.

    Fewer where fewer may come: −∞ is no token. On a CPU by numpy, a few by a look for each: torch
    would share a few rows out to its threads, beside passes that have their own.
    """
    count = min(count, logits.shape[-1])
    if logits.device.type != "cpu" or count > MOST_LOOKS:
        values, indices = logits.float().topk(count)
        rows = zip(values.tolist(), indices.tolist(), strict=True)
        return [[t for v, t in zip(*row, strict=True) if v > -math.inf] for row in rows]
    found = []
    for row in logits.detach().float().numpy().copy():
        found.append(list[int]())
        for _ in range(count):
            token = int(row.argmax())
            if row[token] == -math.inf:
                break
            found[-1].append(token)
            row[token] = -math.inf
    return found


def num_decided(logits: Tensor) -> int:
    """Return how many rows of `[rows, vocab]` come before the first that decides nothing."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return _num_finite(logits.detach().numpy().max(-1).tolist())
    return _num_finite(logits.amax(-1).tolist())


def _num_finite(values: list[float]) -> int:
    """Return how many come before the first that is no finite number."""
    for place, value in enumerate(values):
        if not math.isfinite(value):
            return place
    return len(values)


def check_decides(logits: Tensor, who: str, dtype: torch.dtype) -> None:
    """Raise unless every row of `[rows, vocab]` has a largest logit that is a number.

    Raises:
        ModelError: with what it is instead, and the precision it was computed in.
    """
    row = num_decided(logits)
    if row < len(logits):
        raise undecided(float(logits[row].amax()), who, dtype)


def undecided(largest: float, who: str, dtype: torch.dtype) -> ModelError:
    """Return the refusal of a row whose largest logit is no number."""
    precision = str(dtype).removeprefix("torch.")
    return ModelError(
        f"{who} gives no distribution: its largest logit is {largest} and must be a finite number; "
        f"it computes in {precision}: try another --dtype, and if that does not help its weights "
        "are damaged, so fetch it again"
    )
