"""A weight matrix → the quickest product with it that its device and precision allow.

Weights are laid out once, when the model is loaded, never at a call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Linear(ABC):
    """x `[rows, in]` → x · Wᵀ + b, shape `[rows, out]`; of a weight `[out, in]`, a bias `[out]`."""

    @property
    @abstractmethod
    def weights(self) -> tuple[Tensor, ...]:
        """What is held, in a layout that shows its bytes."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return the product."""

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return `residual` + the product, shape `[rows, out]`."""
        return residual + self(x)


class DenseLinear(Linear):
    """The weight as it is: one call of the device's matrix library."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        # In this order two or three rows cost a CPU no more than one; with the transpose they cost
        # a quarter more, though eight cost less.
        self._columns = weight.contiguous().t()  # [in, out]
        self._bias = bias

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return _present(self._columns, self._bias)

    def __call__(self, x: Tensor) -> Tensor:
        if self._bias is None:
            return torch.mm(x, self._columns)
        return torch.addmm(self._bias, x, self._columns)

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        total = torch.addmm(residual, x, self._columns)
        return total if self._bias is None else total.add_(self._bias)


class PackedLinear(Linear):
    """oneDNN's own layout of a bfloat16 weight; a plain linear packs it anew at every call."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._bias = bias
        self._product = torch.ops.mkldnn._linear_pointwise.default

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return _present(self._weight.to_dense(), self._bias)

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = self._product(x, self._weight, self._bias, "none", [], "")
        return product


def _present(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in tensors if tensor is not None)


def has_bfloat16_products() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware, and torch can lay weights out for it."""
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return packs_bfloat16() and has_instructions


def packs_bfloat16() -> bool:
    """Whether torch lays bfloat16 weights out for this CPU; it refuses one with AVX2 alone."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def make_linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """Return the product with a weight.

    Args:
        weight: shape `[out, in]`, on its device, in the precision to compute in.
        bias: shape `[out]`, or None.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and packs_bfloat16():
        return PackedLinear(weight, bias)
    return DenseLinear(weight, bias)
