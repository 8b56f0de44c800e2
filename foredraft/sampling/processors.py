"""Processors of transformers as controls: whatever a `LogitsProcessorList` does to one row."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft.doors import listed
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.sampling.controls import Control, ControlledText, Tracker

COST = (
    "logits processors are called for each drafted token by itself, with the whole text before it; "
    "foredraft's own controls are quicker"
)
Processor = Callable[[Tensor, Tensor], Tensor]
GivenControls = Control | Processor | Sequence[Control | Processor]


@dataclass(frozen=True)
class Processors(Control):
    """A `LogitsProcessorList`, or one processor: any function of ids `[1, time]` and scores.

    It must be a function of these and keep nothing of earlier calls: rows of drafts that are given
    up are asked for too.

    Attributes:
        processors: takes ids `[1, time]` and scores `[1, vocab]`, returns scores.
    """

    processors: Processor

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.processors) or isinstance(self.processors, type):
            raise ConfigError(
                "controls must be Control objects or a LogitsProcessorList, not "
                f"{quoted(self.processors)}"
            )

    def of_text(self, text: ControlledText) -> Tracker:
        warnings.warn(COST, RuntimeWarning, stacklevel=2)
        return _Processed(self.processors, text)


class _Processed(Tracker):
    def __init__(self, processors: Processor, text: ControlledText) -> None:
        self._processors, self._tokens = processors, list(text.begin)

    def push(self, token: int) -> None:
        self._tokens.append(token)

    def pop(self, token: int) -> None:
        self._tokens.pop()

    def edit(self, logits: Tensor) -> None:
        ids = torch.tensor([self._tokens], dtype=torch.long, device=logits.device)  # [1, time]
        with foreign("one of the controls", "correct it, or leave it out", ConfigError):
            logits.copy_(self._processors(ids, logits[None].clone())[0])


def as_controls(controls: GivenControls) -> tuple[Control, ...]:
    """Return the controls that were given: one, several, or processors of transformers."""
    if isinstance(controls, Control):
        return (controls,)
    if callable(controls):
        return (Processors(controls),)
    remedy = "give Control objects, or a LogitsProcessorList"
    return tuple(map(_as_control, listed("controls", controls, remedy)))


def _as_control(one: Control | Processor) -> Control:
    if isinstance(one, Control):
        return one
    return Processors(one)
