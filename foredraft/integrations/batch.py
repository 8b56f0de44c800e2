"""Texts of a batch that an engine hands over row by row, without saying whose they are."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from foredraft.choices import OneHot
from foredraft.core import Draft, StepOutcome, Verdict
from foredraft.drafting import Drafter
from foredraft.gamma import GammaPolicy

TAIL = 64  # newest tokens by which a text is known again
PATIENCE = 16  # steps for which a text is kept that no row goes on with
NOTHING, NO_LOGITS = Draft([]), torch.empty(0, 0)
Tokens: TypeAlias = npt.NDArray[np.int32]
Place: TypeAlias = tuple[int, int, bytes]  # length of a text, sum of its tokens, the last of them


class Text:
    """What is known of one request: its tokens, and what drafts for it."""

    def __init__(self, tokens: list[int], drafter: Drafter, policy: GammaPolicy) -> None:
        self.tokens, self.drafter, self.policy = tokens, drafter, policy
        self.draft, self.draft_seconds = NOTHING, 0.0  # as proposed in the step before
        self.rest = drafter.rest  # steps to come in which its drafter is left alone
        self.steps = 0  # since it was read
        self.missed = 0  # steps in which no row went on with it

    def hear(self, said: Sequence[int], row_seconds: float, *, is_shared: bool) -> StepOutcome:
        """Add the tokens of the step before; return what that has brought.

        Args:
            said: what was kept of its draft, and a token of the target's own.
            row_seconds: of the pass, for each token that it was fed.
            is_shared: whether other texts were fed in the same pass.
        """
        self.tokens += said
        self.steps += 1
        fed = len(self.draft.tokens) + 1
        return StepOutcome(
            self.draft,
            Verdict(len(said) - 1, said[-1]),
            OneHot(list(said)),
            num_emitted=len(said),
            num_fed=fed,
            draft_seconds=self.draft_seconds,
            verify_seconds=row_seconds * fed,
            is_shared=is_shared,
        )

    def learn(self, outcome: StepOutcome, *, is_measured: bool) -> None:
        """Let drafter and policy learn of the step before, its cost only where it is known."""
        if self.rest:
            self.rest -= 1
            return
        self.drafter.observe(self.tokens, outcome.num_emitted, NO_LOGITS)
        if is_measured:
            for learner in (self.drafter, self.policy):
                learner.update(outcome)
        self.rest = self.drafter.rest

    def propose(self, most: int, vocab_size: int) -> list[int]:
        """Return the next draft: tokens that the target can say, `most` of them at most."""
        self.draft, most = NOTHING, min(most, self.policy.budget)
        if most > 0 and not self.rest:
            draft = self.drafter.propose(self.tokens, most, self.policy)
            # A prompt may hold ids, of images say, for which there are no logits.
            odd = [i for i, token in enumerate(draft.tokens) if not 0 <= token < vocab_size]
            self.draft = replace(draft, tokens=draft.tokens[: odd[0]]) if odd else draft
        return self.draft.tokens


class Texts:
    """The texts of all requests, each found again by its tokens.

    vLLM moves requests from row to row, stops them and takes them up again, and names none of them.
    A text that is mistaken for another can only cost drafts: the verifier judges every token. What
    is not found is read anew.

    Args:
        made: makes what is known of a text from its tokens.
        most: requests of a batch; as many texts may wait, beside those, for their row to come back.
    """

    def __init__(self, made: Callable[[list[int]], Text], most: int) -> None:
        self._made, self._most = made, most
        self._waiting: defaultdict[Place, deque[Text]] = defaultdict(deque)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, row: Tokens, num_new: int) -> Text:
        """Return the text that a row goes on with, without its new tokens.

        Args:
            row: all tokens of a request, shape `[tokens]`.
            num_new: tokens at its end that came in this step.
        """
        before = len(row) - num_new
        place = place_of(row[:before])
        found = self._waiting.get(place)
        if not found:
            return self._made(row[:before].tolist())
        text = found.popleft()
        if not found:
            del self._waiting[place]
        return text

    def keep(self, texts: Sequence[Text], rows: Sequence[Tokens]) -> None:
        """Keep the texts of a step, each with its row; forget those that no row goes on with."""
        left = [(place, text) for place, found in self._waiting.items() for text in found]
        left.sort(key=lambda one: one[1].missed)
        self._waiting.clear()
        # In the order of rows, and before those that wait: of texts alike each goes on by itself.
        for text, row in zip(texts, rows, strict=True):
            text.missed = 0
            self._waiting[place_of(row)].append(text)
        for place, text in left[: self._most]:
            text.missed += 1
            if text.missed <= PATIENCE:
                self._waiting[place].append(text)


def place_of(row: Tokens) -> Place:
    """Return by what a text is known again: a comparison of all its tokens would cost more."""
    return len(row), int(row.sum(dtype=np.int64)), row[-TAIL:].tobytes()
