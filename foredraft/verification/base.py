"""Verifier: a draft and the target's choices → how many tokens stay, and the next one.

Pure mathematics: no model, no cache, no text. All randomness comes through `rng`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeGuard

from torch import Tensor

from foredraft.choices import (
    Acceptance,
    Choices,
    Decisive,
    Foresight,
    OneHot,
    Randomness,
    decides_by_numbers,
)
from foredraft.core import Draft, Verdict
from foredraft.ranges import Checked
from foredraft.registry import Registry


class Verifier(Checked, ABC):
    """The accept/reject rule; stateless.

    Attributes:
        is_lossless: whether the output distribution is the target's.
        is_coupled: whether all draws at one position must share their noise (`KeyedRng`); every
            other rule needs independent ones.
        accepts_overlap: whether a token drawn from q is kept with probability Σ min(p, q), given
            that those before it are; what a policy may learn from it is then that number.
        acceptance: the compiled rule that decides as this class does. A subclass, which may decide
            otherwise, has none unless it says so.
    """

    is_lossless: bool = True
    is_coupled: bool = False
    accepts_overlap: bool = False
    acceptance: Acceptance | None = None

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


def judged_at_once(
    verifier: Verifier, draft: Draft, target: Choices, rng: Randomness
) -> Verdict | None:
    """Let the target's choices judge, where they can: the same verdict, by the same numbers.

    Where there is one choice each they need none: by every rule the draft stays as far as it is
    what was chosen. None: whoever judges must ask.
    """
    acceptance = vars(type(verifier)).get("acceptance")
    if acceptance is None:
        return None
    if isinstance(target, OneHot):
        pairs = enumerate(zip(draft.tokens, target.tokens, strict=False))
        kept = next((i for i, (drafted, chosen) in pairs if drafted != chosen), len(draft.tokens))
        return Verdict(kept, target.tokens[kept])
    if not isinstance(target, Decisive) or not decides_by_numbers(rng):
        return None
    uniforms = rng.ahead(len(draft.tokens) + 1)
    found = target.judged(acceptance, draft.tokens, draft.choices, uniforms)
    if found is None:
        return None
    num_accepted, next_token, used = found
    rng.use(used)
    return Verdict(num_accepted, next_token)
