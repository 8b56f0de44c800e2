"""Chi-square by the book: tabled quantiles, known powers, and the sizes methods are quoted with."""

from __future__ import annotations

import random

import pytest

from foredraft.checks.statistics import (
    POWER,
    chi_square,
    critical_value,
    detectable_total_variation,
    p_value,
    power,
)


@pytest.mark.parametrize(
    ("dof", "level", "quantile"),  # NIST/SEMATECH e-Handbook, table 1.3.6.7.4
    [
        (1, 0.05, 3.841),
        (1, 0.001, 10.828),
        (10, 0.05, 18.307),
        (15, 0.001, 37.697),
        (100, 0.01, 135.807),
    ],
)
def test_critical_values_are_those_of_the_table(dof: int, level: float, quantile: float) -> None:
    assert critical_value(level, dof) == pytest.approx(quantile, abs=6e-4)
    assert p_value(quantile, dof) == pytest.approx(level, rel=1e-3)


def test_the_statistic_is_pearsons() -> None:
    assert chi_square([12, 8, 10], [10.0, 10.0, 10.0]) == pytest.approx(0.8)
    assert chi_square([5, 5], [5.0, 5.0]) == 0


def test_without_a_bias_the_power_is_the_level() -> None:
    for dof in (1, 15, 60):
        assert power(0.0, dof, critical_value(1e-3, dof)) == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize(
    ("dof", "noncentrality", "expected"),  # 0.8 and 0.9: Cohen, 1988, at level 0.05
    [(1, 7.849, 0.8), (1, 10.507, 0.9), (5, 12.83, 0.8), (10, 16.24, 0.8)],
)
def test_powers_are_the_textbooks(dof: int, noncentrality: float, expected: float) -> None:
    assert power(noncentrality, dof, critical_value(0.05, dof)) == pytest.approx(expected, abs=1e-3)


def test_power_grows_with_the_bias() -> None:
    critical = critical_value(1e-4, 44)
    powers = [power(noncentrality, 44, critical) for noncentrality in range(0, 400, 20)]
    assert powers == pytest.approx(sorted(powers), abs=1e-12)
    assert powers[-1] == pytest.approx(1)


@pytest.mark.parametrize(("bias", "samples"), [(0.02, 33_000), (0.01, 133_000)])
def test_sixteen_cells_need_the_samples_they_are_quoted_with(bias: float, samples: int) -> None:
    assert detectable_total_variation(samples, 15, 1e-3) == pytest.approx(bias, rel=0.03)


def test_four_times_the_samples_halve_the_detectable_bias() -> None:
    few, many = (detectable_total_variation(n, 20, 1e-3) for n in (5000, 20_000))
    assert few is not None
    assert many is not None
    assert few == pytest.approx(2 * many)


def test_nothing_is_detectable_without_cells_or_samples() -> None:
    assert detectable_total_variation(1000, 0, 1e-3) is None
    assert detectable_total_variation(1, 30, 1e-3) is None


def test_the_quoted_bias_is_found_as_often_as_quoted() -> None:
    """Simulated: 400 biased samples of 5000 draws in 8 cells, at the quoted total variation.

    At power 0.99 fewer than 385 finds have probability 3e-6.
    """
    source, cells, draws = random.Random(0), 8, 5000
    critical = critical_value(1e-3, cells - 1)
    bias = detectable_total_variation(draws, cells - 1, 1e-3) or 1.0
    weights = [1 / 8 + (bias / 4 if cell < 4 else -bias / 4) for cell in range(cells)]
    found = 0
    for _ in range(400):
        drawn = source.choices(range(cells), weights, k=draws)
        counts = [drawn.count(cell) for cell in range(cells)]
        found += chi_square(counts, [draws / cells] * cells) >= critical
    assert POWER == 0.99
    assert found >= 385
