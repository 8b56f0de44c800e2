"""Every registered drafter and gamma policy leaves the output distribution alone, by enumeration.

Whatever a policy learns from the clock, the law holds at every clock: each way the randomness can
fall runs with fresh parts and the same readings of a clock that is fast, slow or erratic.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from foredraft.choices import Choices, Dense
from foredraft.core import StepRecord
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import DRAFTERS, Drafter, neural_parts
from foredraft.gamma import (
    GAMMA_POLICIES,
    BanditGamma,
    CostAwareGamma,
    FixedGamma,
    GammaPolicy,
    OracleGamma,
)
from foredraft.models import TableModel
from foredraft.sampling import SAMPLERS, MultinomialSampler, Rng, Sampler
from foredraft.verification import VERIFIERS, Verifier
from tests.doubles import Table, random_table
from tests.enumeration import enumerate_outcomes, target_distribution, total_variation
from tests.nested import NESTED
from tests.tongues import letters

EXACT = 1e-12
PROMPT = [0, 1, 0, 1]  # something to copy from
PLAIN = MultinomialSampler()
SPOKEN = letters(("a", "b"), ("a", "b"))
LOSSLESS = [v for v in map(VERIFIERS.create, VERIFIERS.names) if v.is_lossless]
every_verifier = pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)

CLOCKS: dict[str, Callable[[], Iterator[float]]] = {
    "steady": lambda: itertools.count(0.0, 1.0),
    # Readings come in fours a step: begin, drafted, judged, recorded.
    "dear-drafts": lambda: itertools.accumulate(itertools.cycle([0.0, 9.0, 1.0, 0.0])),
    "erratic": lambda: itertools.accumulate(map(random.Random(1).expovariate, itertools.repeat(1))),
}


class Parts:
    """Makes the same parts, with nothing learned, for each run."""

    def __init__(
        self,
        verifier: Verifier,
        policy: Callable[[], GammaPolicy],
        drafting: str,
        *,
        sampler: Sampler = PLAIN,
        clock: str = "steady",
        draft_table: Table | None = None,
    ) -> None:
        self.target = TableModel(random_table(2, seed=31))
        self.draft_table = draft_table or random_table(2, seed=32)
        self.verifier, self.policy, self.drafting = verifier, policy, drafting
        self.sampler, self.clock = sampler, clock

    def make(self) -> Speculation:
        ticks = CLOCKS[self.clock]()
        parts = neural_parts(2, TableModel(self.draft_table), self.sampler, SPOKEN)
        drafter: Drafter = DRAFTERS.create(self.drafting).build(parts)
        return Speculation(
            self.target,
            drafter,
            self.policy(),
            self.verifier,
            self.sampler,
            False,
            lambda: next(ticks),
        )

    def bias(self, length: int) -> float:
        """Return the total variation between the loop's texts and the target's own."""
        emitted = enumerate_outcomes(
            lambda rng: self.run(rng, length)[0], keyed=self.verifier.is_coupled
        )
        expected = target_distribution(self.target, self.sampler, PROMPT, length)
        return total_variation(emitted, expected)

    def run(self, rng: Rng, length: int) -> tuple[tuple[int, ...], list[StepRecord]]:
        parts = self.make()
        request = Request(parts.target.open(PROMPT), rng, max_new_tokens=length)
        records = list(speculative_steps(parts, request))
        return tuple(request.output), records


def policy_of(name: str) -> Callable[[], GammaPolicy]:
    """Return what makes the policy, bounded so that every path can be walked."""
    bounds = {key: 3 for key in ("gamma", "gamma_max") if key in GAMMA_POLICIES.parameters(name)}
    return lambda: GAMMA_POLICIES.create(name, **bounds)


@every_verifier
@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_every_policy_is_exact_at_a_clock_that_makes_drafts_dear(
    name: str, verifier: Verifier
) -> None:
    assert Parts(verifier, policy_of(name), "model", clock="dear-drafts").bias(5) < EXACT


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("name", ["cost_aware", "entropy_cost", "throughput", "bandit"])
def test_policies_that_read_the_clock_are_exact_at_any(name: str, clock: str) -> None:
    verifier = VERIFIERS.create("rejection")
    assert Parts(verifier, policy_of(name), "model", clock=clock).bias(5) < EXACT


@every_verifier
@pytest.mark.parametrize("name", DRAFTERS.names)
def test_every_drafter_is_exact(name: str, verifier: Verifier) -> None:
    assert Parts(verifier, lambda: FixedGamma(3), name).bias(5) < EXACT


@pytest.mark.parametrize("sampler", ["greedy", "topk(temperature=0.7, top_k=2)", "nucleus"])
@pytest.mark.parametrize("name", DRAFTERS.names)
def test_every_drafter_is_exact_with_every_policy(name: str, sampler: str) -> None:
    for policy in GAMMA_POLICIES.names:
        parts = Parts(
            VERIFIERS.create("block"),
            policy_of(policy),
            name,
            sampler=SAMPLERS.create(sampler),
            clock="erratic",
        )
        assert parts.bias(4) < EXACT, policy


@pytest.mark.parametrize("drafting", NESTED)
def test_every_drafter_inside_another_is_exact(drafting: str) -> None:
    policy = lambda: BanditGamma((FixedGamma(3), CostAwareGamma(3)), hold=1)  # noqa: E731
    parts = Parts(VERIFIERS.create("rejection"), policy, drafting, clock="erratic")
    assert parts.bias(4) < EXACT


@pytest.mark.parametrize("drafting", ["model", "suffix"])
@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_every_policy_in_a_bandit_is_exact(name: str, drafting: str) -> None:
    policy = lambda: BanditGamma((policy_of(name)(), FixedGamma(1)), hold=1)  # noqa: E731
    parts = Parts(VERIFIERS.create("block"), policy, drafting, clock="dear-drafts")
    assert parts.bias(5) < EXACT


class Thrifty(CostAwareGamma):
    """Two drawn tokens and then whatever costs no call: every draft is a mixed one."""

    @property
    def budget(self) -> int:
        return 4

    def stride(self, num_drafted: int) -> int:
        return 2

    def before_token(self, signal: object, num_drafted: int) -> bool:
        return True

    def after_token(self, token: int, signal: object, num_drafted: int) -> bool:
        return num_drafted != 2


@every_verifier
@pytest.mark.parametrize("first", ["suffix", "prompt_lookup", "ngram"])
def test_drawn_tokens_followed_by_copied_ones_are_exact(first: str, verifier: Verifier) -> None:
    parts = Parts(verifier, Thrifty, f"hybrid({first}, model)")
    _, records = parts.run(Rng(0) if not verifier.is_coupled else _keyed(), 6)
    assert max(len(r.drafted) for r in records) > 2, "some draft should be mixed"
    assert parts.bias(5) < EXACT


def _keyed() -> Rng:
    from foredraft.sampling import rng_for

    return rng_for(0, keyed=True)


def test_soft_rows_for_copied_tokens_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law can fail: with uniform rows after drawn ones the mixed drafts are biased."""
    original = Dense.followed_by

    def soft(choices: Dense, tokens: Sequence[int]) -> Choices:
        return Dense(original(choices, tokens).probs.clamp(min=0.5))  # type: ignore[attr-defined]

    monkeypatch.setattr(Dense, "followed_by", soft)
    assert Parts(VERIFIERS.create("rejection"), Thrifty, "hybrid(suffix, model)").bias(5) > 0.01


def test_the_oracle_is_exact_under_greedy_and_never_rejected() -> None:
    greedy = SAMPLERS.create("greedy")
    plain = Parts(VERIFIERS.create("rejection"), lambda: FixedGamma(1), "model", sampler=greedy)
    text, _ = plain.run(Rng(0), 12)
    oracle = Parts(
        VERIFIERS.create("rejection"), lambda: OracleGamma(text), "model", sampler=greedy
    )
    again, records = oracle.run(Rng(0), 12)
    assert again == text
    assert not any(r.is_rejection for r in records)
