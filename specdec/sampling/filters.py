"""The nucleus filter: which tokens may be drawn at all. Pure; the caller's tensor is not edited."""

from __future__ import annotations

from torch import Tensor

NEVER = float("-inf")
LIKELIEST = 64  # tokens that are sorted at first


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches `top_p`, never none.

    Holtzman et al., 2020. Shape `[..., vocab]`; probabilities are the softmax of the given logits,
    tokens already at −∞ stay there. Of equals the first are kept, whatever else is in the tensor.
    """
    if top_p >= 1:
        return logits  # rounding in the cumulative sum must not cut the tail
    probs = logits.softmax(-1)
    last, count = _end_of_nucleus(probs, top_p)  # [..., 1] each
    above, equal = probs > last, probs == last
    places = count - above.sum(-1, keepdim=True)  # that are left for the equals
    kept = above | (equal & (equal.cumsum(-1) <= places))
    return logits.masked_fill(~kept, NEVER)


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
