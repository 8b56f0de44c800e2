"""First differences: where, by how much, and whether rounding explains them."""

from __future__ import annotations

import math

import pytest
import torch

from foredraft.decoding import Difference, first_difference
from foredraft.models import Network, TableModel

ROW = [0.4, 0.4 - 1e-15, 0.2]  # the first two nearly tie
HALF = 2 * 4 * 2**-7  # near_tie_below in bfloat16 for logits up to 1


def model(dtype: torch.dtype = torch.float64) -> Network:
    table = TableModel({(): ROW})
    table.dtype = dtype
    return table


def test_equal_outputs_have_no_difference() -> None:
    assert first_difference(model(), [0], [1, 2], [1, 2]) is None
    assert first_difference(model(), [0], [], []) is None


@pytest.mark.parametrize(
    ("ours", "position"), [([1, 2], 2), ([], 0), ([1, 2, 0, 0, 1], 4), ([2, 2, 0, 0], 0)]
)
def test_the_first_differing_place_is_named(ours: list[int], position: int) -> None:
    found = first_difference(model(), [0], ours, [1, 2, 0, 0])
    assert found is not None
    assert found.position == position


@pytest.mark.parametrize("ours", [[1, 2], [1, 2, 0, 0, 1]])
def test_a_missing_token_is_never_a_near_tie(ours: list[int]) -> None:
    found = first_difference(model(), [0], ours, [1, 2, 0, 0])
    assert found is not None
    assert found.logit_margin is None
    assert not found.is_near_tie


def test_a_margin_within_rounding_is_a_near_tie_and_a_larger_one_a_bug() -> None:
    tie = first_difference(model(), [0], [0, 1], [0, 0])
    bug = first_difference(model(), [0], [0, 2], [0, 0])
    assert tie is not None
    assert tie.is_near_tie
    assert bug is not None
    assert bug.logit_margin == pytest.approx(0.6931, abs=1e-4)  # ln(0.4 / 0.2)
    assert not bug.is_near_tie


@pytest.mark.parametrize("margin", [0.9 * HALF, -0.9 * HALF])
def test_the_threshold_follows_the_precision(margin: float) -> None:
    table = TableModel({(): [1.0, math.exp(-margin)]})
    near_tie = {}
    for dtype in (torch.bfloat16, torch.float32):
        table.dtype = dtype
        found = first_difference(table, [0], [1], [0])
        assert found is not None
        assert found.logit_margin == pytest.approx(margin)
        near_tie[dtype] = found.is_near_tie
    assert near_tie == {torch.bfloat16: True, torch.float32: False}


def test_the_scale_is_the_largest_finite_logit() -> None:
    infinite = torch.tensor([float("-inf"), -50.0, 3.0])
    eps = torch.finfo(torch.float32).eps
    assert model(torch.float32).rounding(infinite) == pytest.approx(64 * eps * 50)
    assert model(torch.bfloat16).rounding(infinite) == pytest.approx(4 * 2**-7 * 50)
    assert model(torch.float32).rounding(torch.tensor([float("-inf")])) == pytest.approx(64 * eps)


def test_a_difference_knows_its_own_threshold() -> None:
    assert Difference(3, 0.25, 0.25).is_near_tie
    assert not Difference(3, 0.26, 0.25).is_near_tie
