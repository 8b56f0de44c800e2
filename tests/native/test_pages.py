"""Memory for weights: aligned, apart from one another, held as long as anything is."""

from __future__ import annotations

import gc

import pytest
import torch

from foredraft.loading.runtime import can_fuse
from foredraft.native.fused import FusedModel
from foredraft.native.pages import HUGE_PAGE, LINE, MAPPING, Arena, zeros
from tests.tiny import build


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("count", [0, 1, 31, 4097])
def test_every_piece_begins_a_cache_line_and_has_its_length(dtype: torch.dtype, count: int) -> None:
    arena = Arena()
    pieces = [arena.empty(count, dtype) for _ in range(3)]
    for piece in pieces:
        assert (len(piece), piece.dtype) == (count, dtype)
        assert piece.data_ptr() % LINE == 0 or not count


def test_pieces_hold_what_was_put_into_each() -> None:
    arena = Arena()
    given = [torch.randn(7, 5), torch.randn(3, 4).T, torch.randn(2, 2, 2)[:, 1], torch.randn(1000)]
    placed = [arena.copy(one) for one in given]
    assert all(torch.equal(a, b) for a, b in zip(placed, given, strict=True))
    placed[0].zero_()
    assert all(torch.equal(a, b) for a, b in zip(placed[1:], given[1:], strict=True))


def test_more_than_a_block_is_a_block_of_its_own_at_a_huge_page() -> None:
    arena = Arena()
    small, large = arena.empty(8, torch.uint8), arena.empty(MAPPING + 1, torch.uint8)
    small.fill_(1)
    large[:8], large[-1] = 2, 3
    assert large.data_ptr() % HUGE_PAGE == 0
    assert small.tolist() == [1] * 8


def test_memory_stays_while_a_piece_of_it_does() -> None:
    piece = Arena().copy(torch.arange(100_000))
    gc.collect()
    assert torch.equal(piece, torch.arange(100_000))


@pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
def test_an_embedding_that_is_the_head_too_is_kept_once() -> None:
    model = FusedModel(build("llama"))
    addresses = [tensor.data_ptr() for tensor in model.weights()]
    assert len(addresses) == len(set(addresses))


@pytest.mark.parametrize("count", [8, HUGE_PAGE])  # of four bytes each
def test_zeros_are_those_of_torch(count: int) -> None:
    made = zeros(2, count // 2, like=torch.empty(0))
    assert made.shape == (2, count // 2)
    assert made.dtype == torch.float32
    assert not made.any()
    made += 1  # it may be written to
    if count == HUGE_PAGE:
        assert made.data_ptr() % HUGE_PAGE == 0
