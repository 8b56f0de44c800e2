"""What a draft and a target pass cost here, by how many tokens they are of: timed turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from statistics import median

from foredraft.bench.recordings import Recording
from foredraft.bench.replay import CostTable
from foredraft.errors import ModelError
from foredraft.models import Context, Network

GAMMAS = (1, 2, 3, 4, 6, 8, 12)


def measure_costs(
    target: Network,
    draft_model: Network,
    recording: Recording,
    repeats: int,
    clock: Callable[[], float],
) -> tuple[CostTable, dict[int, float]]:
    """Time drafts and target passes over 1 … tokens, turn by turn, after a recorded text.

    Returns:
        The costs, T_v(k) and the time of a draft as lines through the medians; and the medians of
        T_v by k.

    Raises:
        ModelError: a median is zero or no finite number.
    """
    tokens = [*recording.prompt, *recording.tokens]
    known = [k for k in GAMMAS if k + 1 < len(recording.tokens)]
    draft_times: dict[int, list[float]] = {k: [] for k in known or GAMMAS[:1]}
    verify_times: dict[int, list[float]] = {k: [] for k in (0, *known)}
    texts = [network.open(recording.prompt) for network in (target, draft_model)]
    for text in texts:
        text.extend([*text.begin, *recording.tokens[:-1]])
    for _ in range(repeats):
        for k, times in verify_times.items():
            if k in draft_times:
                draft_times[k].append(_time_draft(texts[1], tokens, k, clock))
            times.append(_time_pass(texts[0], tokens, k + 1, clock))
    verify = checked_medians("target pass", verify_times)
    draft = checked_medians("draft", draft_times)
    further = _slope({k - 1: seconds for k, seconds in draft.items()})
    return CostTable(draft[1], verify[0], _slope(verify), further), verify


def checked_medians(what: str, times: dict[int, list[float]]) -> dict[int, float]:
    """Return the median of each timing, which must be a time."""
    medians = {k: median(of_k) for k, of_k in times.items()}
    for seconds in medians.values():
        if not 0 < seconds < inf:
            raise ModelError(
                f"a {what} took {seconds} s by this clock, and no advice follows from that; "
                "measure with more --repeats, or where the clock runs"
            )
    return medians


def _time_pass(
    text: Context, tokens: Sequence[int], count: int, clock: Callable[[], float]
) -> float:
    """Time the pass over the newest `count` tokens that are held."""
    text.rollback_to(text.length - count)
    begin = clock()
    logits = text.extend(tokens[-count - 1 : -1], keep=count)
    int(logits[-1].argmax())  # a pass is over when its result is on the host
    return clock() - begin


def _time_draft(
    text: Context, tokens: Sequence[int], count: int, clock: Callable[[], float]
) -> float:
    """Time a draft of `count` tokens as the recommended policy makes it: in one call."""
    begin_at = text.length - count
    text.rollback_to(begin_at)
    begin = clock()
    text.draft(tokens[begin_at : begin_at + 1], count)
    return clock() - begin


def _slope(medians: dict[int, float]) -> float:
    """Return the least-squares slope of a line through T_v(0), never negative."""
    squares = sum(k * k for k in medians)
    if not squares:
        return 0.0
    return max(0.0, sum(k * (t - medians[0]) for k, t in medians.items()) / squares)
