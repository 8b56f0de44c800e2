"""Products with a weight, also on a CPU that torch lays no bfloat16 weights out for."""

from __future__ import annotations

import pytest
import torch

from foredraft.native import linear
from foredraft.native.linear import DenseLinear, make_linear, packs_bfloat16


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("packs", [True, False], ids=["packed", "as_it_is"])
def test_a_product_is_right_to_its_rounding(
    packs: bool, dtype: torch.dtype, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packs and not packs_bfloat16():
        pytest.skip("torch lays no bfloat16 weights out for this CPU")
    monkeypatch.setattr(linear, "packs_bfloat16", lambda: packs)
    torch.manual_seed(0)
    weight, x, residual = (torch.randn(size).to(dtype) for size in ((7, 33), (3, 33), (3, 7)))
    bias = torch.randn(7).to(dtype) if biased else None
    product = make_linear(weight, bias)
    assert isinstance(product, DenseLinear) == (dtype == torch.float32 or not packs)
    exact = x.double() @ weight.double().t() + (0 if bias is None else bias.double())
    scale = 40 * torch.finfo(dtype).eps
    assert (product(x).double() - exact).abs().max() <= scale
    assert (
        product.added(x, residual.clone()).double() - exact - residual.double()
    ).abs().max() <= (2 * scale)
