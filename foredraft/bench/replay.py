"""Replay: how many tokens drafts would have kept, from recorded outputs, without the target.

Under greedy the target's next token after a recorded prefix is the recorded one. So the loop itself
runs, unchanged, on a `RecordedModel` that says what was recorded; time is a sum of given costs, and
every drafter and policy can be compared with the oracle in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from foredraft.bench.recordings import UNBOUNDED, Recording
from foredraft.config import DecodingConfig
from foredraft.core import StepRecord
from foredraft.costs import Meter
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import Drafter, DraftModelDrafter, DraftParts
from foredraft.files import Json
from foredraft.gamma import GammaPolicy, OracleGamma
from foredraft.method import Method
from foredraft.models import Context, Drafted, Feed, Network, Wrapper
from foredraft.ranges import Checked, Range
from foredraft.sampling import GreedySampler, Rng
from foredraft.tracing import summarize
from foredraft.verification import ExactMatchVerifier

GREEDY, METHOD = GreedySampler(), "speculative"
REPLAYED = (  # what is told of a replay, besides its time
    *("num_emitted_tokens", "num_steps", "num_draft_calls", "num_drafted_tokens"),
    *("num_accepted_tokens", "acceptance_rate", "conditional_acceptance_rate"),
    *("acceptance_by_position", "mean_acceptance_length"),
)
Cost = Annotated[float, Range(0, 10**9)]  # seconds, or target passes
PassCost = Annotated[float, Range(1e-12, 10**9)]  # a pass takes some time: ratios are to it


@dataclass(frozen=True)
class CostTable(Checked):
    """Seconds, or any unit of time: only ratios matter."""

    draft: Cost = 0.2  # one call of the draft model, t_d
    verify: PassCost = 1.0  # a target pass over one token and no draft, T_v(0)
    verify_token: Cost = 0.02  # what each drafted token adds to it
    # a further token of a draft that the model makes in one call, without being asked between the
    # tokens; None: as much as a call
    draft_token: Cost | None = None


class Clock:
    """Stands still, except where a cost is added."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class RecordedModel(Network):
    """A target that says what was recorded; its logits are 1 there and 0 elsewhere."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size, self.max_length = vocab_size, UNBOUNDED
        self._said: list[int] = []

    def play(self, recording: Recording) -> None:
        """Say this from now on."""
        self._said = [*recording.prompt, *recording.tokens]

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        context.memory.tokens += tokens
        first = context.length - keep + 1
        said = self._said[first : first + keep]  # nothing is emitted beyond the recorded end
        logits = torch.zeros(keep, self.vocab_size)
        logits[range(len(said)), said] = 1.0
        return logits


class TimedModel(Wrapper):
    """A model whose passes take a given time by a clock that stands still otherwise.

    Args:
        inner: the model.
        seconds: of a pass that returns one row of logits.
        seconds_a_row: of each further row.
        clock: runs on at each pass.
        seconds_a_token: of each further token of a draft in one call; None: as of a pass.
    """

    def __init__(
        self,
        inner: Network,
        seconds: float,
        seconds_a_row: float,
        clock: Clock,
        seconds_a_token: float | None = None,
    ) -> None:
        super().__init__(inner)
        self._clock, self._seconds, self._seconds_a_row = clock, seconds, seconds_a_row
        self._seconds_a_token = seconds if seconds_a_token is None else seconds_a_token

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        self._clock.now += self._seconds + self._seconds_a_row * (keep - 1)
        return super().logits(context, tokens, keep)

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        self.check(feeds, count)
        self._clock.now += self._seconds + self._seconds_a_token * (count - 1)
        inner = [Feed(feed.context.memory.context, feed.tokens) for feed in feeds]
        drafts = self.inner.draft(inner, count)
        for feed, drafted in zip(feeds, drafts, strict=True):
            feed.context.memory.tokens += [*feed.tokens, *drafted.tokens[:-1]]
        return drafts


@dataclass(frozen=True)
class Replayed:
    """One drafter under one policy, over all recordings."""

    drafting: str  # spec string of the drafter
    policy: str  # spec string of the policy, or `oracle`
    records: list[list[StepRecord]]  # the steps of each recording
    seconds: float  # of all steps, by the cost table
    regret: float = 0.0  # 1 − tokens per second / the oracle's with the same drafter, in [0, 1)

    @property
    def num_tokens(self) -> int:
        """Emitted tokens."""
        return sum(len(step.emitted) for steps in self.records for step in steps)

    @property
    def tokens_per_second(self) -> float:
        """By the cost table."""
        return self.num_tokens / self.seconds

    def to_dict(self) -> dict[str, Json]:
        """Return one flat JSON object."""
        summary = summarize([step for steps in self.records for step in steps]).to_dict()
        return {
            "drafting": self.drafting,
            "policy": self.policy,
            **{name: summary[name] for name in REPLAYED},
            "tokens_per_second": self.tokens_per_second,
            "regret": self.regret,
        }


class Replay:
    """Recorded outputs, at least one, and what it takes to replay them.

    Without a draft model, those drafters are left that need none; `first_target` is as in the
    run that was recorded.

    Raises:
        ConfigError: a cost is no number, or too large or small to be one of a pass.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        *,
        costs: CostTable | None = None,
        draft_model: Network | None = None,
        first_target: bool = True,
    ) -> None:
        self.recordings = list(recordings) if draft_model else _renumbered(recordings)
        self.costs = costs or CostTable()
        self.draft_model = draft_model
        self.first_target = first_target
        self.vocab_size = max(r.vocab_size for r in self.recordings)
        inside = {token for r in self.recordings for token in r.tokens[:-1]}
        last = {r.tokens[-1] for r in self.recordings if len(r.tokens) < r.limit}
        self._ends = frozenset(last - inside)
        if draft_model is not None:
            self.vocab_size = max(self.vocab_size, draft_model.vocab_size)

    def run(self, drafting: str, policies: Sequence[str], *, gamma: int = 4) -> list[Replayed]:
        """Replay as `play` does; the oracle, played as well, comes last."""
        played, oracle = self.play(drafting, policies, gamma=gamma), self._oracle(drafting)
        best = oracle.tokens_per_second
        return [replace(one, regret=1 - one.tokens_per_second / best) for one in [*played, oracle]]

    def play(self, drafting: str, policies: Sequence[str], *, gamma: int = 4) -> list[Replayed]:
        """Replay one drafter under several policies, without the oracle: no regret is known.

        An n-gram filler is off: what the target nearly said is not recorded. Gamma is for policies
        that do not name theirs.

        Raises:
            ConfigError: an unknown drafter or policy, or one that needs the missing draft model.
        """
        played = []
        for spec in policies:
            method = Method.of(DecodingConfig(policy=spec, gamma=gamma, drafting=drafting), METHOD)
            policy = method.policy  # one for all, as an engine keeps it
            played.append(self._play(drafting, spec, [policy] * len(self.recordings)))
        return played

    def _oracle(self, drafting: str) -> Replayed:
        """Play twice: once to find where drafts end, once without paying for finding it."""
        found = self._play(drafting, "oracle", [OracleGamma(r.tokens) for r in self.recordings])
        policies = [
            OracleGamma(recording.tokens, [len(step.drafted) for step in steps])
            for recording, steps in zip(self.recordings, found.records, strict=True)
        ]
        return self._play(drafting, "oracle", policies)

    def _play(self, drafting: str, policy: str, policies: Sequence[GammaPolicy]) -> Replayed:
        clock = Clock()
        recorded = RecordedModel(self.vocab_size)
        target = TimedModel(recorded, self.costs.verify, self.costs.verify_token, clock)
        drafter, meter = self._drafter(drafting, clock), Meter()
        records = []
        for recording, rule in zip(self.recordings, policies, strict=True):
            parts = Speculation(
                target, drafter, rule, ExactMatchVerifier(), GREEDY, self.first_target, clock, meter
            )
            recorded.play(recording)
            request = Request(
                target.open(recording.prompt),
                Rng(0),
                max_new_tokens=recording.limit,
                eos_token_ids=self._ends,
                stop_check=_Countdown(len(recording.tokens)),
                clock=clock,
            )
            records.append(list(speculative_steps(parts, request)))
        return Replayed(drafting, policy, records, clock.now)

    def _drafter(self, drafting: str, clock: Clock) -> Drafter:
        neural, costs = None, self.costs
        if self.draft_model is not None:
            timed = TimedModel(self.draft_model, costs.draft, 0.0, clock, costs.draft_token)
            neural = DraftModelDrafter(timed, GREEDY)
        parts = DraftParts(self.vocab_size, neural, knows_logits=False)
        source = Method.of(DecodingConfig(drafting=drafting), METHOD).source
        assert source is not None
        return source.build(parts)


class _Countdown:
    """A stop check: True at the last recorded token, so that nothing beyond it is emitted."""

    def __init__(self, length: int) -> None:
        self._left = length

    def __call__(self, token: int) -> bool:
        self._left -= 1
        return self._left == 0


def _renumbered(recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings with tokens 0, 1, … in the order in which they occur.

    What is retrieved does not depend on the numbers, and logits of a few columns are soon made.
    """
    numbers: dict[int, int] = {}

    def new(tokens: list[int]) -> list[int]:
        return [numbers.setdefault(token, len(numbers)) for token in tokens]

    return [replace(r, prompt=new(r.prompt), tokens=new(r.tokens)) for r in recordings]
