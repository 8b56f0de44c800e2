"""Logit filters: which tokens may be drawn at all. Pure; the caller's tensor is never edited."""

from __future__ import annotations

import torch
from torch import Tensor

NEVER = float("-inf")


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Keep the `top_k` largest logits of each row, shape `[..., vocab]`; the rest become −∞.

    Ties with the k-th logit are cut to exactly `top_k` tokens.
    """
    if top_k >= logits.shape[-1]:
        return logits
    values, indices = logits.topk(top_k, dim=-1)
    return torch.full_like(logits, NEVER).scatter_(-1, indices, values)


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches `top_p`, never none.

    Holtzman et al., 2020. Shape `[..., vocab]`; probabilities are the softmax of the given logits,
    tokens already at −∞ stay there.
    """
    if top_p >= 1:
        return logits  # rounding in the cumulative sum must not cut the tail
    ordered, indices = logits.sort(dim=-1, descending=True)
    probs = ordered.softmax(-1)
    before = probs.cumsum(-1) - probs  # mass ahead of each token: 0 for the first
    kept = ordered.masked_fill(before >= top_p, NEVER)
    kept[..., 0] = ordered[..., 0]
    return torch.empty_like(logits).scatter_(-1, indices, kept)
