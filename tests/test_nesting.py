"""Every part that takes another, with every other inside: each learns, records, keeps its pace."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from foredraft.assembly import Assembly
from foredraft.config import DecodingConfig
from foredraft.core import Draft, StepOutcome, StepRecord
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import DRAFTERS, AutoDrafter, Drafter, DraftModelDrafter, DraftParts
from foredraft.drafting.bandit import BanditDrafter
from foredraft.drafting.hybrid import HybridDrafter
from foredraft.gamma import GAMMA_POLICIES, BanditGamma, CostAwareGamma, GammaPolicy, Signal
from foredraft.gamma.cost_aware import LEARNING
from foredraft.loading import LoadedModel
from foredraft.method import Method
from foredraft.models import Context, Drafted, Feed, TableModel
from foredraft.sampling import SAMPLERS, GreedySampler, Rng, Sampler
from foredraft.verification import VERIFIERS
from tests.doubles import judged_step, random_table
from tests.nested import NESTED, RETRIEVING

VOCAB = 12
PROMPT = [0, 1, 2, 3, 0, 1, 2, 3]
AT_ONCE = {  # take several in one call
    *("fixed", "heuristic", "entropy", "entropy_cost", "cost_aware"),
    *("asymmetric", "throughput", "bandit"),
}
DRAFTING = [s for s in NESTED if s != "hybrid(ngram, plain)"]  # copies what is sure: nothing


class Timed(TableModel):
    """A table whose passes take time on a clock that stands still otherwise."""

    def __init__(self, table: object, clock: list[float], seconds: float) -> None:
        super().__init__(table, max_length=4096)  # type: ignore[arg-type]
        self.clock, self.seconds, self.runs = clock, seconds, 0

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        self.clock[0] += self.seconds
        return super().logits(context, tokens, keep)

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        self.runs += 1
        return super().draft(feeds, count)


class World:
    """A target, and a draft model that is right.

    Args:
        draft_seconds: of a draft call; a target pass takes 1.
        repeats: say the same nine tokens again and again, with a slip now and then; else nothing
            that could be copied.
    """

    def __init__(self, draft_seconds: float, *, repeats: bool = True) -> None:
        self.clock, self.repeats = [0.0], repeats
        self.target = Timed(self.row, self.clock, 1.0)
        self.draft_model = Timed(self.row, self.clock, draft_seconds)

    def row(self, tokens: tuple[int, ...]) -> list[float]:
        at = len(tokens)
        is_slip = not self.repeats or at % 31 == 0
        said = random.Random(at).randrange(VOCAB) if is_slip else at % 9
        return [float(token == said) for token in range(VOCAB)]

    def drafter(self, spec: str) -> Drafter:
        neural = DraftModelDrafter(self.draft_model, GreedySampler())
        return DRAFTERS.create(spec).build(DraftParts(VOCAB, neural))

    def run(self, drafter: Drafter, policy: GammaPolicy, tokens: int = 200) -> list[StepRecord]:
        verifier = VERIFIERS.create("rejection")
        parts = Speculation(
            self.target,
            drafter,
            policy,
            verifier,
            GreedySampler(),
            clock=lambda: self.clock[0],
        )
        request = Request(self.target.open(PROMPT), Rng(0), max_new_tokens=tokens)
        return list(speculative_steps(parts, request))


def inside(drafter: Drafter) -> Iterator[Drafter]:
    """Yield a drafter and those inside it."""
    yield drafter
    if isinstance(drafter, HybridDrafter):
        parts = [drafter.first, drafter.fallback]
    elif isinstance(drafter, AutoDrafter):
        parts = [*drafter.sources, *drafter.models]
    else:
        parts = drafter.drafters if isinstance(drafter, BanditDrafter) else []
    for part in parts:
        yield from inside(part)


class Heard:
    """Listens to one drafter of every text: the drafts it made, and the outcomes it was told."""

    def __init__(self, drafter: Drafter, monkeypatch: pytest.MonkeyPatch) -> None:
        drafts, outcomes = list[Draft](), list[StepOutcome]()
        self.drafts, self.outcomes = drafts, outcomes
        kind: Any = type(drafter)

        class Listening(kind):
            def propose(self, tokens: list[int], gamma: int, policy: GammaPolicy) -> Draft:
                drafts.append(super().propose(tokens, gamma, policy))
                return drafts[-1]

            def update(self, outcome: StepOutcome) -> None:
                outcomes.append(outcome)
                super().update(outcome)

        monkeypatch.setattr(drafter, "__class__", Listening)


@pytest.mark.parametrize("spec", DRAFTING)
def test_whoever_drafted_is_told_what_came_of_it(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(0.1)
    drafter = world.drafter(spec)
    heard = [Heard(part, monkeypatch) for part in {id(p): p for p in inside(drafter)}.values()]
    records = world.run(drafter, GAMMA_POLICIES.create("fixed(gamma=3)"), 120)
    assert sum(bool(r.drafted) for r in records) > 10
    for listener in heard:
        made = sum(bool(draft.tokens) for draft in listener.drafts)
        told = sum(bool(outcome.draft.tokens) for outcome in listener.outcomes)
        assert told >= made, "each draft that was verified is learned from"


@pytest.mark.parametrize("spec", [s for s in NESTED if "bandit" in s])
def test_every_arm_of_every_bandit_is_played(spec: str) -> None:
    world = World(0.1, repeats=False)  # little to copy, so that every part has its turn
    drafter = world.drafter(spec)
    world.run(drafter, GAMMA_POLICIES.create("fixed(gamma=3)"), 2000)
    for part in inside(drafter):
        if isinstance(part, BanditDrafter):
            assert all(rate.steps > 0 for rate in part.scores.rates), spec


@pytest.mark.parametrize("drafting", [d for d in (*DRAFTERS.names, *DRAFTING) if d != "plain"])
@pytest.mark.parametrize("policy", ["entropy", "bandit(entropy, entropy(gamma_max=2))"])
def test_the_record_has_the_entropy_whoever_drafts(drafting: str, policy: str) -> None:
    world = World(0.1)
    records = world.run(world.drafter(drafting), GAMMA_POLICIES.create(policy), 100)
    drafted = [r for r in records if r.drafted]
    assert len(drafted) > 5
    for record in records:
        assert (record.normalized_entropy is not None) == bool(record.drafted)
        assert (record.raw_gamma is not None) == bool(record.drafted)


@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_a_policy_in_a_bandit_drafts_as_it_does_alone(name: str) -> None:
    def play(spec: str) -> tuple[list[tuple[list[int], int]], int]:
        world = World(0.1)
        records = world.run(world.drafter("model"), GAMMA_POLICIES.create(spec), 150)
        return [(r.drafted, r.num_draft_calls) for r in records], world.draft_model.runs

    alone = play(name)
    assert play(f"bandit({name})") == alone
    assert (alone[1] > 0) == (name in AT_ONCE)


@pytest.mark.parametrize("drafting", ["model", *RETRIEVING])
@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_every_policy_of_a_bandit_learns_and_is_recorded(
    name: str, drafting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bandit = GAMMA_POLICIES.create(f"bandit({name}, fixed(gamma=1), hold=8)")
    assert isinstance(bandit, BanditGamma)
    kind, told, measured = type(bandit.arms[0]), [0], list[tuple[float | None, float | None]]()
    update = kind.update

    def listening(policy: GammaPolicy, outcome: StepOutcome) -> None:
        told[0] += 1
        measured.append((policy.normalized_entropy, policy.raw_gamma))
        update(policy, outcome)

    monkeypatch.setattr(kind, "update", listening)
    world = World(0.1)
    records = world.run(world.drafter(drafting), bandit, 400)
    assert told[0] > 5
    assert all(rate.steps > 0 for rate in bandit._scores.rates)
    recorded = [(r.normalized_entropy, r.raw_gamma) for r in records]
    assert set(measured) <= set(recorded)


@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_a_question_to_a_policy_has_no_effect(name: str) -> None:
    def play(questions: int) -> list[tuple[list[int], int]]:
        world = World(0.1)
        policy = GAMMA_POLICIES.create(name)
        stride = policy.stride

        def often(num_drafted: int) -> int:
            return [stride(num_drafted) for _ in range(questions)][-1]

        policy.stride = often  # type: ignore[method-assign]
        records = world.run(world.drafter("hybrid(suffix, model)"), policy, 150)
        return [(r.drafted, r.num_draft_calls) for r in records]

    assert play(3) == play(1)


@pytest.mark.parametrize("first", RETRIEVING)
def test_a_hybrid_goes_on_copying_where_the_draft_model_does_not_pay(first: str) -> None:
    def tokens_a_pass(spec: str) -> float:
        world = World(1.5)  # a draft call costs more than a target pass
        drafter, policy = world.drafter(spec), GAMMA_POLICIES.create("cost_aware")
        world.run(drafter, policy, 300)
        records = world.run(drafter, policy, 300)
        return sum(len(r.emitted) for r in records) / len(records)

    alone = tokens_a_pass(first)
    assert alone > 2, "there is something to copy"
    assert tokens_a_pass(f"hybrid({first}, model)") > 0.9 * alone


def told(policy: GammaPolicy, outcome: StepOutcome) -> None:
    """Tell what the loop tells."""
    for learner in (policy.meter, policy):
        learner.update(outcome)


def test_copies_that_fail_say_nothing_of_the_draft_model() -> None:
    policy = CostAwareGamma()
    for _ in range(40):
        copied = Signal(None, 3, 0.5)
        policy.before_token(copied, 0)
        told(policy, judged_step(1, 0, verify_seconds=1.0))
        told(policy, judged_step(0, 0, verify_seconds=1.0))
    for _ in range(len(LEARNING)):
        policy.before_token(Signal.drafted(0, 9.0, 1), 0)
        told(policy, judged_step(1, 1, draft_seconds=0.1, num_calls=1, verify_seconds=1.0))
    assert policy.stride(0) > 0


def test_a_hybrid_lives_with_a_clock_that_stands_still() -> None:
    world = World(0.0)
    world.target.seconds = 0.0
    records = world.run(world.drafter("hybrid(suffix, model)"), GAMMA_POLICIES.create("fixed"), 60)
    assert sum(len(r.emitted) for r in records) == 60


def test_a_part_defined_anew_is_the_one_that_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook; and a part need not be hashable."""

    @dataclass
    class Anew(Sampler):
        def probs(self, logits: Tensor) -> Tensor:
            return logits.softmax(-1)

    target = LoadedModel("target", TableModel(random_table(4, seed=0)), None, ())
    config = DecodingConfig(sampler="greedy", drafting="suffix")
    Method.of(config, "speculative")
    monkeypatch.setitem(SAMPLERS._classes, "greedy", Anew)
    parts = Assembly(target).parts(Method.of(config, "speculative"))
    assert type(parts.sampler) is Anew


def test_what_is_learned_under_one_rule_is_not_used_under_another() -> None:
    target, drafter = (
        LoadedModel(name, TableModel(random_table(4, seed=i)), None, ())
        for i, name in enumerate(("target", "drafter"))
    )
    assembly = Assembly(target, drafter)

    def parts(**changes: object) -> Speculation:
        config = DecodingConfig(policy="cost_aware", drafting="hybrid(suffix, model)")
        return assembly.parts(Method.of(config.replace(**changes), "speculative"))

    first = parts()
    assert parts().policy is first.policy
    assert parts().drafter is first.drafter
    changes = [{"verifier": name} for name in VERIFIERS.names if name != "rejection"]
    changes += [{"sampler": name} for name in SAMPLERS.names if name != "greedy"]
    for change in changes:
        other = parts(**change)
        assert other.policy is not first.policy, change
        assert other.drafter is not first.drafter, change
        assert other.meter is not first.meter, change
