"""Filters: which tokens may be drawn at all. Pure; the caller's tensor is not edited."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NEVER = float("-inf")
LIKELIEST = 64  # tokens that are sorted at first
Floats = npt.NDArray[Any]


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches `top_p`, never none.

    Holtzman et al., 2020. Shape `[..., vocab]`; probabilities are the softmax of the given logits,
    tokens already at −∞ stay there. Of equals the first are kept, whatever else is in the tensor.
    """
    if top_p >= 1:
        return logits  # rounding in the cumulative sum must not cut the tail
    if logits.device.type == "cpu":
        return _keep_on_cpu(logits, top_p)
    probs = logits.softmax(-1)
    last, count = _end_of_nucleus(probs, top_p)  # [..., 1] each
    above, equal = probs > last, probs == last
    places = count - above.sum(-1, keepdim=True)  # that are left for the equals
    kept = above | (equal & (equal.cumsum(-1) <= places))
    return logits.masked_fill(~kept, NEVER)


def keep_likely(logits: Tensor, min_p: float) -> Tensor:
    """Keep the tokens with at least `min_p` of the likeliest token's probability, never none.

    Nguyen et al., 2025. Shape `[..., vocab]`; tokens already at −∞ stay there.
    """
    if min_p <= 0:
        return logits
    least = (logits.amax(-1, keepdim=True).double() + math.log(min_p)).to(logits.dtype)
    return logits.masked_fill(logits < least, NEVER)


def _keep_on_cpu(logits: Tensor, top_p: float) -> Tensor:
    rows = logits.detach().numpy().reshape(-1, logits.shape[-1])
    kept = np.full_like(rows, NEVER)
    for row, out in zip(rows, kept, strict=True):
        tokens = nucleus_of(row, top_p)
        out[tokens] = row[tokens]
    return torch.from_numpy(kept).view(logits.shape)


def nucleus_of(logits: Floats, top_p: float) -> npt.NDArray[np.intp]:
    """Return the tokens of the nucleus of one row of logits `[vocab]`.

    By numpy, which looks for a few tokens in less time than torch sorts many. Tokens of a
    probability below (1 − top_p) / vocab have less than 1 − top_p together, so the nucleus lies
    among the others: it is they that are sorted.
    """
    weights = np.exp(logits - logits.max())
    total = float(weights.sum(dtype=np.float64))
    tokens = (weights >= (1 - top_p) * total / len(logits)).nonzero()[0]
    weights = weights[tokens]
    falling = np.sort(weights)[::-1]
    # The first token is kept whatever its mass; a further one if those before it fall short.
    count = 1 + int(falling.cumsum(dtype=np.float64).searchsorted(top_p * total))
    last = falling[min(count, len(falling)) - 1]
    above = tokens[weights > last]
    return np.concatenate((above, tokens[weights == last][: count - len(above)]))


def largest_of(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest of each row `[..., vocab]` in the order of tokens, and where.

    Of equals the first, as in a nucleus; but on a device any, where finding the first would cost
    more than all the rest.
    """
    if logits.device.type != "cpu":
        values, indices = logits.topk(count, dim=-1)
        return values, indices
    rows = logits.detach().reshape(-1, logits.shape[-1])
    rows = rows.masked_fill(rows.isnan(), float("inf"))  # the largest to topk, and equal to nothing
    last = rows.topk(count).values[:, -1:]
    above, equal = rows > last, rows == last
    places = count - above.sum(-1, keepdim=True)
    # Equals are seldom more than one: their order is counted only if they are too many.
    if (equal.sum(-1, keepdim=True) > places).any():
        equal &= equal.cumsum(-1) <= places
    indices = (above | equal).nonzero()[:, 1].view(*logits.shape[:-1], count)
    return logits.gather(-1, indices), indices


def _end_of_nucleus(probs: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the smallest probability of each nucleus and its number of tokens, `[..., 1]` each.

    The nucleus is nearly always small, so the likeliest are looked at first and nothing is sorted
    whole unless it must be.
    """
    size = min(LIKELIEST, probs.shape[-1])
    while True:
        ordered = probs.topk(size).values  # [..., size], falling
        before = ordered.cumsum(-1) - ordered  # mass ahead of each token: 0 for the first
        count = (before < top_p).sum(-1, keepdim=True).clamp_(min=1)
        if size == probs.shape[-1] or int(count.max()) < size:
            return ordered.gather(-1, count - 1), count
        size = min(8 * size, probs.shape[-1])
