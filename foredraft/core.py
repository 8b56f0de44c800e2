"""The nouns that travel between the rooms, all frozen.

Knows token ids and tensors; knows no model, no text and no policy.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace
from enum import StrEnum

from torch import Tensor

from foredraft.choices import Choices, OneHot

# What a generation answers: token ids; for a model whose encoder reads them, features of shape
# [features, frames].
Prompt = SequenceOf[int] | Tensor
MOST_LAG = 16  # tokens that a draft call reads in passing; more of them make it a long one


class FinishReason(StrEnum):
    """Why a generation ended.

    Attributes:
        EOS: an end token was emitted; it is the last token.
        STOP: a stop string is complete.
        LENGTH: the requested number of tokens is reached.
        CONTEXT: the target has no position left.
        UNSATISFIED: length or context ended it before its structure was complete.
        BLOCKED: the controls left no token that may follow.
        INTERRUPTED: its conversation went on without the rest of it.
    """

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    UNSATISFIED = "unsatisfied"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"


class DraftStop(StrEnum):
    """Why a draft ended where it did.

    Attributes:
        FIRST_TARGET: the first step is the target's alone.
        GAMMA: the length that the policy allows was reached.
        ROOM: no more tokens may be emitted.
        POLICY: the policy stopped it, or wanted no draft.
        UNKNOWN: the drafter knew no continuation.
        CONTEXT: the draft model has no position left.
    """

    FIRST_TARGET = "first_target"
    GAMMA = "gamma"
    ROOM = "room"
    POLICY = "policy"
    UNKNOWN = "unknown"
    CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class Draft:
    """The tokens a drafter proposes in one step.

    Attributes:
        tokens: proposed tokens, `drafted` of them; empty means "decode plainly this time".
        drawn_from: the distributions the tokens were drawn from, `drafted` rows; None for tokens
            that were not drawn: the likeliest ones, and what was looked up.
        num_calls: forward passes of the draft model that were spent.
        num_read: tokens these passes read that were not drafted in them: one or two, unless the
            draft model had rested, or had the prompt to read.
        stopped: why it has no more tokens; None: it has as many as were wanted, or the drafter does
            not say.
        num_predicted: tokens at its end that were copied from the prediction.
    """

    tokens: list[int]
    drawn_from: Choices | None = None
    num_calls: int = 0
    num_read: int = 0
    stopped: DraftStop | None = None
    num_predicted: int = 0

    @property
    def choices(self) -> Choices:
        """What the tokens were drawn from: of those that were not drawn, themselves."""
        return OneHot(self.tokens) if self.drawn_from is None else self.drawn_from

    def followed_by(
        self, copied: list[int], stopped: DraftStop | None, *, is_predicted: bool = False
    ) -> Draft:
        """Return it with tokens after it that were looked up: one-hot rows after soft ones."""
        drawn_from = None if self.drawn_from is None else self.drawn_from.followed_by(copied)
        tokens, predicted = [*self.tokens, *copied], len(copied) if is_predicted else 0
        return replace(
            self, tokens=tokens, drawn_from=drawn_from, stopped=stopped, num_predicted=predicted
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification makes of a draft: how many tokens are accepted, and which token follows.

    Attributes:
        num_accepted: length of the accepted prefix, 0 … drafted.
        next_token: the target's own token after that prefix: `bonus` when every draft was kept,
            `recovered` otherwise.
    """

    num_accepted: int
    next_token: int


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """A finished step as drafters and policies may learn from it.

    Attributes:
        draft: as proposed.
        verdict: as judged.
        choices: what the target would have drawn from, `drafted + 1` rows.
        num_emitted: tokens added to the output, ≥ 1.
        num_fed: tokens the target was fed: `drafted + 1`, or more when it had a prompt to read.
        draft_seconds: wall time of drafting.
        verify_seconds: wall time of the target pass and the verdict.
        accepts_overlap: whether a token drawn from q is kept with probability Σ min(p, q).
        is_shared: whether other texts had a part in the pass; its time is then this text's share.
    """

    draft: Draft
    verdict: Verdict
    choices: Choices
    num_emitted: int
    num_fed: int
    draft_seconds: float
    verify_seconds: float
    accepts_overlap: bool = False
    is_shared: bool = False

    @property
    def read_prompt(self) -> bool:
        """Whether the target was fed more than the draft and one token."""
        return self.num_fed > len(self.draft.tokens) + 1

    @property
    def is_typical(self) -> bool:
        """Whether neither model had more to read than it has in the middle of a generation."""
        return not self.read_prompt and self.draft.num_read <= MOST_LAG

    @property
    def seconds(self) -> float:
        """Wall time of the whole step."""
        return self.draft_seconds + self.verify_seconds


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """What the target thought of a token at a position, in nats.

    Attributes:
        token: its id.
        logprob: by the model's own distribution, at temperature 1 and before anything bends it.
        controlled: after the controls, before temperature and filters; −∞ where they forbid it.
    """

    token: int
    logprob: float
    controlled: float


@dataclass(frozen=True, slots=True)
class PositionLogprobs:
    """What the target thought at the position of an emitted token.

    Attributes:
        chosen: of the token that was emitted.
        top: of the likeliest tokens of the model's own distribution, as many as were asked for.
    """

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One draft–verify–accept round, as data.

    Attributes:
        drafted: the proposed tokens.
        num_accepted: how many of them are part of the output (an end token cuts the rest off).
        emitted: tokens added to the output: the accepted ones, then `recovered` or `bonus`.
        num_draft_calls: forward passes of the draft model.
        num_target_calls: forward passes of the target.
        normalized_entropy: H / ln V of the drafter's first distribution at temperature 1, in
            [0, 1]; None where the policy did not measure it in this step.
        raw_gamma: the adaptive policy's unrounded wish, in tokens; None where there is none.
        stopped: why the draft ended where it did; None for a step of plain decoding.
        draft_seconds: wall time of drafting.
        verify_seconds: wall time of the target pass and the verdict.
        num_threads: threads of the target pass; None where its runtime does not choose them.
        num_predicted: drafted tokens, the last ones, that were copied from the prediction.
        logprobs: one for each emitted token, where they were asked for.
    """

    drafted: list[int]
    num_accepted: int
    emitted: list[int]
    draft_seconds: float
    verify_seconds: float
    num_draft_calls: int = 0
    num_target_calls: int = 1
    normalized_entropy: float | None = None
    raw_gamma: float | None = None
    stopped: DraftStop | None = None
    num_threads: int | None = None
    num_predicted: int = 0
    logprobs: SequenceOf[PositionLogprobs] = ()

    @property
    def gamma(self) -> int:
        """Length of the draft, in tokens."""
        return len(self.drafted)

    @property
    def extra_token(self) -> int | None:
        """The recovered or bonus token; None when the block was cut before it."""
        return self.emitted[-1] if len(self.emitted) > self.num_accepted else None

    @property
    def num_predicted_accepted(self) -> int:
        """Tokens from the prediction that stand in the output."""
        return max(0, self.num_accepted - (len(self.drafted) - self.num_predicted))

    @property
    def is_rejection(self) -> bool:
        """Whether verification rejected a drafted token (a cut by an end token is none)."""
        return self.extra_token is not None and self.num_accepted < len(self.drafted)

    @property
    def seconds(self) -> float:
        """Wall time of the whole step."""
        return self.draft_seconds + self.verify_seconds


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation.

    Attributes:
        method: `target`, `speculative`, `ngram`, `drafter` or `beam`.
        tokens: generated ids only; an end token and the tokens of a stop string are among them.
        text: their text, cut before a stop string, without special tokens.
        finish_reason: why it ended.
        records: one per step, in order.
        seed: the random seed it was drawn with, also where none was given.
    """

    method: str
    tokens: list[int]
    text: str
    finish_reason: FinishReason
    seed: int
    records: SequenceOf[StepRecord] = field(default_factory=tuple)
