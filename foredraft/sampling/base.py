"""Sampler: logits → exactly the distribution that tokens are drawn from."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft.choices import Choices, Dense, OneHot, Rule
from foredraft.logits import Likeliest, likeliest, num_decided
from foredraft.ranges import Checked
from foredraft.registry import Registry
from foredraft.sampling.rng import token_at


class Sampler(Checked, ABC):
    """Turns logits into the distribution that is drawn from; holds no state.

    Filters come first, temperature last: top-k, then nucleus on what is left, then
    softmax(logits / temperature). So the temperature never changes which tokens are kept, except in
    `TemperedSampler`, which applies it first.
    """

    @abstractmethod
    def probs(self, logits: Tensor) -> Tensor:
        """Return the distribution.

        Args:
            logits: shape `[..., vocab]`; not edited.

        Returns:
            Probabilities, shape `[..., vocab]`, float32 (float64 stays float64).
        """

    def choices(self, logits: Tensor, known: Likeliest | None = None) -> tuple[Choices, int]:
        """Return what is drawn from, of logits `[rows, vocab]`: a row each.

        Args:
            logits: not edited.
            known: what is likeliest, if that has been found out.

        Returns:
            The choices, and how many rows come before the first whose logits decide nothing, since
            the largest is no number; what stands for that row and those behind it means nothing.
        """
        if self.is_greedy:
            tokens, decided = known or likeliest(logits)
            return OneHot(tokens), decided
        rule = self._own_rule
        if rule is not None and (found := _filtered()(logits, rule, known)) is not None:
            return found
        decided, rows = num_decided(logits), logits.shape[0]
        if decided < rows:
            logits = torch.cat((logits[:decided], torch.zeros_like(logits[decided:])))
        return Dense(self.probs(logits)), decided

    def drawing(self, uniforms: Sequence[float]) -> SeveralDraws | None:
        """Return draws of tokens to come, by numbers in [0, 1); None: it has no rule for them."""
        rule = self._own_rule
        return None if rule is None else SeveralDraws(self, rule, uniforms)

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token has all the mass in every distribution."""
        return False

    @property
    def rule(self) -> Rule | None:
        """What `probs` does, where filters and a temperature are all of it."""
        return None

    @functools.cached_property
    def _own_rule(self) -> Rule | None:
        """The rule of this very class: a subclass may have another `probs` and not know of it."""
        return self.rule if "rule" in vars(type(self)) else None


@functools.cache
def _filtered() -> Callable[[Tensor, Rule, Likeliest | None], tuple[Choices, int] | None]:
    """Return `native.sampling.filtered`: who only names a sampler need not load the runtimes."""
    from foredraft.native.sampling import filtered

    return filtered


@dataclass(frozen=True, slots=True)
class SeveralDraws:
    """Draws of one token after another: see `choices.Drawing`."""

    sampler: Sampler
    rule: Rule
    uniforms: Sequence[float]

    def draw(self, logits: Tensor, place: int) -> tuple[int, Tensor]:
        choices, _ = self.sampler.choices(logits[None])
        probs = choices.dense(as_float(logits)[None])[0]
        return token_at(probs, self.uniforms[place]), probs


SAMPLERS: Registry[Sampler] = Registry("sampler")


def as_float(logits: Tensor) -> Tensor:
    """Return half-precision logits as float32; wider ones as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
