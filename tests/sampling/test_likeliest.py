"""The likeliest tokens of rows: as sorting finds them, and none that may not come."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foredraft.logits import chance_of, entropy_of, several_likeliest

VALUES = st.one_of(st.floats(-50, 50, width=32), st.just(-math.inf))


@given(st.lists(VALUES, min_size=1, max_size=40), st.integers(1, 20))
def test_they_are_those_of_a_stable_sort(values: list[float], count: int) -> None:
    [found] = several_likeliest(torch.tensor([values]), count)
    possible = [token for token, value in enumerate(values) if value > -math.inf]
    falling = sorted(possible, key=lambda token: -values[token])
    wanted = falling[: min(count, len(values))]
    assert [values[token] for token in found] == [values[token] for token in wanted]
    assert len(set(found)) == len(found)
    if count <= 8:  # of equals the first
        assert found == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rows_are_apart_and_stay_as_they_are(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, -math.inf, -math.inf]], dtype=dtype)
    before = logits.clone()
    assert several_likeliest(logits, 2) == [[1, 2], [0]]
    assert several_likeliest(logits, 30) == [[1, 2, 0], [0]]
    assert torch.equal(logits, before)


@given(st.lists(VALUES, min_size=1, max_size=40))
def test_entropy_is_that_of_the_softmax(values: list[float]) -> None:
    logits = torch.tensor(values)
    if logits.max() == -math.inf:
        return
    wanted = float(torch.special.entr(logits.double().softmax(-1)).sum())
    assert entropy_of(logits) == pytest.approx(wanted, abs=1e-5)
    assert entropy_of(logits) >= 0
    shares = logits.double().softmax(-1).tolist()
    assert [chance_of(logits, i) for i in range(len(values))] == pytest.approx(shares, abs=1e-6)
