"""Stand-ins that several rooms need: tables, counting models, scripted drafters and policies."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence

import torch
from hypothesis import settings
from torch import Tensor

from foredraft.choices import Dense, OneHot
from foredraft.core import Draft, Prompt, StepOutcome, StepRecord, Verdict
from foredraft.drafting import Drafter
from foredraft.drafting.base import Beginning
from foredraft.gamma import GammaPolicy, Signal
from foredraft.models import Context, TableModel

Table = Callable[[tuple[int, ...]], list[float]]

# Hypothesis with the same examples in every run, and no clock: test machines may be busy.
repeatable = settings(derandomize=True, deadline=None, max_examples=100)


def logits_of(probs: Sequence[float]) -> Tensor:
    """Return float64 logits whose softmax is `probs`; a probability of zero becomes −∞."""
    return torch.tensor(probs, dtype=torch.float64).log()


def random_table(vocab_size: int, seed: int, *, zeros: int = 0) -> Table:
    """Return a table in which each prefix has its own row, `zeros` entries of it being zero."""

    @functools.cache
    def row(tokens: tuple[int, ...]) -> list[float]:
        source = random.Random(f"{seed} {tokens}")
        never = source.sample(range(vocab_size), zeros)
        weights = [0.0 if t in never else source.uniform(0.05, 1) for t in range(vocab_size)]
        return [w / sum(weights) for w in weights]

    return row


class CountingTable(TableModel):
    """A table that remembers what it was fed and refuses more tokens than it has positions."""

    fed: list[list[int]]

    text: Context  # the newest

    def open(self, prompt: Prompt) -> Context:
        self.fed, self.text = [], super().open(prompt)
        return self.text

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        assert tokens, "a pass needs at least one token"
        assert context.length + len(tokens) <= self.max_length, "more tokens than positions"
        self.fed.append(list(tokens))
        return super().logits(context, tokens, keep)

    @property
    def held(self) -> list[int]:
        """The tokens in memory."""
        return list(self.text.memory.tokens)


class ScriptedDrafter(Drafter):
    """Proposes the tokens a script holds for the next positions, without probabilities."""

    def __init__(self, script: Sequence[int]) -> None:
        self.script = list(script)

    def start(self, text: Beginning) -> None:
        self._prompt_length = len(text.prompt)

    def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
        first = len(tokens) - self._prompt_length
        return Draft(self.script[first : first + gamma])


class ScriptedPolicy(GammaPolicy):
    """Draws `budget` tokens unless told to stop before or after a certain number of them."""

    def __init__(
        self, budget: int = 5, *, before: int | None = None, after: int | None = None
    ) -> None:
        self._budget, self._before, self._after = budget, before, after
        self.asked_after: list[tuple[int, int]] = []

    @property
    def budget(self) -> int:
        return self._budget

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        return num_drafted != self._before

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        self.asked_after.append((token, num_drafted))
        return num_drafted != self._after


class WhimsicalPolicy(GammaPolicy):
    """Stops before or after a token or goes on, at random, but always alike after one prefix."""

    def __init__(self, budget: int, seed: int) -> None:
        self._budget, self._seed = budget, seed
        self._prefix: list[int] = []

    @property
    def budget(self) -> int:
        return self._budget

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        if num_drafted == 0:
            self._prefix = []
        return self._goes_on("before")

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        self._prefix.append(token)
        return self._goes_on("after")

    def _goes_on(self, when: str) -> bool:
        return random.Random(f"{self._seed} {when} {self._prefix}").random() < 0.75


def judged_step(
    drafted: int,
    accepted: int,
    *,
    draft_seconds: float = 0.0,
    verify_seconds: float = 0.0,
    num_calls: int = 0,
    num_read: int = 0,
    fed: int | None = None,
    target_probs: Tensor | None = None,
    draft_probs: Tensor | None = None,
    accepts_overlap: bool = False,
    is_shared: bool = False,
) -> StepOutcome:
    """Return the outcome of a step that drafted zeros."""
    return StepOutcome(
        Draft(
            [0] * drafted,
            None if draft_probs is None else Dense(draft_probs),
            num_calls=num_calls,
            num_read=num_read,
        ),
        Verdict(accepted, 1),
        OneHot([0] * accepted + [1] * (drafted + 1 - accepted))
        if target_probs is None
        else Dense(target_probs),
        num_emitted=accepted + 1,
        num_fed=drafted + 1 if fed is None else fed,
        draft_seconds=draft_seconds,
        verify_seconds=verify_seconds,
        accepts_overlap=accepts_overlap,
        is_shared=is_shared,
    )


def step(
    drafted: Sequence[int] = (),
    accepted: int = 0,
    emitted: Sequence[int] = (),
    draft_seconds: float = 0.0,
    verify_seconds: float = 0.0,
    draft_calls: int = 0,
    entropy: float | None = None,
    raw_gamma: float | None = None,
) -> StepRecord:
    """Return a step record in few words."""
    return StepRecord(
        drafted=list(drafted),
        num_accepted=accepted,
        emitted=list(emitted),
        draft_seconds=draft_seconds,
        verify_seconds=verify_seconds,
        num_draft_calls=draft_calls,
        normalized_entropy=entropy,
        raw_gamma=raw_gamma,
    )


def probs_of(draft: Draft) -> Tensor:
    """Return the probabilities that a draft was drawn from, `[drafted, vocab]`."""
    assert isinstance(draft.choices, Dense)
    return draft.choices.probs
