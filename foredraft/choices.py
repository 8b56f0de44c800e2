"""Choices: what tokens are drawn from, position by position: one token each, or distributions.

A sampler makes them of logits; drafts carry them, and verifiers weigh those of target and drafter
against each other. Greedy decoding is the case of one choice at each position, and needs no rule of
its own: probabilities are 0 and 1, and every residual is the target's choice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeGuard

import torch
from torch import Tensor


class Randomness(Protocol):
    """The two random decisions there are; see `sampling.rng.Rng`."""

    def accepts(self, probability: float) -> bool:
        """Return True with the given probability."""

    def categorical(self, probs: Tensor, position: int) -> int:
        """Draw the token at a position of the sequence from unnormalised `probs`, `[vocab]`."""


class Foresight(Randomness, Protocol):
    """Randomness whose numbers decide, and may be seen before they are used up.

    Attributes:
        foresees: whether it is so.
        is_keyed: whether draws go by their positions, not by these numbers.
    """

    foresees: bool
    is_keyed: bool

    def ahead(self, count: int) -> list[float]:
        """Return the next uniform numbers without using them up."""

    def use(self, count: int) -> None:
        """Use up `count` of the numbers looked at."""

    def categorical_ahead(self, probs: Tensor, position: int) -> Tensor:
        """Draw a token from each row of `[rows, vocab]`, at successive positions, `[rows]`."""

    def pick(self, weights: Tensor, uniforms: Tensor) -> Tensor:
        """Return the token of each row of `[rows, vocab]` at each uniform number, `[rows]`."""


def decides_by_numbers(rng: Randomness) -> TypeGuard[Foresight]:
    """Whether uniform numbers, one a decision, are all that it takes, and can be had at once."""
    return getattr(rng, "foresees", False) and not getattr(rng, "is_keyed", False)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a sampler does to logits: the filters first, the temperature last, unless it says so.

    Attributes:
        temperature: of the softmax over what is kept.
        top_k: of the logits; None keeps all.
        top_p: mass of the nucleus of those; 1 keeps all.
        min_p: share of the likeliest token's chance that a token of those must have; 0 keeps all.
        temperature_first: the filters see the logits divided by the temperature.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    temperature_first: bool = False


class Drawing(Protocol):
    """Draws to come, one token after another: by numbers that are there already.

    Attributes:
        rule: of the sampler.
        uniforms: one a token, in [0, 1).
    """

    @property
    def rule(self) -> Rule: ...

    @property
    def uniforms(self) -> Sequence[float]: ...

    def draw(self, logits: Tensor, place: int) -> tuple[int, Tensor]:
        """Return the token at number `place`, and the probabilities `[vocab]` of logits."""


class Acceptance(IntEnum):
    """The rules of verification that are compiled, too; numbered as in `verdicts.c`."""

    REJECTION = 0
    REJECTION_WITHOUT_RESIDUAL = 1
    EXACT_MATCH = 2
    BLOCK = 3


class Choices(ABC):
    """A distribution over tokens for each of some successive positions, its rows."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def row(self, row: int) -> Choices:
        """Return one row by itself."""

    @abstractmethod
    def draw(self, row: int, rng: Randomness, position: int) -> int:
        """Draw from a row the token at a position of the sequence."""

    @abstractmethod
    def probabilities(self, tokens: Sequence[int]) -> list[float]:
        """Return the probability of token i in row i, for as many rows as there are tokens."""

    @abstractmethod
    def followed_by(self, tokens: Sequence[int]) -> Choices:
        """Return these rows, and after them rows of which each has one choice."""

    @abstractmethod
    def residual(self, row: int, draft: Choices, weight: float = 1.0) -> Choices:
        """Return norm(max(0, weight · p − q)) for p and q of a row: one row.

        Leviathan et al. (2023), algorithm 1; the weight is of Sun et al. (2025). Where the
        difference vanishes (p = q, or rounding) a rejection has probability zero: p is returned.
        """

    @abstractmethod
    def surpluses(self, rows: range, draft: Choices, weights: Sequence[float]) -> list[float]:
        """Return Σ max(0, weight · p − q) for each row of a range, and its weight."""

    @abstractmethod
    def overlaps(self, draft: Choices, count: int) -> list[float]:
        """Return Σ min(p, q) for each of the first `count` rows."""

    @abstractmethod
    def dense(self, like: Tensor) -> Tensor:
        """Return probabilities `[rows, vocab]` of the kind and width of `like`, `[≥ 1, vocab]`."""


class OneHot(Choices):
    """One choice at each position: greedy decoding, and tokens that were looked up, not drawn.

    Args:
        tokens: the choice of each row.
    """

    __slots__ = ("tokens",)

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def row(self, row: int) -> Choices:
        return OneHot(self.tokens[row : row + 1])

    def draw(self, row: int, rng: Randomness, position: int) -> int:
        return self.tokens[row]

    def probabilities(self, tokens: Sequence[int]) -> list[float]:
        return [float(a == b) for a, b in zip(self.tokens, tokens, strict=False)]

    def followed_by(self, tokens: Sequence[int]) -> Choices:
        return OneHot([*self.tokens, *tokens])

    def residual(self, row: int, draft: Choices, weight: float = 1.0) -> Choices:
        return self.row(row)  # p has no mass elsewhere

    def surpluses(self, rows: range, draft: Choices, weights: Sequence[float]) -> list[float]:
        q = draft.probabilities(self.tokens[: rows.stop])[rows.start :]
        return [max(0.0, weight - q_i) for weight, q_i in zip(weights, q, strict=True)]

    def overlaps(self, draft: Choices, count: int) -> list[float]:
        return draft.probabilities(self.tokens[:count])

    def dense(self, like: Tensor) -> Tensor:
        index = torch.tensor(self.tokens, dtype=torch.long, device=like.device)[:, None]
        return like.new_zeros(len(self.tokens), like.shape[-1]).scatter_(1, index, 1.0)


class Dense(Choices):
    """A probability for every token.

    Args:
        probs: shape `[rows, vocab]`.
    """

    __slots__ = ("probs",)

    def __init__(self, probs: Tensor) -> None:
        self.probs = probs

    def __len__(self) -> int:
        return len(self.probs)

    def row(self, row: int) -> Choices:
        return Dense(self.probs[row : row + 1])

    def draw(self, row: int, rng: Randomness, position: int) -> int:
        return rng.categorical(self.probs[row], position)

    def probabilities(self, tokens: Sequence[int]) -> list[float]:
        index = torch.tensor(tokens, dtype=torch.long, device=self.probs.device)[:, None]
        values: list[float] = self.probs[: len(tokens)].gather(1, index)[:, 0].tolist()
        return values

    def followed_by(self, tokens: Sequence[int]) -> Choices:
        return Dense(torch.cat([self.probs, OneHot(tokens).dense(self.probs)]))

    def residual(self, row: int, draft: Choices, weight: float = 1.0) -> Choices:
        rest = self._rest(range(row, row + 1), draft, [weight])  # [1, vocab]
        total = rest.sum()
        return Dense(rest / total) if total > 0 else self.row(row)

    def surpluses(self, rows: range, draft: Choices, weights: Sequence[float]) -> list[float]:
        values: list[float] = self._rest(rows, draft, weights).sum(-1).tolist()
        return values

    def _rest(self, rows: range, draft: Choices, weights: Sequence[float]) -> Tensor:
        """Return max(0, weight · p − q), `[rows, vocab]`."""
        p = self.probs[rows.start : rows.stop]
        weighted = p * p.new_tensor(weights)[:, None]
        if isinstance(draft, OneHot):  # q is 1 there, and no distribution need be made
            index = torch.tensor(draft.tokens[rows.start : rows.stop], dtype=torch.long)
            return weighted.scatter_(1, index.to(p.device)[:, None], 0.0)
        return (weighted - draft.dense(p)[rows.start : rows.stop]).clamp_(min=0)

    def overlaps(self, draft: Choices, count: int) -> list[float]:
        if isinstance(draft, OneHot):
            return self.probabilities(draft.tokens[:count])
        p = self.probs[:count]
        values: list[float] = torch.minimum(p, draft.dense(p)[:count]).sum(-1).tolist()
        return values

    def dense(self, like: Tensor) -> Tensor:
        return self.probs.to(like)


class Decisive(Choices):
    """Choices that judge a whole draft by themselves, by numbers that are there already."""

    @property
    @abstractmethod
    def probs(self) -> Tensor:
        """All rows, `[rows, vocab]`."""

    @abstractmethod
    def judged(
        self,
        acceptance: Acceptance,
        tokens: Sequence[int],
        draft: Choices,
        uniforms: Sequence[float],
    ) -> tuple[int, int, int] | None:
        """Return how many tokens stay, the token after them, and how many numbers are used up.

        Args:
            acceptance: the rule.
            tokens: the draft's.
            draft: what they were drawn from.
            uniforms: one more than there are tokens, in [0, 1).

        Returns:
            What the rule as it is written in `verification` says; None: let it say so itself.
        """
