"""Gamma policies, each against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from foredraft.core import StepRecord
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import DraftModelDrafter
from foredraft.errors import ConfigError
from foredraft.gamma import (
    GAMMA_POLICIES,
    ConfidenceGamma,
    EntropyGamma,
    FixedGamma,
    GammaPolicy,
    HeuristicGamma,
)
from foredraft.gamma.base import Signal
from foredraft.models import TableModel
from foredraft.sampling import GreedySampler, MultinomialSampler, Rng, Sampler, TopKSampler
from foredraft.verification import RejectionVerifier
from tests.doubles import CountingTable, judged_step, logits_of, random_table

UNIFORM = [1 / 16] * 16  # H_norm 1
TWO_OF_SIXTEEN = [0.5, 0.5] + [0.0] * 14  # H = ln 2, H_norm 1/4
FOUR_OF_SIXTEEN = [0.25] * 4 + [0.0] * 12  # H_norm 1/2
ONE_HOT = [0.0] * 3 + [1.0] + [0.0] * 12  # H_norm 0
SLOPE = [1 / 2, 1 / 4, 1 / 8, 1 / 8]  # H = 7/4 ln 2 of 2 ln 2: H_norm 7/8


def length_drafted(policy: GammaPolicy, *rows: list[float]) -> int:
    """Return how many tokens one step drafts from rows; the last row repeats."""
    for drafted in range(policy.budget):
        logits = logits_of(rows[min(drafted, len(rows) - 1)])
        signal = Signal(logits)
        if not policy.before_token(signal, drafted):
            return drafted
        if not policy.after_token(int(logits.argmax()), signal, drafted + 1):
            return drafted + 1
    return policy.budget


def judged(policy: GammaPolicy, drafted: int, accepted: int) -> int:
    """Return the budget after a step."""
    policy.update(judged_step(drafted, accepted))
    return policy.budget


@pytest.mark.parametrize("gamma", [1, 2, 7])
def test_fixed_always_drafts_gamma_tokens(gamma: int) -> None:
    policy = FixedGamma(gamma)
    for accepted in (gamma, 0):
        assert length_drafted(policy, UNIFORM) == gamma
        assert judged(policy, gamma, accepted) == gamma


def test_heuristic_adds_two_after_full_acceptance_and_takes_one_after_a_rejection() -> None:
    policy = HeuristicGamma(4)
    assert policy.budget == 4
    assert judged(policy, 4, 4) == 6
    assert judged(policy, 6, 5) == 5
    assert judged(policy, 5, 0) == 4
    assert judged(policy, 4, 4) == 6


def test_heuristic_never_falls_below_one_nor_rises_above_its_bound() -> None:
    policy = HeuristicGamma(2, gamma_max=5)
    assert [judged(policy, 2, 0) for _ in range(3)] == [1, 1, 1]
    assert [judged(policy, 1, 1) for _ in range(3)] == [3, 5, 5]


def test_trap_heuristic_takes_an_undrafted_step_for_nothing() -> None:
    assert judged(HeuristicGamma(4), 0, 0) == 4


def test_heuristic_begins_each_generation_anew() -> None:
    policy = HeuristicGamma(4)
    judged(policy, 4, 4)
    policy.start()
    assert policy.budget == 4


def test_confidence_stops_after_the_first_doubtful_token() -> None:
    sure, doubtful = [0.5, 0.5, 0.0], [0.39, 0.31, 0.3]
    assert length_drafted(ConfidenceGamma(0.4, 10), sure, sure, doubtful, sure) == 3
    assert length_drafted(ConfidenceGamma(0.4, 2), sure) == 2


def test_confidence_reads_the_probability_of_the_drawn_token() -> None:
    policy, signal = ConfidenceGamma(0.4), Signal(logits_of([0.7, 0.3]))
    assert policy.after_token(0, signal, 1)
    assert not policy.after_token(1, signal, 1)


def test_confidence_stops_below_its_threshold_and_not_at_it() -> None:
    even = Signal(torch.zeros(2))
    assert ConfidenceGamma(0.5).after_token(0, even, 1)
    assert ConfidenceGamma(0.0).after_token(0, Signal(logits_of([0.0, 1.0])), 1)
    assert not ConfidenceGamma(0.51).after_token(0, even, 1)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (UNIFORM, 1.0),
        (TWO_OF_SIXTEEN, 0.25),
        (FOUR_OF_SIXTEEN, 0.5),
        (ONE_HOT, 0.0),
        (SLOPE, 7 / 8),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_normalized_entropy_is_the_entropy_over_the_logarithm_of_the_vocabulary(
    row: list[float], expected: float, dtype: torch.dtype
) -> None:
    tolerance = 1e-3 if dtype == torch.bfloat16 else 1e-6
    measured = Signal(logits_of(row).to(dtype)).normalized_entropy
    assert measured == pytest.approx(expected, abs=tolerance)
    assert 0 <= measured <= 1


def test_a_vocabulary_of_one_has_no_entropy() -> None:
    assert Signal(torch.zeros(1)).normalized_entropy == 0


@pytest.mark.parametrize(
    ("row", "gamma_max", "raw", "drafted"),
    [
        (TWO_OF_SIXTEEN, 6, 4.5, 4),
        (FOUR_OF_SIXTEEN, 7, 3.5, 3),
        (SLOPE, 12, 1.5, 1),
        (SLOPE, 20, 2.5, 2),
        (ONE_HOT, 6, 6.0, 6),
        (UNIFORM, 6, 0.0, 1),
    ],
)
def test_egag_drafts_the_floor_of_one_minus_entropy_times_gamma_max(
    row: list[float], gamma_max: int, raw: float, drafted: int
) -> None:
    policy = EntropyGamma(1, gamma_max)
    assert length_drafted(policy, row) == drafted
    assert policy.raw_gamma == pytest.approx(raw, abs=1e-5)
    assert policy.normalized_entropy == pytest.approx(1 - raw / gamma_max, abs=1e-6)


def test_egag_stays_between_its_bounds() -> None:
    assert length_drafted(EntropyGamma(3, 6), UNIFORM) == 3
    assert length_drafted(EntropyGamma(3, 6), FOUR_OF_SIXTEEN) == 3
    assert length_drafted(EntropyGamma(3, 6), ONE_HOT) == 6
    assert length_drafted(EntropyGamma(5, 5), UNIFORM) == 5


def test_egag_decides_from_the_first_token_of_a_step_alone() -> None:
    assert length_drafted(EntropyGamma(1, 6), TWO_OF_SIXTEEN, UNIFORM) == 4
    assert length_drafted(EntropyGamma(1, 6), UNIFORM, ONE_HOT) == 1


def test_egag_smooths_the_unrounded_gamma() -> None:
    # β = 0.9, γ_max = 6, γ_raw: 4.5, 0, 6 → γ̃: 4.5 (first), 0.9·4.5 = 4.05, 0.9·4.05 + 0.6 = 4.245
    policy = EntropyGamma(1, 6, ema=0.9)
    assert length_drafted(policy, TWO_OF_SIXTEEN) == 4
    assert length_drafted(policy, UNIFORM) == 4
    assert length_drafted(policy, ONE_HOT) == 4
    assert policy.raw_gamma == pytest.approx(6)  # the record holds the wish before smoothing
    # eight more of γ_raw 0 let γ̃ fall to 4.245·0.9⁸ = 1.827
    assert [length_drafted(policy, UNIFORM) for _ in range(8)] == [3, 3, 3, 2, 2, 2, 2, 1]


def test_egag_smooths_what_was_wished_not_what_the_bounds_made_of_it() -> None:
    # γ_min = 3: the first step drafts 3 but wishes 0, so the second has γ̃ = 0.5·0 + 0.5·6 = 3.
    policy = EntropyGamma(3, 6, ema=0.5)
    assert length_drafted(policy, UNIFORM) == 3
    assert length_drafted(policy, ONE_HOT) == 3
    assert length_drafted(policy, ONE_HOT) == 4


@pytest.mark.parametrize("ema", [0.0, 0.05, 0.15, 0.3, 0.9])
@pytest.mark.parametrize("gamma_max", [3, 6, 13])
def test_egag_drafts_gamma_max_whenever_the_drafter_is_certain(gamma_max: int, ema: float) -> None:
    policy = EntropyGamma(1, gamma_max, ema)
    assert [length_drafted(policy, ONE_HOT) for _ in range(3)] == [gamma_max] * 3


def test_egag_begins_each_generation_with_an_unsmoothed_step() -> None:
    policy = EntropyGamma(1, 6, ema=0.9)
    length_drafted(policy, UNIFORM)
    policy.start()
    assert policy.raw_gamma is None
    assert policy.normalized_entropy is None
    assert length_drafted(policy, ONE_HOT) == 6


def run(
    policy: GammaPolicy, draft_model: TableModel, sampler: Sampler, tokens: int
) -> list[StepRecord]:
    """Return the records of the steps of a generation that drafted."""
    target = TableModel(random_table(4, seed=1))
    drafter = DraftModelDrafter(draft_model, sampler)
    parts = Speculation(target, drafter, policy, RejectionVerifier(), sampler)
    request = Request(target.open([0, 1]), Rng(0), max_new_tokens=tokens)
    return [r for r in speculative_steps(parts, request) if r.drafted]


def test_egag_spends_no_forward_pass_of_its_own() -> None:
    model = CountingTable(random_table(4, seed=2, zeros=2))
    records = run(EntropyGamma(1, 6), model, MultinomialSampler(), 40)
    assert len({r.gamma for r in records}) > 1, "gamma should adapt in this run"
    assert len(model.fed) == sum(r.gamma for r in records)


def test_egag_records_the_entropy_it_measured_at_each_step() -> None:
    records = run(EntropyGamma(1, 6), TableModel(lambda tokens: SLOPE), MultinomialSampler(), 20)
    assert [r.normalized_entropy for r in records] == pytest.approx([7 / 8] * len(records))
    assert [r.raw_gamma for r in records] == pytest.approx([0.75] * len(records), abs=1e-5)


@pytest.mark.parametrize(
    "sampler", [GreedySampler(), MultinomialSampler(0.2), TopKSampler(2.0, 1)], ids=str
)
def test_egags_signal_does_not_move_with_the_sampler(sampler: Sampler) -> None:
    first, *_ = run(EntropyGamma(1, 6), TableModel(lambda tokens: SLOPE), sampler, 10)
    assert first.normalized_entropy == pytest.approx(7 / 8)


@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_no_policy_edits_the_logits_it_is_shown(name: str) -> None:
    policy, logits = GAMMA_POLICIES.create(name), torch.tensor([0.5, -math.inf, 2.0])
    before: Tensor = logits.clone()
    policy.start()
    policy.before_token(Signal(logits), 0)
    policy.after_token(2, Signal(logits), 1)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("name", GAMMA_POLICIES.names)
def test_every_policy_with_a_budget_drafts_a_token_and_at_most_its_budget(name: str) -> None:
    policy = GAMMA_POLICIES.create(name)
    policy.start()
    for row in (UNIFORM, ONE_HOT, TWO_OF_SIXTEEN, UNIFORM):
        budget = policy.budget
        drafted = length_drafted(policy, row)
        assert min(1, budget) <= drafted <= budget
        judged(policy, drafted, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedGamma(0), r"gamma must lie in \[1, 1024\], not 0"),
        (lambda: HeuristicGamma(0), r"gamma must lie in \[1, 1024\], not 0"),
        (lambda: HeuristicGamma(5, gamma_max=4), r"gamma must lie in \[1, 4\], not 5"),
        (lambda: ConfidenceGamma(-0.1), r"threshold must lie in \[0, 1\], not -0.1"),
        (lambda: ConfidenceGamma(1.1), r"threshold must lie in \[0, 1\], not 1.1"),
        (lambda: ConfidenceGamma(math.nan), r"threshold must lie in \[0, 1\], not nan"),
        (lambda: ConfidenceGamma(gamma=0), r"gamma must lie in \[1, 1024\], not 0"),
        (lambda: EntropyGamma(0), r"gamma_min must lie in \[1, 1024\], not 0"),
        (lambda: EntropyGamma(4, 3), r"gamma_max must lie in \[4, 1024\], not 3"),
        (lambda: EntropyGamma(ema=-0.1), r"ema must lie in \[0, 1\), not -0.1"),
        (lambda: EntropyGamma(ema=math.nan), r"ema must lie in \[0, 1\), not nan"),
        (lambda: EntropyGamma(ema=1.0), r"ema .*must lie in .*, not 1"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_range(
    make: Callable[[], GammaPolicy], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_of_equals_the_first_is_the_likeliest(dtype: torch.dtype) -> None:
    level = Signal(torch.zeros(40, dtype=dtype))
    assert level.margin == 0
    assert level.likeliest == Signal(torch.zeros(40, dtype=dtype)).likeliest == 0
    logits = torch.arange(40).flip(0).to(dtype)
    logits[7] = 99
    signal = Signal(logits)
    assert (signal.likeliest, signal.margin) == (7, 30)  # 60, held to 30
    logits[7] = 41.5
    assert (Signal(logits).margin, Signal(logits).likeliest) == (2.5, 7)
