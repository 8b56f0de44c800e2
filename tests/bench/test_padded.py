"""The padded target: the bundled distribution at another model's cost."""

from __future__ import annotations

import pytest
import torch

from foredraft import DecodingConfig, Engine, LoadOptions
from foredraft.bench import padded, padded_network, padded_target
from foredraft.bench.padded import MOST_LAYERS, Shape, padded_name, shape_for
from foredraft.errors import ConfigError
from foredraft.loading import load
from foredraft.loading.runtime import is_native

CPU = LoadOptions(device="cpu", dtype="float32")
TRANSFORMERS = LoadOptions(device="cpu", dtype="float32", runtime="transformers")
TOKENS = list(range(100, 140))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return load("bundled", "target", TRANSFORMERS).model.model  # type: ignore[attr-defined]


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def logits(name_or_model: object) -> torch.Tensor:
    model = name_or_model.model  # type: ignore[attr-defined]
    logits: torch.Tensor = model.open(TOKENS).extend(TOKENS, keep=len(TOKENS))
    return logits


@pytest.mark.parametrize("options", [CPU, TRANSFORMERS], ids=["native", "transformers"])
def test_a_padded_target_has_the_logits_of_the_bundled_one(options: LoadOptions) -> None:
    padded_model = padded_target(20_000_000, options=options)
    assert is_native(padded_model.model) == (options is CPU)
    torch.testing.assert_close(
        logits(padded_model), logits(load("bundled", "target", options)), atol=1e-4, rtol=0
    )


def test_wider_layers_change_no_logit_either(
    network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padded, "MOST_LAYERS", 9)
    wide = padded_network(network, 30_000_000)
    assert wide.config.num_hidden_layers == 9
    assert wide.config.intermediate_size > network.config.intermediate_size
    ids = torch.tensor([TOKENS])
    with torch.inference_mode():
        torch.testing.assert_close(wide(ids).logits, network(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("wanted", [12_539_200, 13_100_000, 17_000_000, 25_000_000, 40_000_000])
def test_the_count_is_the_one_asked_for(network: torch.nn.Module, wanted: int) -> None:
    assert count(padded_network(network, wanted)) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("wanted", [100_000_000, 1_000_000_000, 3_000_000_000])
def test_large_counts_widen_a_model_of_usual_depth(network: torch.nn.Module, wanted: int) -> None:
    shape = shape_for(network, wanted)
    config = network.config
    a_layer = count(network.model.layers[0])
    columns = 3 * config.hidden_size * (shape.intermediate - config.intermediate_size)
    rest = count(network) - config.num_hidden_layers * a_layer
    assert shape.layers == MOST_LAYERS
    assert rest + shape.layers * (a_layer + columns) == pytest.approx(wanted, rel=0.05)


def test_what_is_added_is_computed_and_silent(network: torch.nn.Module) -> None:
    added = padded_network(network, 20_000_000).model.layers[-1]
    assert not added.self_attn.o_proj.weight.any()
    assert not added.mlp.down_proj.weight.any()
    for weight in (added.self_attn.q_proj.weight, added.mlp.gate_proj.weight):
        assert weight.float().std() > 0


def test_its_own_size_adds_nothing(network: torch.nn.Module) -> None:
    config = network.config
    same = Shape(config.num_hidden_layers, config.intermediate_size)
    assert shape_for(network, count(network)) == same


def test_padding_leaves_the_callers_random_numbers_alone(network: torch.nn.Module) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    padded_network(network, 15_000_000)
    assert torch.equal(torch.get_rng_state(), before)


def test_its_name_says_what_it_is(network: torch.nn.Module) -> None:
    assert padded_target(20_000_000, options=CPU).name == "bundled target, padded to 20M parameters"
    assert padded_name(network) == "bundled target, padded to 13M parameters"


def test_fewer_parameters_than_the_bundled_target_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least the 12539200 .* not 1000; give more"):
        padded_target(1000, options=CPU)


def test_rounding_is_refused() -> None:
    options = LoadOptions(device="cpu", quantize="int8")
    with pytest.raises(ConfigError, match="takes no quantize"):
        padded_target(20_000_000, options=options)


def test_speculation_on_it_gives_the_text_of_the_bundled_pair() -> None:
    config = DecodingConfig(length=12)
    plain = Engine.load(options=CPU)
    engine = Engine(padded_target(15_000_000, options=CPU), plain.drafter)
    text = plain.generate("The old bear", config, method="target").text
    assert engine.generate("The old bear", config, method="speculative").text == text
