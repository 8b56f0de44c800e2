"""Bootstrap intervals against cases by hand, and the words they allow."""

from __future__ import annotations

import numpy as np
import pytest

from foredraft.bench.intervals import (
    FASTER,
    NO_DIFFERENCE,
    SLOWER,
    TOO_FEW,
    bootstrap,
    compare,
)

BASE = {f"p{i}": 50.0 + 7 * i for i in range(12)}


@pytest.mark.parametrize(("factor", "word"), [(1.3, FASTER), (0.8, SLOWER)])
def test_the_same_ratio_everywhere_is_that_ratio_without_doubt(factor: float, word: str) -> None:
    found = compare({key: factor * value for key, value in BASE.items()}, BASE)
    assert found is not None
    speedup = found.speedup
    assert (speedup.value, speedup.low, speedup.high) == pytest.approx((factor, factor, factor))
    assert found.word == word
    expected = np.mean([(factor - 1) * value for value in BASE.values()])
    assert found.difference.value == pytest.approx(expected)


def test_as_often_faster_as_slower_is_no_difference_found() -> None:
    factors = [1.2 if i % 2 else 1 / 1.2 for i in range(12)]
    ours = {key: f * v for f, (key, v) in zip(factors, BASE.items(), strict=True)}
    found = compare(ours, BASE)
    assert found is not None
    assert found.speedup.value == pytest.approx(1)
    assert found.word == NO_DIFFERENCE


def test_five_prompts_that_agree_are_too_few_for_a_word() -> None:
    five = dict(list(BASE.items())[:5])
    found = compare({key: 2 * value for key, value in five.items()}, five)
    assert found is not None
    assert (found.word, found.difference.low, found.speedup.high) == (TOO_FEW, None, None)
    six = dict(list(BASE.items())[:6])
    assert getattr(compare({k: 2 * v for k, v in six.items()}, six), "word", "") == FASTER


def test_pairs_are_prompts_that_both_have() -> None:
    found = compare({"p0": 100.0, "other": 1.0}, BASE)
    assert found is not None
    assert (found.prompts, found.word) == (1, TOO_FEW)
    assert found.speedup.low is None
    assert compare({"other": 1.0}, BASE) is None


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        found = bootstrap(rng.normal(5.0, 2.0, 40))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 5.0 <= found.high
    # 95 % promised; the percentile interval of 40 values gives about 94. Below 87 of 100 would be
    # a chance of 1e-3, were it so.
    assert covered >= 87


def test_the_same_values_give_the_same_interval() -> None:
    values = np.array([1.0, 4.0, 2.0, 8.0, 3.0, 5.0])
    assert bootstrap(values).low is not None
    assert bootstrap(values) == bootstrap(values)
