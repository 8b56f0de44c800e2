"""Log-probabilities of what was emitted, and of what else was likely."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft.core import PositionLogprobs, TokenLogprob


def logprobs_of(
    logits: Tensor, bent: Tensor, emitted: Sequence[int], count: int | None
) -> Sequence[PositionLogprobs]:
    """Return what the target thought of each emitted token, in nats.

    Args:
        logits: row i is the target's of emitted token i, shape `[≥ emitted, vocab]`.
        bent: the same after the controls.
        emitted: tokens.
        count: likeliest tokens told beside each, more than the vocabulary means all; None:
            nothing is told, and nothing computed.
    """
    if count is None or not emitted:
        return ()
    num_rows = len(emitted)
    raw = logits[:num_rows].float().log_softmax(-1)  # [emitted, vocab]
    controlled = raw if bent is logits else bent[:num_rows].float().log_softmax(-1)
    top = raw.topk(min(count, raw.shape[-1])).indices  # [emitted, count]
    chosen = torch.tensor(emitted, device=raw.device)[:, None]
    tokens = torch.cat((chosen, top), dim=1)  # [emitted, 1 + count]
    before, after = (rows.gather(1, tokens).tolist() for rows in (raw, controlled))
    positions = []
    for values in zip(tokens.tolist(), before, after, strict=True):
        first, *others = map(TokenLogprob, *values)
        positions.append(PositionLogprobs(first, tuple(others)))
    return tuple(positions)
