"""The rules of other engines, step by step against what their sources say."""

from __future__ import annotations

import pytest

from foredraft.errors import ConfigError
from foredraft.gamma import GAMMA_POLICIES, AsymmetricGamma, ThroughputGamma
from tests.doubles import judged_step


def kept(policy: AsymmetricGamma, *accepted: int) -> list[int]:
    """Return the lengths drafted; of each as many tokens are kept as are said, or all."""
    lengths = []
    for n in accepted:
        lengths.append(policy.budget)
        policy.update(judged_step(policy.budget, min(n, policy.budget)))
    return lengths


def test_a_text_begins_with_the_longest_draft_and_then_follows_what_is_kept() -> None:
    # m: 3 (first), 3 + 0.65·(1 − 3) = 1.7, 1.7 + 1.3·(3 − 1.7) = 3.39 (2 of 2 count as 3)
    assert kept(AsymmetricGamma(8), 3, 1, 9, 9) == [8, 3, 2, 4]


def test_the_average_goes_up_sooner_than_down() -> None:
    policy = AsymmetricGamma(16)
    assert kept(policy, *[99] * 4) == [16, 16, 16, 16]
    assert kept(policy, 0, 0, 0) == [16, 6, 3]
    # m = 17·0.35³ = 0.73, then 2.38, 4.49, 6.45
    assert kept(policy, *[99] * 4) == [1, 3, 5, 7]


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_where_nothing_is_kept_every_so_manyth_step_drafts_two(interval: int) -> None:
    policy = AsymmetricGamma(4, interval=interval)
    assert kept(policy, 0) == [4]
    lengths = kept(policy, *[0] * 10)
    assert lengths == ([0] * (interval - 1) + [2]) * (10 // interval)
    assert kept(AsymmetricGamma(1, interval=1), 0, 0) == [1, 1]


def test_a_probe_that_is_kept_ends_the_rest() -> None:
    policy = AsymmetricGamma(4, interval=3)
    assert kept(policy, 0, 0, 0, 2) == [4, 0, 0, 2]
    assert policy.budget == 4  # m = 1.3 · 3
    policy.start()
    assert policy.budget == 4


def test_a_threshold_of_zero_never_rests() -> None:
    assert kept(AsymmetricGamma(4, skip=0.0), *[0] * 20) == [4] + [1] * 19


def test_steps_without_a_draft_teach_nothing() -> None:
    policy = AsymmetricGamma(8)
    policy.update(judged_step(0, 0))
    assert policy.budget == 8


class World:
    """A machine, and a share of every length that is kept."""

    def __init__(self, seconds: dict[int, float], kept: float) -> None:
        self.seconds, self.kept = seconds, kept

    def lengths(self, policy: ThroughputGamma, steps: int) -> list[int]:
        found = []
        for _ in range(steps):
            gamma = policy.budget
            found.append(gamma)
            policy.update(
                judged_step(
                    gamma, int(self.kept * gamma), verify_seconds=self.seconds.get(gamma, 1.0)
                )
            )
        return found


FLAT: dict[int, float] = {}  # every step takes a second


def test_all_kept_at_no_cost_climbs_to_the_bound() -> None:
    # two steps, a try of two, one step of rest and one that finds that two have been
    assert World(FLAT, 1).lengths(ThroughputGamma(2, 4), 12) == [2, 2] + [3] * 4 + [4] * 6


def test_a_try_that_is_slower_is_taken_back_and_not_repeated_for_six_steps() -> None:
    # 3 / 1.0 tokens a second at two, 4 / 1.4 at three: 0.95 of them
    world = World({3: 1.4}, 1)
    assert world.lengths(ThroughputGamma(2, 8), 13) == [2, 2, 3, 3] + [2] * 7 + [3, 3]


def test_a_hopeless_try_ends_at_once() -> None:
    world = World({3: 2.0}, 1)
    assert world.lengths(ThroughputGamma(2, 8), 5) == [2, 2, 3, 2, 2]


def test_a_try_that_costs_nothing_but_is_little_kept_is_taken_back() -> None:
    policy = ThroughputGamma(2, 8)
    assert World(FLAT, 1).lengths(policy, 2) == [2, 2]
    # one of three kept, one tested besides: acceptance ½ < 0.75, and 2 of 3 tokens a second
    assert World(FLAT, 0.4).lengths(policy, 2) == [3, 2]


def test_little_acceptance_tries_shorter_drafts_down_to_the_least() -> None:
    policy = ThroughputGamma(2, 8)
    World(FLAT, 1).lengths(policy, 10)
    assert policy.budget > 3
    lengths = World(FLAT, 0).lengths(policy, 40)
    assert lengths[-1] == 2
    assert min(lengths) == 2


def test_between_the_thresholds_nothing_is_tried() -> None:
    # three of five, and one rejected: ¾ would be high, ½ low
    policy = ThroughputGamma(5, 8)
    for _ in range(20):
        policy.update(judged_step(5, 2, verify_seconds=1.0))  # 2 of 3 tested
    assert policy.budget == 5


def test_short_drafts_prompts_and_undrafted_steps_do_not_count() -> None:
    policy = ThroughputGamma(2, 8)
    for _ in range(9):
        policy.update(judged_step(1, 1, verify_seconds=1.0))
        policy.update(judged_step(0, 0, verify_seconds=1.0))
        policy.update(judged_step(2, 2, verify_seconds=1.0, fed=90))
    assert policy.budget == 2
    assert not policy._averages


def test_three_failures_at_the_least_length_are_followed_by_a_plain_step() -> None:
    assert World(FLAT, 0).lengths(ThroughputGamma(2, cooldown=True), 8) == [2, 2, 2, 0] * 2
    assert World(FLAT, 0).lengths(ThroughputGamma(2), 8) == [2] * 8


def test_each_text_begins_anew() -> None:
    policy = ThroughputGamma(2, 8)
    World(FLAT, 1).lengths(policy, 20)
    assert policy.budget > 2
    policy.start()
    assert (policy.budget, policy._averages) == (2, {})


def test_equal_bounds_are_a_fixed_length() -> None:
    for share in (0, 1):
        assert World(FLAT, share).lengths(ThroughputGamma(3, 3), 9) == [3] * 9


def test_a_clock_that_stands_still_is_no_error() -> None:
    policy = ThroughputGamma(2, 8)
    for _ in range(30):
        policy.update(judged_step(policy.budget, policy.budget))
    assert policy.budget == 8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("asymmetric(gamma_max=0)", r"gamma_max must lie in \[1, 1024\], not 0"),
        ("asymmetric(up=2.0)", r"up must lie in \(0, 2\), not 2"),
        ("asymmetric(down=0.0)", r"down must lie in \(0, 2\), not 0"),
        ("asymmetric(skip=-1.0)", r"skip must lie in \[0, 1024\], not -1"),
        ("asymmetric(interval=0)", r"interval must lie in \[1, 1000000\], not 0"),
        ("throughput(gamma_min=0)", r"gamma_min must lie in \[1, 1024\], not 0"),
        ("throughput(gamma_min=5, gamma_max=4)", r"gamma_max must lie in \[5, 1024\], not 4"),
        ("throughput(cooldown=1)", "cooldown must be true or false, not 1"),
        ("plain(gamma=1)", "has no parameter 'gamma'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GAMMA_POLICIES.create(spec)
