"""Rows of logits: the likeliest token of each, the two largest of one, and whether a row says any.

Knows tensors; knows neither models nor samplers. Of equals the first is the likeliest, everywhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from foredraft.errors import ModelError


def likeliest(logits: Tensor) -> list[int]:
    """Return the index of the largest logit of each row of `[rows, vocab]`, the first of equals.

    On a CPU by numpy, whose search is ten times as quick as torch's.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        found: list[int] = logits.detach().numpy().argmax(-1).tolist()
        return found
    found = logits.argmax(-1).tolist()
    return found


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


def num_decided(logits: Tensor) -> int:
    """Return how many rows of `[rows, vocab]` come before the first that decides nothing.

    A row decides where its largest logit is a number; −∞ elsewhere forbids tokens. NaN is larger
    than anything to a search for the largest, so one look at it finds NaN, +∞ and rows of −∞.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        largest = logits.detach().numpy().max(-1).tolist()
    else:
        largest = logits.amax(-1).tolist()
    return next((row for row, value in enumerate(largest) if not math.isfinite(value)), len(logits))


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
