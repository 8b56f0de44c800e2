"""Trials: what rules that weigh costs draft to see whether it pays, and what that may lose."""

from __future__ import annotations

import pytest

from foredraft.gamma import GAMMA_POLICIES, CostAwareGamma
from foredraft.gamma.cost_aware import LEARNING
from tests.worlds import World


@pytest.mark.parametrize("explore", [0.005, 0.02])
def test_cost_aware_tries_again_in_a_bounded_share_of_the_time(explore: float) -> None:
    world, policy = World(1.2, 0.05), CostAwareGamma(explore=explore)
    world.rate(policy, steps=400)
    played = [world.step(policy) for _ in range(4000)]
    lost = sum(seconds - 1 for _, seconds in played)
    assert 0 < lost < 1.1 * explore * sum(seconds for _, seconds in played)
    world.draft = 0.01
    assert world.rate(policy, steps=6000) > 1.5, "it comes back when drafts pay"


def test_one_slow_moment_is_not_held_against_a_draft_for_ever() -> None:
    world, policy = World(12.0, 3.0), CostAwareGamma()
    policy.start()
    for _ in range(4):
        world.step(policy)
    world.draft, world.token = 0.1, 0.02
    assert world.rate(policy, steps=3000) > 1.8


@pytest.mark.parametrize("steps", [8, 20])
@pytest.mark.parametrize(("slower", "is_noise"), [(4, False), (1, True), (4, True)])
@pytest.mark.parametrize(("draft", "token"), [(0.1, 0.02), (0.25, 0.1)])
def test_a_bad_beginning_is_not_held_against_drafts(
    draft: float, token: float, slower: int, is_noise: bool, steps: int
) -> None:
    """Caches are cold and a text may be odd: of what then seems not to pay too little was seen."""
    fixed = [
        World(draft, token).rate(GAMMA_POLICIES.create(f"fixed(gamma={g})"), 400)
        for g in (1, 2, 3, 4)
    ]
    for seed in range(2):
        policy = CostAwareGamma()
        policy.start()
        world = World(slower * draft, slower * token, is_noise=is_noise, seed=seed)
        for _ in range(steps):
            world.step(policy)
        world.draft, world.token, world.is_noise = draft, token, False
        played = [world.step(policy) for _ in range(900)][300:]  # what may be lost is bounded
        ours = sum(tokens for tokens, _ in played) / sum(seconds for _, seconds in played)
        assert ours > 0.95 * max(fixed)


def test_a_trial_costs_what_it_loses() -> None:
    """Drafts that nearly pay are tried far more often than such that bring nothing."""

    def played(*, is_noise: bool) -> list[tuple[int, float]]:
        world, policy = World(0.85, 0.1, is_noise=is_noise), CostAwareGamma()
        policy.start()
        return [world.step(policy) for _ in range(2200)][200:]

    nearly, never = (
        sum(seconds > 1 for _, seconds in played(is_noise=noise)) for noise in (False, True)
    )
    assert nearly > 4 * never > 0
    tokens, seconds = (sum(column) for column in zip(*played(is_noise=False), strict=True))
    assert tokens > 0.99 * seconds


def test_nothing_is_tried_where_nothing_may_be_lost() -> None:
    world, policy = World(0.85, 0.1), CostAwareGamma(explore=0)
    policy.start()
    drafted = sum(world.step(policy)[1] > 1 for _ in range(300))
    assert drafted == len(LEARNING)


def test_a_drafter_of_noise_costs_next_to_nothing() -> None:
    world, policy = World(0.2, 0.02, is_noise=True), CostAwareGamma()
    policy.start()
    played = [world.step(policy) for _ in range(1000)]  # the first drafts among them
    assert len(played) / sum(seconds for _, seconds in played) > 0.97
