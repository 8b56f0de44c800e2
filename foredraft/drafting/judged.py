"""JudgedDrafter: retrieval whose promises are held against what the target says.

Every promise is scored, whether it was drafted or not: copies cost nothing to make, so that nothing
need be tried to know what they are worth (full information; Liu et al., "Not-a-Bandit", ICLR 2026).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft.chances import Luck, Mean
from foredraft.drafting.base import Beginning
from foredraft.drafting.retrieval import RetrievalDrafter, Retrieved

CLASSES = 12  # of confidence
PRIOR = 4.0  # scored tokens that a source's own confidence counts for
LARGEST_CHANCE = 0.98
PATIENCE, LONGEST_REST = 4, 64  # looks in vain before steps are left out; how many, at most
FIRST_REST = 8  # steps of a text, where looks have not been worth their time
LOOKS = 32  # the newest ones, by which it is known what one brings
HOPELESS = 0.03  # a chance that all is right below which nobody asks for more

NO_LOGITS = torch.empty(0, 0)


class Chances:
    """How often tokens of each confidence were right, over all texts."""

    def __init__(self) -> None:
        self._hits, self._tries = [0.0] * CLASSES, [0.0] * CLASSES

    def of(self, confidence: float) -> float:
        """Return the chance that a token of this confidence is right."""
        place = self._class(confidence)
        return (self._hits[place] + PRIOR * confidence) / (self._tries[place] + PRIOR)

    def count(self, confidence: float, hit: bool) -> None:
        """Learn from a token that the target has decided about."""
        place = self._class(confidence)
        self._tries[place] += 1
        self._hits[place] += hit

    def _class(self, confidence: float) -> int:
        return min(int(confidence * CLASSES), CLASSES - 1)


class Looks(Mean):
    """What looks at a source bring beyond their time, in tokens: the newest ones, in all texts.

    Attributes:
        texts: since anything that was found was drafted.
    """

    __slots__ = ("texts",)

    def __init__(self) -> None:
        super().__init__(1.0, PATIENCE, LOOKS)
        self.texts = 0

    @property
    def are_worth_it(self) -> bool:
        """Whether a look brings more than its time brings elsewhere."""
        return self.value > 0


class JudgedDrafter(RetrievalDrafter):
    """Retrieves as another drafter does, with chances in place of its confidences.

    A text in which copies hold better, or worse, than elsewhere raises or lowers all of them.

    Args:
        inner: retrieves.

    Attributes:
        rest: steps in which it is left out.
    """

    def __init__(self, inner: RetrievalDrafter) -> None:
        self.inner, self.chances = inner, Chances()
        self.looks = Looks()

    @property
    def learns_from_logits(self) -> bool:
        return self.inner.learns_from_logits

    def start(self, text: Beginning) -> None:
        # The source hears of the text when it is first asked: an index of it takes time.
        self._begin, self._is_begun = text, False
        self._promise: tuple[int, Retrieved, list[float]] | None = None
        self._luck = Luck()
        # Looks in vain, one after another; what is not worth its time is not hoped for anew.
        self._vain = 0 if self.looks.are_worth_it else LONGEST_REST
        self.looks.texts += 1
        texts = 1 if self.inner.is_told else self.looks.texts
        rest = min(FIRST_REST * texts, LONGEST_REST)
        self.rest = 0 if self.looks.are_worth_it else rest
        self._text = list[int]()
        self._heard = 0  # tokens at its end that were not learned from yet

    def rests(self, drafted: Sequence[int] = ()) -> bool:
        """Whether to leave it out: it was of no use of late, and looking takes time too.

        Args:
            drafted: as for `retrieve`; a step counts once, whoever drafts in it.
        """
        if self.rest and not drafted:
            self.rest -= 1
            return True
        return self.rest > 0

    def was_looked_at(self, *, is_used: bool, price: float) -> None:
        """Note whether anything that a look found is drafted.

        Args:
            is_used: whether it is; what that brings is told when it is known.
            price: of the look, in tokens that its time brings elsewhere.
        """
        if is_used:
            self.looks.texts = 0
        else:
            self.looks.add(-price)
        if self.looks.are_worth_it:
            self._vain = 0 if is_used else self._vain + 1
            steps = self._vain // PATIENCE
        else:
            self._vain = self._vain // 2 if is_used else self._vain + 1
            steps = self._vain
        self.rest = min(steps, LONGEST_REST)

    def retrieve(self, tokens: Sequence[int], gamma: int, drafted: Sequence[int] = ()) -> Retrieved:
        self._begin_text()
        if self._heard:
            self._learn(NO_LOGITS)
        found = self.inner.retrieve(tokens, gamma, drafted)
        factor, chances, survival = self._luck.factor, list[float](), 1.0
        for confidence in found.confidences:
            chances.append(min(factor * self.chances.of(confidence), LARGEST_CHANCE))
            survival *= chances[-1]
            if survival < HOPELESS:
                break
        if not drafted:
            self._promise = len(tokens), found, chances
        return Retrieved(found.tokens[: len(chances)], chances, found.is_predicted)

    def observe(self, tokens: list[int], num_emitted: int, target_logits: Tensor) -> None:
        # What is learned of tokens alone can wait until somebody asks: in a row it takes less time.
        self._text, self._heard = tokens, self._heard + num_emitted
        if self.learns_from_logits:
            self._begin_text()
            self._learn(target_logits)

    def _begin_text(self) -> None:
        if not self._is_begun:
            self.inner = self.inner.for_text(self.meter)
            self.inner.start(self._begin)
            self._is_begun = True

    def _learn(self, target_logits: Tensor) -> None:
        """Hold the newest promise against what was said, and let the source learn from it."""
        if self._promise is not None:
            self._score(self._text[self._promise[0] :], self._promise[1])
        self._promise = None
        self.inner.observe(self._text, self._heard, target_logits)
        self._heard = 0

    def _score(self, said: Sequence[int], found: Retrieved) -> None:
        """Count what was promised up to the first token that the target did not say."""
        promised = zip(said, found.tokens, found.confidences, strict=False)
        for token, guess, confidence in promised:
            hit = token == guess
            self._luck.count(self.chances.of(confidence), hit)
            self.chances.count(confidence, hit)
            if not hit:
                break
