"""Beam search with the length penalty of GNMT; a beam is a fork of another's context.

Wu et al., "Google's Neural Machine Translation System", 2016, equation 14: a hypothesis of `n`
tokens scores log P / lp(n) with lp(n) = ((min_length + n) / (min_length + 1))^alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from foredraft.decoding.request import NO_TOKEN, Request
from foredraft.logits import check_decides
from foredraft.models.base import Context, Feed
from foredraft.ranges import Checked, Count, Range

INFINITY = float("inf")
MODEL = "the model"


@dataclass(frozen=True)
class BeamSettings(Checked):
    """Width and scoring of a search.

    Attributes:
        num_beams: hypotheses kept.
        top_k: continuations considered for each of them.
        min_length: constant of the length penalty, in tokens.
        alpha: its exponent; 0 compares plain log-probabilities.
    """

    num_beams: Annotated[int, Range(1, 1024)] = 4
    top_k: Count = 3
    min_length: Annotated[float, Range(-1, 10**6, open_low=True)] = 5.0
    alpha: Annotated[float, Range(0, 10)] = 1.2  # the penalty stays a float whatever the lengths

    def length_penalty(self, length: int) -> float:
        """Return lp(length)."""
        return float(((self.min_length + length) / (self.min_length + 1)) ** self.alpha)


@dataclass(frozen=True)
class Hypothesis:
    """A partial or finished output.

    Attributes:
        tokens: generated so far.
        log_prob: their log-probability in nats.
        parent: the beam it continues.
        ended: whether its last token is an end token.
    """

    tokens: tuple[int, ...]
    log_prob: float
    parent: int = 0
    ended: bool = False

    def score(self, settings: BeamSettings) -> float:
        """Return log P / lp(length)."""
        return self.log_prob / settings.length_penalty(len(self.tokens))


def beam_search(
    request: Request,
    settings: BeamSettings,
    *,
    on_step: Callable[[list[Hypothesis]], None] | None = None,
) -> Hypothesis:
    """Search, commit the best-scoring hypothesis to the request, and return it.

    Args:
        request: not begun; its context becomes one of the beams, and the others are forks. A
            hypothesis that ends with one of its end tokens is set aside with its score.
        settings: width and scoring.
        on_step: called with the live beams, best first, after every step.
    """
    best = _best(request, settings, on_step)
    request.commit([*best.tokens, NO_TOKEN])  # heard where nothing else ends the text
    return best


def _best(
    request: Request,
    settings: BeamSettings,
    on_step: Callable[[list[Hypothesis]], None] | None,
) -> Hypothesis:
    target, limit = request.context.network, request.room
    [output] = target.forward([request.feed([])])
    logits, contexts = output.logits, [request.context]  # [1, vocab]
    beams, best = [Hypothesis((), 0.0)], Hypothesis((), -INFINITY)
    while True:
        check_decides(logits, MODEL, target.dtype)
        candidates = _expand(beams, _bent(request, beams, logits), settings, request.is_end)
        if not candidates:  # the controls let nothing follow: these are texts as they stand
            return max([best, *beams], key=lambda h: h.score(settings) if h.tokens else -INFINITY)
        beams = []
        for candidate in candidates:
            if candidate.ended or len(candidate.tokens) == limit:
                best = max(
                    best, candidate, key=lambda h: h.score(settings) if h.tokens else -INFINITY
                )
            else:
                beams.append(candidate)
        beams = beams[: settings.num_beams]
        if on_step is not None:
            on_step(beams or [best])
        if not beams or _cannot_improve(best, beams[0], limit, settings):
            return best
        contexts = _continued(contexts, [beam.parent for beam in beams])
        feeds = [Feed(c, beam.tokens[-1:]) for c, beam in zip(contexts, beams, strict=True)]
        logits = torch.cat([output.logits for output in target.forward(feeds)])  # [beams, vocab]


def _continued(contexts: list[Context], parents: list[int]) -> list[Context]:
    """Return a context for each beam that continues the parent's; a parent serves its last child.

    Args:
        contexts: of the beams before.
        parents: index of each beam's.
    """
    last = {parent: child for child, parent in enumerate(parents)}
    continued = [
        contexts[parent] if last[parent] == child else contexts[parent].fork()
        for child, parent in enumerate(parents)
    ]
    for parent, context in enumerate(contexts):
        if parent not in last:
            context.close()
    return continued


def _bent(request: Request, beams: list[Hypothesis], logits: Tensor) -> Tensor:
    """Return logits `[beams, vocab]` after the controls, which follow one beam after another."""
    controls = request.controls
    if controls is None:
        return logits
    rows = [
        controls.applied(row[None], beam.tokens, len(beam.tokens))
        for beam, row in zip(beams, logits, strict=True)
    ]
    return torch.cat(rows)


def _expand(
    beams: list[Hypothesis],
    logits: Tensor,
    settings: BeamSettings,
    is_end: Callable[[int], bool],
) -> list[Hypothesis]:
    """Return all continuations, ended ones among them, by descending probability."""
    log_probs = logits.float().log_softmax(-1)  # [beams, vocab]
    values, indices = log_probs.topk(min(settings.top_k, log_probs.shape[-1]))  # [beams, top_k]
    candidates = [
        Hypothesis((*beam.tokens, token), beam.log_prob + value, i, is_end(token))
        for i, (beam, row, tokens) in enumerate(
            zip(beams, values.tolist(), indices.tolist(), strict=True)
        )
        for value, token in zip(row, tokens, strict=True)
        if value > -INFINITY  # what may come at all
    ]
    return sorted(candidates, key=lambda h: h.log_prob, reverse=True)


def _cannot_improve(best: Hypothesis, beam: Hypothesis, limit: int, settings: BeamSettings) -> bool:
    """Whether no continuation of the best live beam can overtake the best finished one.

    A continuation only loses probability, and the penalty is most lenient at full length.
    """
    if not best.tokens:
        return False
    return best.score(settings) >= beam.log_prob / settings.length_penalty(limit)
