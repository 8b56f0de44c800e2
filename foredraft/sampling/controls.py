"""Controls: what bends the distribution of a text, as functions of the tokens before a position.

Since a control sees nothing else, row i of a verification pass is bent with the text and the first
i drafted tokens, and so is the drafter's: target and drafter are bent alike, and every law of
verification holds for what comes out. Knows token ids and logits; knows no model and no drafter.

Derived in `docs/en/controls.md#what-a-control-is`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foredraft.ranges import Checked
from foredraft.sampling.base import as_float
from foredraft.sampling.filters import NEVER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ControlledText:
    """What a control is told of a text before it follows it.

    Attributes:
        begin: tokens that the sequence begins with: the prompt, or a decoder's start tokens.
        ends: tokens that end the text.
        vocab_size: columns of the logits.
        tokenizer: of the target; None where texts are token ids alone.
    """

    begin: Sequence[int]
    ends: frozenset[int]
    vocab_size: int
    tokenizer: PreTrainedTokenizerBase | None = None


class Tracker(ABC):
    """What a control knows of one text: it follows the text token by token, and back."""

    def push(self, token: int) -> None:
        """Note one token more."""

    def pop(self, token: int) -> None:
        """Forget the newest token, which is this one."""

    @abstractmethod
    def edit(self, logits: Tensor) -> None:
        """Bend the logits of the next token, float32 or wider `[vocab]`, where they are."""

    def forced(self) -> list[int]:
        """Return tokens of which it knows that nothing else may follow."""
        return []

    def num_allowed(self, tokens: Sequence[int]) -> int:
        """Return how many of some tokens may follow one another, as far as it is known at once."""
        return len(tokens)

    @property
    def is_unfinished(self) -> bool:
        """Whether the text would be cut short of what it must be, if it ended here."""
        return False


class Control(Checked, ABC):
    """A control as it is written down: a frozen dataclass of parameters."""

    @abstractmethod
    def of_text(self, text: ControlledText) -> Tracker:
        """Return what follows a text that begins.

        Raises:
            ConfigError: it cannot be had for this model.
        """


class Controls:
    """The controls of one text, in the order in which they bend, and how far they have followed it.

    Args:
        controls: as written down.
        text: that begins.
    """

    def __init__(self, controls: Sequence[Control], text: ControlledText) -> None:
        self._trackers = [control.of_text(text) for control in controls]
        self._ahead = list[int]()  # tokens followed beyond those that stand

    def applied(self, logits: Tensor, drafted: Sequence[int] = (), first: int = 0) -> Tensor:
        """Return rows of logits `[rows, vocab]`, bent.

        Args:
            logits: not edited.
            drafted: tokens behind those that stand.
            first: how many of them come before the first row; row i follows `first + i`.
        """
        bent = _copied(as_float(logits))
        for place, row in enumerate(bent, start=first):
            self._follow(drafted[:place])
            for tracker in self._trackers:
                tracker.edit(row)
        return bent

    def commit(self, tokens: Sequence[int]) -> None:
        """Note tokens that stand from now on."""
        self._follow(tokens)
        self._ahead = []

    def forced(self, drafted: Sequence[int] = ()) -> list[int]:
        """Return tokens that must come, whatever the model says: those of the first who knows any.

        Args:
            drafted: tokens behind those that stand, before the ones that are asked for.
        """
        self._follow(drafted)
        return next(filter(None, (tracker.forced() for tracker in self._trackers)), [])

    def num_allowed(self, drafted: Sequence[int]) -> int:
        """Return after how many tokens of a draft one is forbidden, as far as is known at once."""
        self._follow(())
        return min(tracker.num_allowed(drafted) for tracker in self._trackers)

    @property
    def is_unfinished(self) -> bool:
        """Whether the text would be cut short of what it must be, if it ended where it stands."""
        self._follow(())
        return any(tracker.is_unfinished for tracker in self._trackers)

    def _follow(self, drafted: Sequence[int]) -> None:
        """Be behind these tokens and those that stand: O(1) for each that is new, or no longer."""
        pairs = enumerate(zip(self._ahead, drafted, strict=False))
        kept = next((i for i, (a, b) in pairs if a != b), min(len(self._ahead), len(drafted)))
        while len(self._ahead) > kept:
            token = self._ahead.pop()
            for tracker in self._trackers:
                tracker.pop(token)
        for token in drafted[kept:]:
            self._ahead.append(token)
            for tracker in self._trackers:
                tracker.push(token)


def leaves_any(logits: Tensor) -> bool:
    """Whether a bent row `[vocab]` lets any token come."""
    on_cpu = logits.device.type == "cpu"
    return bool((logits.numpy().max() if on_cpu else logits.amax()) > NEVER)


def forbid(logits: Tensor, forbidden: Booleans) -> None:
    """Let none of some tokens come.

    Args:
        logits: of a row, `[vocab]`; edited.
        forbidden: whether a token may not come, `[vocab]`.
    """
    # On a CPU by numpy: torch would ask its threads for a row, beside passes that have their own.
    if logits.device.type == "cpu":
        np.putmask(logits.numpy(), forbidden, NEVER)
    else:
        logits.masked_fill_(torch.from_numpy(forbidden).to(logits.device), NEVER)


def _copied(logits: Tensor) -> Tensor:
    on_cpu = logits.device.type == "cpu"
    return torch.from_numpy(logits.detach().numpy().copy()) if on_cpu else logits.clone()
