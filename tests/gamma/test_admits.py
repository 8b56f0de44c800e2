"""A stride that is asked about at once: what policies answer, and what they may know."""

from __future__ import annotations

import random

import pytest

from foredraft.costs import Meter
from foredraft.drafting import DraftModelDrafter
from foredraft.drafting.base import Beginning
from foredraft.gamma import GAMMA_POLICIES, CostAwareGamma, FixedGamma, GammaPolicy
from foredraft.gamma.within import Within
from foredraft.sampling import GreedySampler, Rng
from tests.doubles import CountingTable, ScriptedPolicy, judged_step, random_table


def learned(policy: GammaPolicy, seed: int) -> GammaPolicy:
    """Return a policy that has seen drafts of all lengths, in a world where three or so pay."""
    source, meter = random.Random(seed), Meter()
    own = policy.for_text(meter)
    own.start()
    for number in range(80):
        length = number % 6
        if length:
            own.admits([source.uniform(0, 6) for _ in range(length)], 0, length)
        step = judged_step(
            length,
            min(length, source.randrange(5)),
            draft_seconds=0.1 + 0.1 * length if length else 0.0,
            verify_seconds=1 + 0.1 * length,
            num_calls=length,
        )
        for learner in (meter, own):
            learner.update(step)
    own.start()
    return own


@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_whether_a_token_is_drafted_depends_on_nothing_behind_it(name: str) -> None:
    """Else a drawn token would have another distribution than it was drawn from."""
    source = random.Random(name)
    for seed in range(12):
        margins = [source.uniform(0, 8) for _ in range(8)]
        policy = learned(GAMMA_POLICIES.create(name), seed)
        whole = policy.admits(margins, 0, 8)
        if whole is None:
            return
        for length in range(9):
            policy.start()
            found = policy.admits(margins[:length], 0, 8)
            assert found is not None
            assert found[0] == min(whole[0], length)
            if whole[0] < length:
                assert not found[1]


def test_policies_that_ask_nothing_take_all_and_the_others_are_asked() -> None:
    assert FixedGamma(3).admits([1.0, 2.0], 0, 2) == (2, True)
    assert ScriptedPolicy(before=1).admits([1.0, 2.0], 0, 2) is None
    assert GAMMA_POLICIES.create("svip").admits([1.0], 0, 1) is None
    bound = Within(FixedGamma(3), ScriptedPolicy(before=1))
    assert bound.admits([1.0, 2.0], 0, 2) is None
    assert Within(FixedGamma(3), FixedGamma(4)).admits([1.0, 2.0], 0, 2) == (2, True)


def test_doubtful_tokens_end_a_stride() -> None:
    policy = learned(CostAwareGamma(), 1)
    for _ in range(300):  # wide margins hold and narrow ones do not
        policy.admits([6.0, 0.1], 0, 2)
        policy.update(judged_step(2, 1, draft_seconds=0.3, verify_seconds=1.2, num_calls=2))
    assert policy.admits([6.0, 6.0, 0.1, 6.0], 0, 4) == (2, False)
    policy.start()
    found = policy.admits([6.0, 6.0, 6.0, 6.0], 0, 4)
    assert found is not None
    assert found[0] == 4


@pytest.mark.parametrize("end", [0, 1, 2])
def test_nothing_is_drafted_after_an_end_token_of_a_stride(end: int) -> None:
    drafter = DraftModelDrafter(CountingTable(random_table(8, seed=3)), GreedySampler())
    drafter.start(Beginning([0], Rng(0)))
    whole = drafter.propose([0], 6, FixedGamma(6))
    assert len(whole.tokens) == 6
    policy = FixedGamma(6).for_text(Meter(), frozenset({whole.tokens[end]}))
    drafter.start(Beginning([0], Rng(0)))
    draft = drafter.propose([0], 6, policy)
    first = whole.tokens.index(whole.tokens[end])
    assert draft.tokens == whole.tokens[: first + 1]
