"""A matrix quantised in blocks, as GGUF files hold it, and the making of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft.errors import ModelError

# What the numbers of a matrix may be, as GGUF calls it: in the order of kernels/network.h.
KINDS = ("F32", "BF16", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
TO_A_BLOCK = 32  # numbers that share a scale, in the kinds that are made here
NUMBERS_AT_ONCE = 1 << 20  # that are rounded at once


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix `[out, in]` of a quantised kind.

    Attributes:
        kind: as GGUF calls it, such as `Q4_1`.
        columns: in.
        rows: the blocks as they lie in a file, uint8, shape `[out, bytes of a row]`.
    """

    kind: str
    columns: int
    rows: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return len(self.rows), self.columns


def quantised(weight: Tensor, kind: str) -> Blocks:
    """Round a matrix `[out, in]` to `Q8_0` or `Q4_1`, to the bit as `gguf.quants.quantize` does.

    Raises:
        ModelError: its rows are no whole blocks, or a number in it is not finite.
    """
    rows, columns = weight.shape
    if columns % TO_A_BLOCK:
        raise ModelError(
            f"a matrix with rows of {columns} cannot be rounded to {kind}; legal: multiples of "
            f"{TO_A_BLOCK}; leave it as it is"
        )
    rounded = ROUNDED[kind]
    step = max(1, NUMBERS_AT_ONCE // columns)
    parts = (
        rounded(some.float().reshape(-1, TO_A_BLOCK)).view(len(some), -1)
        for some in weight.split(step)
    )
    first = next(parts)
    out = first.new_empty(rows, first.shape[1])
    done = len(first)
    out[:done] = first
    for part in parts:
        out[done : done + len(part)] = part
        done += len(part)
    return Blocks(kind, columns, out)


def _q8_0(blocks: Tensor) -> Tensor:
    """Round blocks `[count, 32]` to 8 bits and a scale each, `[count, 34]`."""
    scale = blocks.abs().amax(1, keepdim=True) / 127
    sizes = blocks * _inverse(scale)
    size = sizes.abs()
    below = size.floor()
    nearest = sizes.sign() * (below + (2 * (size - below)).floor())  # halves away from zero
    return torch.cat([_half(scale), nearest.to(torch.int8).view(torch.uint8)], 1)


def _q4_1(blocks: Tensor) -> Tensor:
    """Round blocks `[count, 32]` to 4 bits, a scale and a least number each, `[count, 20]`."""
    least, most = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    scale = (most - least) / 15
    steps = ((blocks - least) * _inverse(scale) + 0.5).to(torch.uint8).clamp(0, 15)
    low, high = steps.split(TO_A_BLOCK // 2, 1)
    return torch.cat([_half(scale), _half(least), low | (high << 4)], 1)


ROUNDED = {"Q8_0": _q8_0, "Q4_1": _q4_1}


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0, 1 / scale)


def _half(numbers: Tensor) -> Tensor:
    """Return the bytes of numbers `[count, 1]` in half precision, `[count, 2]`."""
    half = numbers.half()
    if not half.isfinite().all():
        raise ModelError(
            "a matrix with a number that is not finite, or is larger than 65,504, cannot be "
            "rounded; fetch the model again, or leave it as it is"
        )
    return half.view(torch.uint8)
