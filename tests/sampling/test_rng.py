"""Rng: the seeded source of every decision."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foredraft.sampling import KeyedRng, Rng, rng_for
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
        assert weights[rng.categorical(torch.tensor(weights, dtype=torch.float64), 0)] > 0


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize(
    "weights", [[0, 0, 0.1, 0, 0], [0, 0.1, 0.2, 0], [0.1] * 9 + [0], [1e-300, 0, 1e-310, 0]]
)
def test_not_even_at_the_ends_of_the_unit_interval(uniform: float, weights: list[float]) -> None:
    rng = Rng(0)
    rng._random = SimpleNamespace(random=lambda: uniform)  # type: ignore[assignment]
    assert weights[rng.categorical(torch.tensor(weights, dtype=torch.float64), 0)] > 0


def test_draws_follow_the_distribution() -> None:
    """A right generator fails this with probability 1e-6 over the choice of the seed."""
    probs = [0.5, 0.3, 0.0, 0.15, 0.05]
    rng, row = Rng(1), torch.tensor(probs)
    drawn = [rng.categorical(row, 0) for _ in range(DRAWS)]
    expected = {i: DRAWS * p for i, p in enumerate(probs) if p}
    chi_square = sum((drawn.count(i) - mean) ** 2 / mean for i, mean in expected.items())
    assert drawn.count(2) == 0
    assert chi_square < CHI_SQUARE_3_ONE_IN_A_MILLION


def test_weights_need_not_sum_to_one() -> None:
    scaled, plain = Rng(5), Rng(5)
    probs = torch.tensor([0.125, 0.5, 0.375], dtype=torch.float64)
    for _ in range(50):
        assert scaled.categorical(probs * 64, 0) == plain.categorical(probs, 0)


def test_accepting_follows_its_probability() -> None:
    """A right generator fails this with probability 1e-6 (4.9 standard deviations)."""
    rng = Rng(2)
    accepted = sum(rng.accepts(0.3) for _ in range(DRAWS))
    assert abs(accepted - 0.3 * DRAWS) < 4.9 * (DRAWS * 0.3 * 0.7) ** 0.5


def test_probability_zero_is_never_accepted_and_one_always() -> None:
    rng = Rng(3)
    assert not any(rng.accepts(0.0) for _ in range(1000))
    assert all(rng.accepts(1.0) for _ in range(1000))


def decisions(seed: int) -> list[int]:
    """Return a hundred mixed decisions."""
    rng, probs = Rng(seed), torch.tensor([0.2, 0.3, 0.5])
    return [rng.categorical(probs, 0) + 100 * rng.accepts(0.5) for _ in range(100)]


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = decisions(42)
    torch.manual_seed(2)
    assert decisions(42) == first
    assert decisions(43) != first
    assert decisions(-42) != first


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
        assert rng.categorical(probs, 0) == token


# --- noise keyed by seed and position -------------------------------------------------------------

SHARED = 4000  # positions drawn at
NEARLY_IMPOSSIBLE = 4.9  # standard deviations: exceeded with probability 1e-6


def test_keyed_draws_follow_the_distribution() -> None:
    """A right generator fails this with probability 1e-6 over the choice of the seed."""
    probs = [0.5, 0.3, 0.0, 0.15, 0.05]
    rng, row = KeyedRng(1), torch.tensor(probs)
    drawn = [rng.categorical(row, position) for position in range(DRAWS)]
    expected = {i: DRAWS * p for i, p in enumerate(probs) if p}
    chi_square = sum((drawn.count(i) - mean) ** 2 / mean for i, mean in expected.items())
    assert drawn.count(2) == 0
    assert chi_square < CHI_SQUARE_3_ONE_IN_A_MILLION


def test_neighbouring_positions_and_seeds_are_independent() -> None:
    """A right generator fails each comparison with probability 1e-6."""
    row = torch.full((8,), 1 / 8)
    text = [KeyedRng(5).categorical(row, position) for position in range(SHARED)]
    others = [
        [KeyedRng(5).categorical(row, position + 1) for position in range(SHARED)],
        [KeyedRng(6).categorical(row, position) for position in range(SHARED)],
        [KeyedRng(-5).categorical(row, position) for position in range(SHARED)],
    ]
    for other in others:
        equal = sum(a == b for a, b in zip(text, other, strict=True))
        assert abs(equal - SHARED / 8) < NEARLY_IMPOSSIBLE * (SHARED * 7 / 64) ** 0.5


def test_a_keyed_draw_depends_on_seed_and_position_and_on_nothing_else() -> None:
    row = torch.rand(50, generator=torch.Generator().manual_seed(0))
    rng = KeyedRng(3)
    forth = [rng.categorical(row, position) for position in range(100)]
    rng.accepts(0.5)
    back = [rng.categorical(row, position) for position in reversed(range(100))]
    assert forth == back[::-1]
    assert forth == [KeyedRng(3).categorical(row * 7, position) for position in range(100)]


def test_surplus_entries_of_a_larger_vocabulary_change_nothing() -> None:
    row, rng = torch.tensor([0.2, 0.5, 0.3]), KeyedRng(0)
    for position in range(50):
        padded = torch.cat([row, torch.zeros(5)])
        assert rng.categorical(padded, position) == rng.categorical(row, position)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]),
        ([0.9, 0.05, 0.05], [0.6, 0.3, 0.1]),
        ([0.5, 0.5, 0.0], [0.0, 0.5, 0.5]),
    ],
)
def test_shared_noise_agrees_as_often_as_the_theory_says(p: list[float], q: list[float]) -> None:
    """Gumbel-max draws agree on i with probability 1 / Σ_j max(p_j / p_i, q_j / q_i).

    A right generator fails with probability 1e-6. Daliri et al., 2024, bound it from below by
    (1 − TV) / (1 + TV).
    """
    agreement = sum(
        1 / sum(max(p_j / p_i, q_j / q_i) for p_j, q_j in zip(p, q, strict=True))
        for p_i, q_i in zip(p, q, strict=True)
        if p_i and q_i
    )
    distance = 0.5 * sum(abs(a - b) for a, b in zip(p, q, strict=True))
    assert agreement >= (1 - distance) / (1 + distance) - 1e-12
    rng, one, other = KeyedRng(9), torch.tensor(p), torch.tensor(q)
    equal = sum(rng.categorical(one, t) == rng.categorical(other, t) for t in range(SHARED))
    deviation = (SHARED * agreement * (1 - agreement)) ** 0.5
    assert abs(equal - SHARED * agreement) < NEARLY_IMPOSSIBLE * deviation


def test_keyed_noise_of_zero_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def standard_exponential(self, size: int) -> np.ndarray:
            return np.zeros(size)

    monkeypatch.setattr(np.random, "Generator", lambda bits: Silent())
    assert KeyedRng(0).categorical(torch.tensor([0.0, 0.4, 0.0, 0.6]), 0) in (1, 3)


def test_the_source_is_keyed_when_asked() -> None:
    assert isinstance(rng_for(1, keyed=True), KeyedRng)
    assert not isinstance(rng_for(1, keyed=False), KeyedRng)
