"""Rng: the seeded source of every decision."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specdec.sampling import Rng
from tests.doubles import repeatable

DRAWS = 20_000
CHI_SQUARE_3_ONE_IN_A_MILLION = 30.66  # exceeded with probability 1e-6 at 3 degrees of freedom


@repeatable
@given(st.lists(st.sampled_from([0.0, 0.0, 1e-30, 0.3, 2.0]), min_size=1), st.integers())
def test_a_token_of_probability_zero_is_never_drawn(weights: list[float], seed: int) -> None:
    if not any(weights):
        weights = [*weights, 1.0]
    rng = Rng(seed)
    for _ in range(5):
        assert weights[rng.categorical(torch.tensor(weights, dtype=torch.float64))] > 0


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize(
    "weights", [[0, 0, 0.1, 0, 0], [0, 0.1, 0.2, 0], [0.1] * 9 + [0], [1e-300, 0, 1e-310, 0]]
)
def test_not_even_at_the_ends_of_the_unit_interval(uniform: float, weights: list[float]) -> None:
    rng = Rng(0)
    rng._random = SimpleNamespace(random=lambda: uniform)  # type: ignore[assignment]
    assert weights[rng.categorical(torch.tensor(weights, dtype=torch.float64))] > 0


def test_draws_follow_the_distribution() -> None:
    """A right generator fails this with probability 1e-6 over the choice of the seed."""
    probs = [0.5, 0.3, 0.0, 0.15, 0.05]
    rng, row = Rng(1), torch.tensor(probs)
    drawn = [rng.categorical(row) for _ in range(DRAWS)]
    expected = {i: DRAWS * p for i, p in enumerate(probs) if p}
    chi_square = sum((drawn.count(i) - mean) ** 2 / mean for i, mean in expected.items())
    assert drawn.count(2) == 0
    assert chi_square < CHI_SQUARE_3_ONE_IN_A_MILLION


def test_weights_need_not_sum_to_one() -> None:
    scaled, plain = Rng(5), Rng(5)
    probs = torch.tensor([0.125, 0.5, 0.375], dtype=torch.float64)
    for _ in range(50):
        assert scaled.categorical(probs * 64) == plain.categorical(probs)


def test_accepting_follows_its_probability() -> None:
    """A right generator fails this with probability 1e-6 (4.9 standard deviations)."""
    rng = Rng(2)
    accepted = sum(rng.accepts(0.3) for _ in range(DRAWS))
    assert abs(accepted - 0.3 * DRAWS) < 4.9 * (DRAWS * 0.3 * 0.7) ** 0.5


def test_probability_zero_is_never_accepted_and_one_always() -> None:
    rng = Rng(3)
    assert not any(rng.accepts(0.0) for _ in range(1000))
    assert all(rng.accepts(1.0) for _ in range(1000))


def test_below_reaches_every_number_and_no_other() -> None:
    rng = Rng(4)
    assert {rng.below(7) for _ in range(500)} == set(range(7))


def decisions(seed: int) -> list[int]:
    """Return a hundred mixed decisions."""
    rng, probs = Rng(seed), torch.tensor([0.2, 0.3, 0.5])
    return [rng.categorical(probs) + 10 * rng.below(5) + 100 * rng.accepts(0.5) for _ in range(100)]


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = decisions(42)
    torch.manual_seed(2)
    assert decisions(42) == first
    assert decisions(43) != first


def test_torchs_own_randomness_is_left_alone() -> None:
    torch.manual_seed(7)
    undisturbed = torch.rand(3).tolist()
    torch.manual_seed(7)
    decisions(42)
    assert torch.rand(3).tolist() == undisturbed


def test_a_tail_far_below_the_head_is_drawn_token_by_token() -> None:
    # In float32 the running sum 1 + 1e-8 is 1: no token of the tail would ever come.
    probs = torch.tensor([1.0] + [1e-8] * 8)
    rng = Rng(0)
    for token in range(1, 9):
        point = (1 + (token - 0.5) * 1e-8) / (1 + 8e-8)
        rng._random = SimpleNamespace(random=lambda point=point: point)  # type: ignore[assignment]
        assert rng.categorical(probs) == token
