"""GammaPolicy: how many tokens to draft in the next step.

Knows draft logits and verdicts; knows no model. A policy may stop *before* a token is drawn or
*after* one that is then kept and verified. It can never discard a drawn token: that would bias the
output, so there is no method for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from specdec.core import Draft, Verdict
from specdec.registry import Registry


class GammaPolicy(ABC):
    """The rule for gamma; `start` resets whatever it has learned from one generation."""

    def start(self) -> None:
        """Forget the previous generation."""

    @property
    @abstractmethod
    def budget(self) -> int:
        """The most tokens the next draft may have, ≥ 0."""

    def before_token(self, logits: Tensor, num_drafted: int) -> bool:
        """Whether to draw one more token.

        Args:
            logits: the drafter's, before any filter, shape `[vocab]`.
            num_drafted: tokens drawn so far in this step; 0 means a new step begins.
        """
        return True

    def after_token(self, token: int, logits: Tensor, num_drafted: int) -> bool:
        """Whether to go on after `token`, the `num_drafted`-th; it stays drafted either way.

        Args:
            token: just drawn.
            logits: what it was drawn from, before any filter, shape `[vocab]`.
            num_drafted: tokens drawn so far in this step, `token` included.
        """
        return True

    def update(self, draft: Draft, verdict: Verdict) -> None:
        """Learn from a step; `draft` is as proposed, `verdict` as judged."""

    @property
    def asks(self) -> bool:
        """Whether it looks at the tokens of a draft; if not, they may be drawn all at once."""
        rule, silent = type(self), GammaPolicy
        before, after = rule.before_token, rule.after_token
        return before is not silent.before_token or after is not silent.after_token

    @property
    def normalized_entropy(self) -> float | None:
        """H / ln V measured in this step, for the record; None when not measured."""
        return None

    @property
    def raw_gamma(self) -> float | None:
        """The unrounded length wished for in this step, for the record."""
        return None


GAMMA_POLICIES: Registry[GammaPolicy] = Registry("gamma policy")
