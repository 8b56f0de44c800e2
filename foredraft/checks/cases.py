"""The cases that a verifier is judged on: a target and a drafter after every short prefix.

Peaked and flat, equal, disjoint, with zeros, drafts that were looked up, drafts that end early; one
to three tokens long. Small enough that every draft and every text can be written down.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from foredraft.checks.protocols import Question

Tokens = tuple[int, ...]
Row = tuple[float, ...]
Rows = Callable[[Tokens], Row]

VOCAB = 4
GAMMAS = (1, 2, 3)
LAST = 0  # after this token a draft that may end early ends


@dataclass(frozen=True)
class Case:
    """A target and a drafter.

    Attributes:
        name: what is special about it.
        gamma: most tokens of a draft.
        target: prefix → the target's next-token probabilities.
        drafter: prefix → those of the drafter.
        is_one_hot: whether drafts are looked up.
        ends_early: whether a draft ends with the token `LAST`.
    """

    name: str
    gamma: int
    target: Rows
    drafter: Rows
    is_one_hot: bool = False
    ends_early: bool = False

    def drafts(self) -> Iterator[tuple[Tokens, float]]:
        """Yield every draft and its probability."""
        drafts: list[tuple[Tokens, float]] = [((), 1.0)]
        while drafts:
            draft, chance = drafts.pop()
            if len(draft) == self.gamma or (self.ends_early and LAST in draft):
                yield draft, chance
                continue
            row = self.drafter(draft)
            drafts += [((*draft, token), chance * q) for token, q in enumerate(row) if q > 0]

    def question(self, draft: Tokens) -> Question:
        """Return what a verifier is asked about a draft."""
        prefixes = [draft[:end] for end in range(len(draft) + 1)]
        return Question(
            draft,
            _tensor([self.drafter(prefix) for prefix in prefixes[:-1]]),
            _tensor([self.target(prefix) for prefix in prefixes]),
            self.is_one_hot,
        )

    def ratios(self, draft: Tokens) -> list[float]:
        """Return p / q of every token of a draft."""
        return [
            self.target(draft[:i])[token] / self.drafter(draft[:i])[token]
            for i, token in enumerate(draft)
        ]

    def texts(self, begin: Tokens = (), chance: float = 1.0) -> dict[Tokens, float]:
        """Return what becomes of a beginning, gamma + 1 tokens long, if the target goes on."""
        texts = {begin: chance}
        while min(map(len, texts)) <= self.gamma:
            texts = {
                (*text, token): mass * p
                for text, mass in texts.items()
                for token, p in enumerate(self.target(text))
                if p > 0
            }
        return texts


def cases() -> list[Case]:
    """Return all of them."""
    flat, sharp = _rows("flat", 1), _rows("sharp", 5)
    some, others = _rows("some", 2, zeros=1), _rows("others", 3, zeros=2)
    low, high = _within(flat, (0, 1)), _within(sharp, (2, 3))
    found = []
    for gamma in GAMMAS:
        short = (lambda rows: _within(rows, (0, 2))) if gamma > 2 else (lambda rows: rows)
        found += [
            Case("flat target, peaked draft", gamma, flat, short(sharp)),
            Case("peaked target, flat draft", gamma, sharp, short(flat)),
            Case("draft = target", gamma, short(sharp), short(sharp)),
            Case("zeros in both", gamma, some, others),
            Case("disjoint supports", gamma, low, high),
            Case("looked up", gamma, flat, _one_hot(sharp), is_one_hot=True),
            Case("looked up, impossible", gamma, low, _one_hot(high), is_one_hot=True),
        ]
        if gamma > 1:
            found.append(Case("ends early", gamma, flat, short(sharp), ends_early=True))
    return found


def _rows(name: str, power: float, zeros: int = 0) -> Rows:
    @cache
    def row(prefix: Tokens) -> Row:
        rng = random.Random(f"{name} {prefix}")
        weights = [(0.1 + rng.random()) ** power for _ in range(VOCAB)]
        for token in rng.sample(range(VOCAB), zeros):
            weights[token] = 0.0
        return _normal(weights)

    return row


def _within(rows: Rows, tokens: Tokens) -> Rows:
    """Return the rows without all other tokens."""
    return lambda prefix: _normal([p * (i in tokens) for i, p in enumerate(rows(prefix))])


def _one_hot(rows: Rows) -> Rows:
    """Return rows that are 1 at their likeliest token."""
    return lambda prefix: tuple(float(p == max(rows(prefix))) for p in rows(prefix))


def _normal(weights: list[float]) -> Row:
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def _tensor(rows: list[Row]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)
