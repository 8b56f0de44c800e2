"""entropy_cost: EGAG where both changes are off; each change against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from foredraft.costs import Meter
from foredraft.errors import ConfigError
from foredraft.gamma import (
    GAMMA_POLICIES,
    EntropyCostGamma,
    EntropyGamma,
    FixedGamma,
    GammaPolicy,
    Signal,
)
from foredraft.gamma.entropy_cost import FIRST_STEPS, LONGEST_REST
from tests.doubles import judged_step, logits_of
from tests.gamma.test_policies import FOUR_OF_SIXTEEN, ONE_HOT, UNIFORM, length_drafted
from tests.worlds import World, doubtful


def metered(draft: float, token: float) -> Meter:
    """Return the meter of a machine on which a target pass takes 1."""
    meter = Meter()
    for k in range(9):
        meter.update(
            judged_step(
                k, 0, draft_seconds=draft * k, verify_seconds=1 + token * k, num_calls=k, num_read=1
            )
        )
    return meter


def learned(policy: EntropyCostGamma, meter: Meter) -> EntropyCostGamma:
    """Return the policy after its first steps, of which it has learned nothing but that they were.

    The running rate is that of plain decoding.
    """
    policy.meter = meter
    for _ in range(300):
        meter.rate.add(1, 1.0)
    policy._known.called = FIRST_STEPS
    return policy


def decided(policy: GammaPolicy, row: list[float]) -> float | None:
    """Return γ_raw for a first token of this distribution."""
    policy.before_token(Signal(logits_of(row), num_calls=1), 0)
    return policy.raw_gamma


@pytest.mark.parametrize("ema", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("low", "high"), [(1, 6), (3, 6), (5, 5), (1, 20)])
def test_with_both_changes_off_it_is_egag(low: int, high: int, ema: float) -> None:
    source = random.Random(7)
    egag = EntropyGamma(low, high, ema)
    ours = EntropyCostGamma(low, high, ema, calibrated=False, priced=False)
    for text, vocab in itertools.product(range(3), (2, 16, 300)):
        for policy in (egag, ours):
            policy.start()
        for step in range(40):
            logits = torch.randn(vocab, generator=torch.Generator().manual_seed(step + 99 * text))
            signal = Signal(logits * source.choice([0.1, 1, 4, 9]), num_calls=1)
            told = [p.before_token(signal, 0) and p.gamma for p in (egag, ours)]
            assert told[0] == told[1]
            assert [egag.raw_gamma, egag.normalized_entropy] == [
                ours.raw_gamma,
                ours.normalized_entropy,
            ]
            for k in range(1, egag.gamma + 1):
                assert egag.stride(k) == ours.stride(k)
                assert egag.after_token(0, signal, k) == ours.after_token(0, signal, k)
            outcome = judged_step(
                egag.gamma, 0, draft_seconds=0.1, verify_seconds=1.0, num_calls=egag.gamma
            )
            for policy in (egag, ours):
                policy.update(outcome)
        assert ours.stride(0) == 1


def test_calibration_in_nats_is_a_share_of_gamma_max() -> None:
    policy = EntropyCostGamma(0, 10, priced=False)
    prior = 1 / (1 + math.exp(-1.5))
    assert decided(policy, UNIFORM) == decided(policy, ONE_HOT) == pytest.approx(10 * prior)


def test_calibration_learns_in_nats_and_of_first_and_further_tokens_apart() -> None:
    policy = EntropyCostGamma(1, 10, priced=False)
    for _ in range(100):  # of sure first tokens all is kept, of unsure ones nothing
        for row, kept in ((ONE_HOT, 4), (FOUR_OF_SIXTEEN, 0)):
            decided(policy, row)
            policy.update(judged_step(4, kept, num_calls=4))
    sure, unsure = decided(policy, ONE_HOT), decided(policy, FOUR_OF_SIXTEEN)
    assert sure is not None
    assert unsure is not None
    assert sure > 9
    assert unsure < 1
    assert policy._known.drawn.further.mean > 0.95
    assert policy._known.drawn.first.mean == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("draft", "token"), [(0.02, 0.0), (0.1, 0.02), (0.3, 0.05), (0.7, 0.1)])
@pytest.mark.parametrize("row", [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]])
def test_the_price_decides_the_length_that_gains_most(
    row: list[float], draft: float, token: float
) -> None:
    policy = learned(EntropyCostGamma(0, 8, calibrated=False), metered(draft, token))
    raw = decided(policy, row)
    chance = 1 - Signal(logits_of(row)).normalized_entropy
    gains = [
        sum(chance**i for i in range(1, k + 1)) - draft * (max(k, 1) - 1) - token * k
        for k in range(9)
    ]
    assert raw == pytest.approx(gains.index(max(gains)))


def test_certain_tokens_are_drafted_up_to_the_bound_and_uniform_ones_not_at_all() -> None:
    policy = learned(EntropyCostGamma(0, 8, calibrated=False), metered(0.1, 0.02))
    assert decided(policy, ONE_HOT) == 8  # H = 0
    assert length_drafted(policy, UNIFORM) == 0  # H = ln V
    assert policy.normalized_entropy == pytest.approx(1)
    assert policy.raw_gamma == 0
    policy = learned(EntropyCostGamma(2, 8, calibrated=False), metered(0.1, 0.02))
    assert length_drafted(policy, UNIFORM) == 2


def test_free_calls_are_drafted_to_the_bound_and_dear_ones_not_beyond_the_first() -> None:
    free = learned(EntropyCostGamma(0, 8), metered(0.0, 0.0))
    assert decided(free, UNIFORM) == 8
    dear = learned(EntropyCostGamma(0, 8), metered(50.0, 0.0))
    assert decided(dear, UNIFORM) == 1  # its call is made; another never pays
    dear.update(judged_step(1, 1, draft_seconds=50.0, verify_seconds=1.0, num_calls=1))
    for _ in range(8):
        decided(dear, UNIFORM)
        dear.update(judged_step(1, 1, draft_seconds=50.0, verify_seconds=1.0, num_calls=1))
    assert dear.stride(0) == 0, "hearing the first token does not pay"
    assert dear.stops_for_cost


def test_before_anything_is_measured_short_drafts_of_several_lengths_are_made() -> None:
    policy = EntropyCostGamma(0, 3)
    lengths = []
    for _ in range(FIRST_STEPS):
        lengths.append(length_drafted(policy, UNIFORM))
        policy.update(judged_step(lengths[-1], 0, num_calls=lengths[-1]))
    assert lengths == [1, 2, 3, 3] * 2
    assert length_drafted(EntropyCostGamma(5, 5), UNIFORM) == 5
    # a clock that stands still: nothing costs anything
    assert length_drafted(policy, UNIFORM) == 3


@pytest.mark.parametrize("gamma", [1, 4])
@pytest.mark.parametrize("row", [UNIFORM, ONE_HOT])
def test_equal_bounds_are_a_fixed_length(gamma: int, row: list[float]) -> None:
    policy = learned(EntropyCostGamma(gamma, gamma), metered(5.0, 1.0))
    for _ in range(40):
        assert policy.stride(0) == 1
        assert length_drafted(policy, row) == gamma
        policy.update(judged_step(gamma, 0, draft_seconds=5.0, verify_seconds=9.0, num_calls=gamma))


def test_smoothing_is_of_the_priced_wish() -> None:
    policy = learned(EntropyCostGamma(0, 8, ema=0.5, calibrated=False), metered(0.1, 0.02))
    assert length_drafted(policy, ONE_HOT) == 8
    assert length_drafted(policy, UNIFORM) == 4
    assert length_drafted(policy, UNIFORM) == 2


def test_a_doubtful_start_may_be_drafted_no_further_and_copies_are_still_asked_for() -> None:
    policy = learned(EntropyCostGamma(0, 8, calibrated=False), metered(0.1, 0.02))
    assert not policy.before_token(doubtful(1), 0)
    assert policy.stops_for_cost
    assert policy.before_token(Signal(None, 3, 0.9, num_calls=1), 0)
    assert policy.after_token(3, Signal(None, 3, 0.9, num_calls=1), 1)


def test_copies_are_weighed_without_the_price_of_a_call() -> None:
    policy = learned(EntropyCostGamma(0, 8, calibrated=False), metered(0.8, 0.02))
    assert decided(policy, [0.95, 0.05]) == 1
    policy.before_token(Signal(None, 3, 1 - 0.28), 0)  # the same chances
    assert policy.raw_gamma is not None
    assert policy.raw_gamma > 4


@pytest.mark.parametrize(
    "variant", ["entropy_cost", "entropy_cost(calibrated=False)", "entropy_cost(ema=0.3)"]
)
def test_it_decodes_plainly_when_drafts_are_too_dear(variant: str) -> None:
    world = World(1.2, 0.05)
    assert world.rate(GAMMA_POLICIES.create(variant)) > 0.97


def test_it_tries_again_ever_less_and_comes_back_when_it_pays() -> None:
    world, policy = World(1.2, 0.05), EntropyCostGamma(explore=4)
    world.rate(policy, steps=400)
    tried = 0
    for _ in range(1200):
        tried += policy.stride(0)
        world.step(policy)
    assert 0 < tried < 20
    assert policy._known.patience <= LONGEST_REST
    world.draft = 0.01
    assert world.rate(policy, steps=6000) > 1.5


def test_a_rejected_entropy_is_tested_again_after_a_while() -> None:
    policy = learned(EntropyCostGamma(0, 8, explore=5, calibrated=False), metered(0.1, 0.02))
    lengths = []
    for _ in range(20):
        policy._known.pays = True
        lengths.append(length_drafted(policy, UNIFORM))
        policy.update(
            judged_step(
                lengths[-1],
                0,
                draft_seconds=0.1,
                verify_seconds=1 + 0.02 * lengths[-1],
                num_calls=1,
            )
        )
    assert lengths == [0] * 5 + [1] + [0] * 10 + [1] + [0] * 3


@pytest.mark.parametrize(("draft", "token"), [(0.02, 0.01), (0.1, 0.02), (0.3, 0.05), (0.6, 0.05)])
def test_in_a_simulated_world_it_beats_egag_and_keeps_up_with_the_best_fixed_length(
    draft: float, token: float
) -> None:
    """Entropies there say something of one token only: the least that the idea can be good for."""
    fixed = [World(draft, token).rate(FixedGamma(gamma)) for gamma in (2, 4, 8)]
    ours = World(draft, token, at_once=True).rate(EntropyCostGamma())
    assert ours > 0.97 * max(fixed)
    assert ours > World(draft, token, at_once=True).rate(EntropyGamma(1, 6, 0.9))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("entropy_cost(gamma_min=-1)", r"gamma_min must lie in \[0, 1024\], not -1"),
        ("entropy_cost(gamma_max=0)", r"gamma_max must lie in \[1, 1024\], not 0"),
        ("entropy_cost(gamma_min=4, gamma_max=3)", r"gamma_max must lie in \[4, 1024\], not 3"),
        ("entropy_cost(ema=1.0)", r"ema must lie in \[0, 1\), not 1"),
        ("entropy_cost(explore=0)", r"explore must lie in \[1, 1000000\], not 0"),
        ("entropy_cost(priced=1)", "priced must be true or false, not 1"),
    ],
)
def test_what_cannot_be_is_refused_in_words(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GAMMA_POLICIES.create(spec)
