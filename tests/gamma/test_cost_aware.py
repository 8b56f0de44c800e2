"""Policies that weigh costs: what they learn from outcomes, and what they then decide."""

from __future__ import annotations

import math
import random

import pytest
import torch

from foredraft.chances import Mean
from foredraft.core import Draft, Verdict
from foredraft.costs import Meter
from foredraft.errors import ConfigError
from foredraft.gamma import (
    GAMMA_POLICIES,
    AdaEdlGamma,
    CostAwareGamma,
    Signal,
    SvipGamma,
)
from foredraft.gamma.calibration import Calibration, acceptance_labels
from tests.doubles import judged_step, logits_of
from tests.worlds import World, doubtful, sure


def entropy_signal(nats: float) -> Signal:
    """Return a signal over two tokens with an entropy below ln 2, found by bisection."""
    low, high = 0.5, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        entropy = -middle * math.log(middle) - (1 - middle) * math.log(1 - middle)
        low, high = (middle, high) if entropy > nats else (low, middle)
    return Signal(logits_of([low, 1 - low]))


def test_svip_stops_above_six_tenths_of_a_nat() -> None:
    policy = SvipGamma()
    assert policy.after_token(0, entropy_signal(0.59), 1)
    assert not policy.after_token(0, entropy_signal(0.61), 1)
    assert not policy.after_token(5, Signal(None, 5, 0.5), 1)  # −ln ½ = 0.69 nats
    assert policy.after_token(5, Signal(None, 5, 0.6), 1)  # −ln 0.6 = 0.51 nats


def test_adaedl_moves_its_threshold_towards_the_wished_acceptance() -> None:
    policy = AdaEdlGamma(target=0.9)
    middling = entropy_signal(0.62)  # 1 − √(0.2 · 0.62) = 0.65
    assert policy.after_token(0, middling, 1)
    for _ in range(400):
        policy.update(judged_step(4, 0))
    assert not policy.after_token(0, middling, 1), "λ rose above 0.65 while all was rejected"
    policy.start()
    assert policy.after_token(0, middling, 1)
    for _ in range(2000):
        policy.update(judged_step(20, 19))
    assert policy.after_token(0, entropy_signal(0.69), 1), "λ fell while nearly all was kept"


def test_labels_are_what_was_tested_and_nothing_after_the_first_rejection() -> None:
    assert acceptance_labels(judged_step(4, 2)) == [1, 1, 0]
    assert acceptance_labels(judged_step(2, 2)) == [1, 1]
    assert acceptance_labels(judged_step(0, 0)) == []


def test_soft_labels_are_the_overlap_of_the_two_distributions() -> None:
    p = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.3, 0.7]])
    q = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
    soft = judged_step(2, 1, target_probs=p, draft_probs=q, accepts_overlap=True)
    assert acceptance_labels(soft) == pytest.approx([0.7, 0.1])
    hard = judged_step(2, 1, target_probs=p, draft_probs=q)
    assert acceptance_labels(hard) == [1, 0]
    looked_up = judged_step(2, 1, target_probs=p)  # tokens 0, 0: kept with probability p
    assert acceptance_labels(looked_up) == pytest.approx([0.5, 0.1])


def test_calibration_finds_the_curve_its_labels_came_from() -> None:
    source, curve = random.Random(0), Calibration()
    assert curve.acceptance(3.0) == pytest.approx(1 / (1 + math.exp(-1.5)))
    for _ in range(3000):
        margin = source.uniform(0, 6)
        curve.add(margin, float(source.random() < 1 / (1 + math.exp(-(1.2 * margin - 2)))))
    for margin in (0.5, 1.7, 4.0):
        truth = 1 / (1 + math.exp(-(1.2 * margin - 2)))
        assert curve.acceptance(margin) == pytest.approx(truth, abs=0.1)


@pytest.mark.parametrize("times", [0, 1, 5, 40])
def test_a_label_several_times_is_that_label_again_and_again(times: int) -> None:
    one_by_one, at_once = Mean(0.3, 4, 16), Mean(0.3, 4, 16)
    for _ in range(times):
        one_by_one.add(0.9)
    at_once.add(0.9, times)
    assert at_once.value == pytest.approx(one_by_one.value)
    assert at_once.weight == one_by_one.weight


def test_a_wider_margin_is_never_taken_for_a_worse_sign() -> None:
    source, curve = random.Random(1), Calibration()
    for _ in range(600):
        margin = source.uniform(0, 6)
        curve.add(margin, float(margin < 3))
    assert curve.acceptance(6.0) == curve.acceptance(0.0)
    assert curve.acceptance(1.0) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("first", [0.0, 0.15])
@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize(("draft", "token"), [(0.02, 0.01), (0.1, 0.02), (0.3, 0.05)])
def test_cost_aware_is_not_slower_than_the_best_fixed_gamma(
    draft: float, token: float, step: float, first: float, at_once: bool
) -> None:
    """In a simulated world, where costs and acceptance are known: at cheap and at dear drafts."""
    fixed = [
        World(draft, token, step_at_three=step, first=first).rate(
            GAMMA_POLICIES.create(f"fixed(gamma={g})")
        )
        for g in (1, 2, 3, 4, 6, 8, 12)
    ]
    world = World(draft, token, step_at_three=step, first=first, at_once=at_once)
    ours = world.rate(CostAwareGamma())
    assert ours > 0.985 * max(fixed)  # plain decoding is timed now and then


def test_cost_aware_decodes_plainly_when_drafts_are_too_dear() -> None:
    world, policy = World(1.2, 0.05), CostAwareGamma()
    assert world.rate(policy) > 0.97  # plain decoding has 1; a little is spent on trying again
    assert policy.stride(0) in (0, 1)


def test_cost_aware_stops_after_a_doubtful_token_and_not_after_sure_ones() -> None:
    world, policy = World(0.2, 0.02), CostAwareGamma()
    world.rate(policy, steps=600)
    assert policy.before_token(sure(1), 0)
    assert policy.after_token(0, sure(1), 1)
    policy.before_token(doubtful(2), 1)
    assert not policy.after_token(0, doubtful(2), 2)


def test_a_copied_token_is_weighed_without_the_price_of_a_call() -> None:
    world, policy = World(0.6, 0.01), CostAwareGamma()
    world.rate(policy, steps=600)
    policy.before_token(sure(1), 0)
    policy.after_token(0, sure(1), 1)
    policy.before_token(doubtful(2), 1)
    assert not policy.after_token(0, doubtful(2), 2)
    assert policy.stops_for_cost
    assert policy.before_token(Signal(None, 3, 0.9, num_calls=2), 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("svip(threshold=-0.1)", r"threshold must lie in \[0, 100\], not -0.1"),
        ("svip(gamma_max=0)", r"gamma_max must lie in \[1, 1024\], not 0"),
        ("adaedl(target=0.0)", r"target must lie in \(0, 1\], not 0"),
        ("cost_aware(explore=0.6)", r"explore must lie in \[0, 0.5\], not 0.6"),
        ("bandit(arms=[])", "arms must name at least one policy"),
        ("bandit(fixed, swip)", "unknown gamma policy 'swip'"),
        ("bandit(hold=0)", r"hold must lie in \[1, 1000000\], not 0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GAMMA_POLICIES.create(spec)


def test_a_signal_of_a_counted_token_speaks_through_its_confidence() -> None:
    signal = Signal(None, 7, 0.8)
    assert signal.is_counted
    assert signal.likeliest == 7
    assert [signal.probability(t) for t in (7, 3)] == [0.8, 0.0]
    assert signal.entropy == pytest.approx(-math.log(0.8))
    assert signal.normalized_entropy == pytest.approx(0.2)
    assert signal.margin == pytest.approx(math.log(4))
    assert Signal(torch.tensor([3.0, 1.0, -math.inf])).margin == pytest.approx(2)
    assert Signal(torch.tensor([3.0, -math.inf])).margin == 30


def test_draft_and_verdict_are_all_a_policy_is_told_of_tokens() -> None:
    outcome = judged_step(3, 1, draft_seconds=1.0, verify_seconds=2.0)
    assert (outcome.draft, outcome.verdict) == (Draft([0, 0, 0]), Verdict(1, 1))
    assert outcome.seconds == 3.0
    assert not outcome.read_prompt


def test_a_copy_that_was_refused_is_learned_from() -> None:
    policy = CostAwareGamma()
    for _ in range(3):
        policy.update(judged_step(1, 1))
    known = policy._known
    known.looked_up, before = 9, known.counted.mean
    policy.meter.verify_seconds.add(0, 1.0)
    policy.meter.verify_seconds.add(1, 2.0)
    for _ in range(40):
        assert not policy.before_token(Signal(None, 3, 0.02), 0)
        policy.update(judged_step(0, 0))
    assert known.counted.mean != before


def test_steps_that_were_only_counted_teach_their_mean() -> None:
    policy = CostAwareGamma().for_text(Meter())
    policy.start()
    before = policy._mean.value
    for _ in range(200):
        for kept in (4, 0):  # of 4 tested, and of 1: 0.8
            policy.count(judged_step(4, kept, verify_seconds=1.0, num_calls=4))
        policy.plan()
    assert abs(before - 0.8) > 0.04
    assert policy._mean.value == pytest.approx(0.8, abs=0.01)
    assert policy._known.drawn.mean == pytest.approx(0.8, abs=0.01)
