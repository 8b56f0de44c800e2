"""What a caller hands over stays as it is: its mode, its dtype, its weights."""

from __future__ import annotations

import copy

import pytest
import torch

from foredraft.loading import fit_drafter, fit_target
from foredraft.native.network import NativeModel
from tests.texts import first_pass
from tests.tiny import assert_same_logits, build, full_logits


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama:native", "t5", "bart", "whisper"])
def test_a_network_in_training_stays_in_training(name: str) -> None:
    network = copy.deepcopy(build(name)).train()
    model = fit_target(network, network.runtime)
    assert all(module.training for module in network.modules())
    if name in ("gpt2", "llama"):  # and is computed as in evaluation
        logits = first_pass(model, [5, 6, 7], 3)
        assert_same_logits(logits, full_logits(build(name), [5, 6, 7]))
    fit_drafter(network, model, network.runtime)
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_native_model_leaves_the_dtype_alone(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foredraft.native.network.has_bfloat16_products", lambda: False)
    network = copy.deepcopy(build("llama")).to(getattr(torch, dtype))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    pointers = {name: weight.data_ptr() for name, weight in network.named_parameters()}
    model = NativeModel(network)
    assert first_pass(model, [5, 6]).isfinite().all()
    assert {n: w.data_ptr() for n, w in network.named_parameters()} == pointers
    for name, weight in network.state_dict().items():
        assert weight.dtype == before[name].dtype
        assert torch.equal(weight, before[name])


def test_training_goes_on_in_the_same_weights() -> None:
    network = copy.deepcopy(build("gpt2")).train()
    model = fit_target(network)
    with torch.no_grad():
        network.lm_head.weight.mul_(2.0)
    logits = first_pass(model, [5, 6])
    assert_same_logits(logits, full_logits(copy.deepcopy(network).eval(), [5, 6])[-1:])
