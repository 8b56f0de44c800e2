"""GammaPolicy: how many tokens to draft in the next step.

Knows what a drafter knows of its next token, and verdicts; knows no model. A policy may stop
*before* a token is drawn or *after* one that is then kept and verified. It can never discard a
drawn token: that would bias the output, so there is no method for it.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

from torch import Tensor

from foredraft.core import StepOutcome
from foredraft.costs import Meter
from foredraft.logits import chance_of, entropy_of, two_largest
from foredraft.ranges import Checked
from foredraft.registry import Registry

WIDEST_MARGIN = 30.0  # of two logits; also what −∞ beside a number counts for


class Signal:
    """What a drafter knows about its next token before it is drawn.

    A neural drafter has logits. A drafter that looks up or counts has one token and a confidence
    in it; where a number needs a distribution, the most that the confidence says stands in.

    Args:
        logits: before any filter, shape `[vocab]`; None for a token that was looked up or of which
            only a margin is kept.
        token: the one looked up.
        confidence: probability, in [0, 1], that the target would say it.
        num_calls: draft calls made in this step by the time of the question, the one that gave
            this token among them.
    """

    __slots__ = ("_margin", "_token", "confidence", "logits", "num_calls")

    def __init__(
        self,
        logits: Tensor | None,
        token: int = -1,
        confidence: float = 0.0,
        *,
        num_calls: int = 0,
    ) -> None:
        self.logits, self._token, self.confidence = logits, token, confidence
        self.num_calls = num_calls
        self._margin: float | None = None

    @classmethod
    def drafted(cls, token: int, margin: float, num_calls: int) -> Signal:
        """Return the signal of a token of a stride, of whose logits little is kept.

        Args:
            token: the likeliest; −1 where one was drawn, which nobody may see before it is kept.
            margin: how far the largest logit is above the second.
            num_calls: as for the class.
        """
        confidence = 1 / (1 + math.exp(-min(margin, WIDEST_MARGIN)))
        signal = cls(None, token, confidence, num_calls=num_calls)
        signal._margin = margin
        return signal

    @property
    def is_counted(self) -> bool:
        """Whether the token was looked up: it costs no draft call, and it is not drawn."""
        return self.logits is None and self._margin is None

    @property
    def likeliest(self) -> int:
        """The token the drafter thinks most of."""
        if self._token < 0 and self.logits is not None:
            self._token = two_largest(self.logits)[0]
        return self._token

    def probability(self, token: int) -> float:
        """Return the drafter's probability of a token at temperature 1, before filters."""
        if self.logits is None:
            return self.confidence if token == self._token else 0.0
        return chance_of(self.logits, token)

    @property
    def entropy(self) -> float:
        """H in nats at temperature 1; of a counted token −ln confidence, its min-entropy."""
        if self.logits is None:
            return -math.log(max(self.confidence, math.exp(-WIDEST_MARGIN)))
        return entropy_of(self.logits)

    @property
    def normalized_entropy(self) -> float:
        """H / ln V, in [0, 1]; of a counted token 1 − confidence. One token in all: 0."""
        if self.logits is None:
            return 1 - self.confidence
        vocab = len(self.logits)
        return min(1.0, self.entropy / math.log(vocab)) if vocab > 1 else 0.0

    @property
    def margin(self) -> float:
        """Largest minus second largest logit, ≤ 30; of a counted token the log-odds, within ±30."""
        if self._margin is not None:
            return min(self._margin, WIDEST_MARGIN)
        if self.logits is None:
            odds = max(self.confidence, 1e-13) / max(1 - self.confidence, 1e-13)
            return min(max(math.log(odds), -WIDEST_MARGIN), WIDEST_MARGIN)
        self._token, first, second = two_largest(self.logits)
        return min(first - second, WIDEST_MARGIN)


class GammaPolicy(Checked, ABC):
    """The rule for gamma.

    Whoever keeps a policy keeps what it has learned of models and machine; every generation gets
    one of its own by `for_text`.

    Attributes:
        meter: what draft calls and passes cost; the loop tells it of every step.
        ends: tokens that end the text: after one of them nothing more is drafted.
    """

    meter: Meter
    ends: ClassVar[frozenset[int]] = frozenset()

    def for_text(self, meter: Meter, ends: frozenset[int] = frozenset()) -> Self:
        """Return the policy of one text: what `start` sets is its own, what is learned is shared.

        Learned is what stands in objects of its own; numbers and lists that are set anew belong to
        the text.

        Args:
            meter: of the pair of models.
            ends: tokens that end the text.
        """
        own = copy.copy(self)
        own.meter = meter
        own.ends = ends  # type: ignore[misc]
        return own

    @property
    def stops_for_cost(self) -> bool:
        """Whether a stop says that another draft call costs too much, not that a draft is bad.

        Tokens that cost no call may then be asked for still.
        """
        return False

    def start(self) -> None:
        """Begin a text: set whatever belongs to it."""

    @property
    @abstractmethod
    def budget(self) -> int:
        """The most tokens the next draft may have, ≥ 0."""

    def before_token(self, signal: Signal, num_drafted: int) -> bool:
        """Whether to draw one more token.

        Args:
            signal: what the drafter knows of it.
            num_drafted: tokens drawn so far in this step; 0 means a new step begins.
        """
        return True

    def after_token(self, token: int, signal: Signal, num_drafted: int) -> bool:
        """Whether to go on after `token`, the `num_drafted`-th; it stays drafted either way.

        Args:
            token: just drawn.
            signal: what the drafter knew of it before it was drawn.
            num_drafted: tokens drawn so far in this step, `token` included.
        """
        return True

    def admits(
        self, margins: Sequence[float], num_drafted: int, num_calls: int
    ) -> tuple[int, bool] | None:
        """Return how many tokens of a stride are drafted, and whether to go on after all of them.

        A stride is asked about at once, since Python costs more beside a quick pass than what is
        asked. Whether token k is drafted may depend on margins up to its own, on none behind it.

        Args:
            margins: of its tokens, all that is known of them.
            num_drafted: tokens drawn so far in this step.
            num_calls: draft calls made in this step, the stride's among them.

        Returns:
            None: it must be asked about each token by itself.
        """
        kind = type(self)
        asks_nothing = kind.before_token is GammaPolicy.before_token
        if asks_nothing and kind.after_token is GammaPolicy.after_token:
            return len(margins), True
        return None

    def update(self, outcome: StepOutcome) -> None:
        """Learn from a finished step."""

    def stride(self, num_drafted: int) -> int:
        """Return how many tokens may be drafted now before it is asked about the first of them.

        A question without an effect; the answer is a bound on draft calls, so tokens that are
        looked up need none. 1: it must hear of each token before the next call, and of its logits
        unless `admits` is content with margins. More: they may be drafted in one call, and their
        signals know margins, not whole rows of logits. 0: no further call is worth its time.

        Tokens that are drawn may be drafted so, too. Whether token k is proposed is decided by the
        margins up to its own and by the tokens before it: by its prefix, not by what was drawn
        there, which the signal does not tell. So given its prefix a token that is proposed has the
        distribution it was drawn from, which is all that a verifier rests on, and one that is not
        proposed has decided nothing.

        Args:
            num_drafted: tokens drafted so far in this step.
        """
        return 1

    @property
    def normalized_entropy(self) -> float | None:
        """H / ln V measured since the last `update`, for the record; None when not measured."""
        return None

    @property
    def raw_gamma(self) -> float | None:
        """The unrounded length wished for since the last `update`, for the record."""
        return None


GAMMA_POLICIES: Registry[GammaPolicy] = Registry("gamma policy")
