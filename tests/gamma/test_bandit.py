"""Bandits: every arm has a turn, the best is kept, and trying costs little."""

from __future__ import annotations

import pytest

from foredraft.arms import MOST_LOST, Arms
from foredraft.core import StepOutcome
from foredraft.costs import Meter
from foredraft.gamma import (
    GAMMA_POLICIES,
    BanditGamma,
    FixedGamma,
    GammaPolicy,
    PlainGamma,
    Signal,
    SvipGamma,
)
from tests.doubles import judged_step, logits_of
from tests.worlds import World

STEPS = 2000


def taking(seconds: float, tokens: int = 1) -> StepOutcome:
    return judged_step(tokens - 1, tokens - 1, verify_seconds=seconds)


def test_arms_that_were_never_played_come_first() -> None:
    arms = Arms(3, exploration=0.1, hold=2)
    played = []
    for _ in range(6):
        played.append(arms.current)
        arms.add(arms.current, taking(1.0))
    assert played == [0, 0, 1, 1, 2, 2]
    arms.add(arms.current, judged_step(0, 0, verify_seconds=50.0, fed=40))
    assert arms.rates[arms.current].steps < 3


def test_a_step_of_another_text_is_scored_for_the_arm_that_it_was_made_with() -> None:
    arms = Arms(2, exploration=0.0, hold=1)
    arms.add(0, taking(1.0))
    arms.add(0, taking(1.0))  # begun before the turn of arm 1
    assert (arms.current, [rate.count for rate in arms.rates]) == (1, [2, 0])


@pytest.mark.parametrize("exploration", [0.0, 0.3, 1000.0])
@pytest.mark.parametrize(
    "seconds", [(1.0, 1.01, 1.5, 9.0), (3.0, 2.0, 1.0), (1.0, 1.0), (0.0, 0.0)]
)
def test_slower_arms_lose_at_most_their_share_however_eager_the_search(
    seconds: tuple[float, ...], exploration: float
) -> None:
    arms = Arms(len(seconds), exploration, hold=4)
    played = []
    for _ in range(STEPS):
        played.append(arms.current)
        arms.add(arms.current, taking(seconds[arms.current]))
    taken = [seconds[arm] for arm in played]
    tried = 4 * sum(s - min(seconds) for s in seconds)
    lost = sum(s - min(seconds) for s in taken)
    assert lost <= max(tried, MOST_LOST * sum(taken)) + 1e-9
    if exploration > 100 and len(seconds) > 2:
        assert lost > 0.8 * MOST_LOST * sum(taken), "what may be spent on trying is"


def test_what_a_draft_model_read_for_a_turn_is_part_of_its_price() -> None:
    def turns(num_read: int) -> int:
        arms, last, turns = Arms(2, exploration=1000.0, hold=1), 0, 0
        for _ in range(STEPS):
            arm = arms.current
            if arm == 1 and last == 0:
                turns += 1
                reading = judged_step(1, 0, draft_seconds=9.0, num_calls=1, num_read=num_read)
                arms.add(1, reading)
            else:
                arms.add(arm, taking(1.0 if arm == 0 else 1.1))
            last = arm
            assert turns < 3 or arms.lost <= MOST_LOST * arms.seconds
        return turns

    assert 2 <= turns(100) <= 1 + STEPS * MOST_LOST / 9 + 1


def test_an_arm_that_becomes_the_best_is_found() -> None:
    arms, seconds = Arms(3, exploration=0.3, hold=4), [1.0, 1.5, 2.0]
    for step in range(2 * STEPS):
        if step == STEPS:
            seconds[1] = 0.5
        arms.add(arms.current, taking(seconds[arms.current]))
    assert arms._best == 1


class Noise:
    """A drafter of noise, nothing of which is kept; a target pass takes 1."""

    def __init__(self, draft: float, token: float) -> None:
        self.draft, self.token, self.meter = draft, token, Meter()

    def seconds(self, policy: GammaPolicy, probs: list[float], steps: int) -> float:
        policy = policy.for_text(self.meter)
        policy.start()
        signal = Signal(logits_of(probs))
        total = 0.0
        for _ in range(steps):
            drafted, budget = 0, policy.budget
            while drafted < budget:
                if not policy.before_token(signal, drafted):
                    break
                drafted += 1
                if not policy.after_token(0, signal, drafted):
                    break
            outcome = judged_step(
                drafted,
                0,
                draft_seconds=self.draft * drafted,
                verify_seconds=1 + self.token * drafted,
                num_calls=drafted,
            )
            for learner in (self.meter, policy):
                learner.update(outcome)
            total += outcome.seconds
        return total


@pytest.mark.parametrize("probs", [[0.99, 0.01], [0.25] * 4], ids=["sure", "unsure"])
@pytest.mark.parametrize("draft", [0.02, 0.1, 0.2, 0.3])
def test_beside_noise_a_bandit_is_hardly_slower_than_plain_decoding(
    draft: float, probs: list[float]
) -> None:
    seconds = Noise(draft, 0.02).seconds(BanditGamma(), probs, STEPS)
    assert STEPS / seconds >= 0.97


@pytest.mark.parametrize(("draft", "token"), [(0.02, 0.01), (0.1, 0.02), (0.3, 0.05), (1.2, 0.05)])
def test_the_best_of_several_policies_is_found_and_kept(draft: float, token: float) -> None:
    arms = (PlainGamma(), FixedGamma(1), FixedGamma(3), FixedGamma(8), FixedGamma(16))
    alone = [World(draft, token, seed=1).rate(arm) for arm in arms]
    ours = [World(draft, token, seed=s).rate(BanditGamma(arms), steps=STEPS) for s in (2, 3, 4)]
    assert sum(ours) / 3 >= 0.95 * max(alone)


def test_plain_never_asks_for_a_token() -> None:
    policy = PlainGamma()
    assert (policy.budget, policy.stride(0)) == (0, 0)
    policy.update(judged_step(0, 0))
    assert policy.budget == 0


def test_a_bandit_of_policies_is_written_down_with_its_arms() -> None:
    policy = GAMMA_POLICIES.create("bandit(plain, fixed(gamma=2), svip, hold=8)")
    assert isinstance(policy, BanditGamma)
    assert policy.arms == (PlainGamma(), FixedGamma(2), SvipGamma())
    spec = GAMMA_POLICIES.spec(policy)
    assert spec == (
        "bandit(arms=[plain(), fixed(gamma=2), svip(threshold=0.3, gamma_max=20)], "
        "exploration=0.3, hold=8)"
    )
    assert GAMMA_POLICIES.create(spec) == policy
