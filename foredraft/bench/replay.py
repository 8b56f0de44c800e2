"""Replay: how many tokens drafts would have kept, from recorded outputs, without the target.

Under greedy the target's next token after a recorded prefix is the recorded one. So the loop itself
runs, unchanged, on a `RecordedModel` that says what was recorded; time is a sum of given costs, and
every drafter and policy can be compared with the oracle in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foredraft.bench.recordings import UNBOUNDED, Recording
from foredraft.bench.timed import (
    NO_OVERHEAD,
    Clock,
    Costs,
    CostTable,
    Overhead,
    TimedDrafter,
    TimedModel,
)
from foredraft.config import DecodingConfig
from foredraft.core import Prompt, StepRecord
from foredraft.costs import Meter
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import Drafter, DraftParts, neural_parts
from foredraft.errors import ConfigError
from foredraft.files import Json
from foredraft.gamma import GammaPolicy, OracleGamma
from foredraft.method import Method
from foredraft.models import Context, Network
from foredraft.models.head import HeadModel
from foredraft.sampling import GreedySampler, Rng
from foredraft.tracing import summarize
from foredraft.translation import Translation
from foredraft.verification import ExactMatchVerifier

GREEDY, METHOD = GreedySampler(), "speculative"
REPLAYED = (  # what is told of a replay, besides its time
    *("num_emitted_tokens", "num_steps", "num_draft_calls", "num_drafted_tokens"),
    *("num_accepted_tokens", "acceptance_rate", "conditional_acceptance_rate"),
    *("acceptance_by_position", "mean_acceptance_length"),
)


class RecordedModel(Network):
    """A target that says what was recorded; its logits are 1 there and 0 elsewhere."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size, self.max_length = vocab_size, UNBOUNDED
        self._begin: list[int] = []
        self._said: list[int] = []

    def play(self, recording: Recording) -> None:
        """Say this from now on."""
        self._begin = recording.beginning
        self._said = [*self._begin, *recording.tokens]

    def open(self, prompt: Prompt) -> Context:
        return Context(self, prompt, list(self._begin), self._free_memory())

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        context.memory.tokens += tokens
        first = context.length - keep + 1
        said = self._said[first : first + keep]  # nothing is emitted beyond the recorded end
        logits = torch.zeros(keep, self.vocab_size)
        logits[range(len(said)), said] = 1.0
        return logits


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

    Without a draft model, those drafters are left that need none; `translation` is between the
    recorded tokens and those of a draft model with another tokenizer; `first_target` is as in the
    run that was recorded. A head reads states that are not recorded, so beside it the `target`
    itself runs, as quick as the costs say; nothing else needs one.

    Raises:
        ConfigError: a cost is no number, or too large or small to be one of a pass; or a head
            has no target to read.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        *,
        costs: Costs | CostTable | None = None,
        draft_model: Network | None = None,
        translation: Translation | None = None,
        first_target: bool = True,
        target: Network | None = None,
    ) -> None:
        if isinstance(draft_model, HeadModel) and target is None:
            raise ConfigError(
                "a head drafts from states of its target, which a replay does not run; replay "
                "another drafter, or let `foredraft advise` measure the head"
            )
        self.recordings = list(recordings) if draft_model else _renumbered(recordings)
        costs = costs or CostTable()
        self.costs = costs.costs if isinstance(costs, CostTable) else costs
        self.draft_model = draft_model
        self.target = target if isinstance(draft_model, HeadModel) else None
        self.first_target = first_target
        self.vocab_size = max(r.vocab_size for r in self.recordings)
        inside = {token for r in self.recordings for token in r.tokens[:-1]}
        last = {r.tokens[-1] for r in self.recordings if len(r.tokens) < r.limit}
        self._ends = frozenset(last - inside)
        self.translation = translation
        if translation is not None:
            self.vocab_size = max(self.vocab_size, len(translation.target.pieces))
        elif draft_model is not None:
            self.vocab_size = max(self.vocab_size, draft_model.vocab_size)

    def run(self, drafting: str, policies: Sequence[str], *, gamma: int = 4) -> list[Replayed]:
        """Replay as `play` does; the oracle, played as well, comes last."""
        played, oracle = self.play(drafting, policies, gamma=gamma), self._oracle(drafting)
        best = oracle.tokens_per_second
        return [replace(one, regret=1 - one.tokens_per_second / best) for one in [*played, oracle]]

    def play(
        self,
        drafting: str,
        policies: Sequence[str],
        *,
        gamma: int = 4,
        overhead: Overhead = NO_OVERHEAD,
        times: int = 1,
    ) -> list[Replayed]:
        """Replay one drafter under several policies, without the oracle: no regret is known.

        An n-gram filler is off: what the target nearly said is not recorded.

        Args:
            drafting: spec string of the drafter.
            policies: spec strings.
            gamma: for policies that do not name theirs.
            overhead: what the drafter takes besides models.
            times: that all is played; of several all but the first count, in which it learned.

        Raises:
            ConfigError: an unknown drafter or policy, or one that needs the missing draft model.
        """
        played = []
        for spec in policies:
            method = Method.of(DecodingConfig(policy=spec, gamma=gamma, drafting=drafting), METHOD)
            rules = [method.policy] * len(self.recordings)  # one for all, as an engine keeps it
            played.append(self._play(drafting, spec, rules, overhead, times))
        return played

    def _oracle(self, drafting: str) -> Replayed:
        """Play twice: once to find where drafts end, once without paying for finding it."""
        found = self._play(drafting, "oracle", [OracleGamma(r.tokens) for r in self.recordings])
        policies = [
            OracleGamma(recording.tokens, [len(step.drafted) for step in steps])
            for recording, steps in zip(self.recordings, found.records, strict=True)
        ]
        return self._play(drafting, "oracle", policies)

    def _play(
        self,
        drafting: str,
        policy: str,
        policies: Sequence[GammaPolicy],
        overhead: Overhead = NO_OVERHEAD,
        times: int = 1,
    ) -> Replayed:
        clock = Clock()
        recorded = RecordedModel(self.vocab_size)
        costs = self.costs
        said_by = self.target or recorded
        target = TimedModel(said_by, lambda rows: costs.verify(rows - 1), clock, costs.read)
        drafter = TimedDrafter(self._drafter(drafting), costs, overhead, clock)
        meter, records, begin = Meter(), list[list[StepRecord]](), 0.0
        for turn in range(times):
            records = []
            if turn == 1:
                begin = clock.now
            for recording, rule in zip(self.recordings, policies, strict=True):
                recorded.play(recording)
                parts = Speculation(
                    *(target, drafter, rule, ExactMatchVerifier(), GREEDY, self.first_target),
                    *(clock, meter),
                )
                records.append(list(speculative_steps(parts, self._request(parts, recording))))
        return Replayed(drafting, policy, records, (clock.now - begin) / max(1, times - 1))

    def _request(self, parts: Speculation, recording: Recording) -> Request:
        return Request(
            parts.target.open(recording.prompt),
            Rng(0),
            max_new_tokens=recording.limit,
            eos_token_ids=self._ends,
            stop_check=_Countdown(len(recording.tokens)),
            clock=parts.clock,
        )

    def _drafter(self, drafting: str) -> Drafter:
        parts = DraftParts(self.vocab_size, knows_logits=False)
        if self.draft_model is not None:
            parts = neural_parts(
                *(self.vocab_size, self.draft_model, GREEDY, self.translation),
                is_foreign=self.translation is not None,
                knows_logits=False,
            )
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

    return [
        replace(
            r,
            prompt=new(r.prompt),
            begin=None if r.begin is None else new(r.begin),
            tokens=new(r.tokens),
        )
        for r in recordings
    ]
