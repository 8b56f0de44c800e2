"""Verifier: a draft and the target's choices → how many tokens stay, and the next one.

Pure mathematics: no model, no cache, no text. All randomness comes through `rng`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, TypeGuard

from torch import Tensor

from foredraft.choices import Choices, Randomness
from foredraft.core import Draft, Verdict
from foredraft.ranges import Checked
from foredraft.registry import Registry


class Foresight(Randomness, Protocol):
    """Randomness that can decide on a device, without a question to the host.

    Attributes:
        foresees: whether it can.
    """

    foresees: bool

    def ahead(self, count: int) -> list[float]:
        """Return the next uniform numbers without using them up."""

    def use(self, count: int) -> None:
        """Use up `count` of the numbers looked at."""

    def categorical_ahead(self, probs: Tensor, position: int) -> Tensor:
        """Draw a token from each row of `[rows, vocab]`, at successive positions, `[rows]`."""

    def pick(self, weights: Tensor, uniforms: Tensor) -> Tensor:
        """Return the token of each row of `[rows, vocab]` at each uniform number, `[rows]`."""


class Verifier(Checked, ABC):
    """The accept/reject rule; stateless.

    Attributes:
        is_lossless: whether the output distribution is the target's.
        is_coupled: whether all draws at one position must share their noise (`KeyedRng`); every
            other rule needs independent ones.
        accepts_overlap: whether a token drawn from q is kept with probability Σ min(p, q), given
            that those before it are; what a policy may learn from it is then that number.
    """

    is_lossless: bool = True
    is_coupled: bool = False
    accepts_overlap: bool = False

    @abstractmethod
    def judge(self, draft: Draft, target: Choices, rng: Randomness, position: int) -> Verdict:
        """Decide what stays.

        Args:
            draft: the proposed tokens and what they were drawn from.
            target: what the target would draw from after each prefix of the draft, `drafted + 1`
                rows; the last row follows the whole draft.
            rng: source of decisions.
            position: index in the sequence of the draft's first token.

        Returns:
            The length of the kept prefix and the token after it. With a lossless verifier the
            emitted tokens are distributed exactly as if drawn from the target one by one.
        """


VERIFIERS: Registry[Verifier] = Registry("verifier")


def decides_on_device(rng: Randomness, probs: Tensor) -> TypeGuard[Foresight]:
    """Whether answers on the host would cost a wait, and can be done without."""
    return probs.is_cuda and getattr(rng, "foresees", False)
