"""DecodingConfig: frozen, checked as a whole, and the same after a trip through JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from foredraft.config import DecodingConfig
from foredraft.errors import BadSpecString, ConfigError, UnknownComponent

CHANGED = DecodingConfig(
    length=7,
    sampler="nucleus(temperature=0.6, top_p=0.9)",
    policy="heuristic(gamma=3)",
    egag_gamma_max=6,
    egag_ema=0.9,
    stop=("\n\n", "完"),
    target=False,
)


def test_the_defaults_are_the_documented_ones() -> None:
    config = DecodingConfig()
    assert (config.length, config.gamma, config.seed) == (35, 4, None)
    assert (config.sampler, config.verifier, config.policy) == ("greedy", "rejection", "fixed")
    assert (config.egag, config.egag_gamma_min, config.egag_gamma_max) == (False, 1, None)
    assert config.egag_ema == 0.0
    assert (config.ngramstorage, config.ngram_order, config.top_k_filler) == ("basic", 3, 3)
    assert config.reset_in_between
    assert config.cache
    assert not config.chat
    assert not config.debug
    assert config.methods == ("speculative", "ngram", "target")


def test_methods_are_those_switched_on_in_the_order_they_run() -> None:
    config = DecodingConfig().replace(drafter=True, speculative=False)
    assert config.methods == ("ngram", "target", "drafter")


def test_replacing_makes_a_new_config_and_leaves_the_old() -> None:
    old = DecodingConfig()
    new = old.replace(length=50, sampler="multinomial(temperature=0.5)")
    assert (new.length, new.sampler) == (50, "multinomial(temperature=0.5)")
    assert old == DecodingConfig()
    assert new.replace(length=35, sampler="greedy") == old


def test_a_config_cannot_be_edited_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DecodingConfig().gamma = 5  # type: ignore[misc]


@pytest.mark.parametrize("config", [DecodingConfig(), CHANGED], ids=["default", "changed"])
def test_a_config_survives_json(config: DecodingConfig) -> None:
    assert DecodingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_names_take_their_defaults() -> None:
    assert DecodingConfig.from_dict({}) == DecodingConfig()
    assert DecodingConfig.from_dict({"gamma": 2}) == DecodingConfig(gamma=2)


def test_reading_a_dictionary_does_not_edit_it() -> None:
    values: dict[str, Any] = {"stop": ["x"], "gamma": 2}
    DecodingConfig.from_dict(values)
    assert values == {"stop": ["x"], "gamma": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, r"length must lie in \[1, 1000000000\], not 0"),
        ({"gamma": 0}, r"gamma must lie in \[1, 1024\], not 0"),
        ({"top_k_filler": 0}, r"top_k_filler must lie in \[1, 1024\], not 0"),
        ({"ngram_order": 1}, r"ngram_order must lie in \[2, 64\], not 1"),
        ({"ngram_order": 65}, r"ngram_order must lie in \[2, 64\], not 65"),
        ({"egag_gamma_min": 0}, r"egag_gamma_min must lie in \[1, 1024\], not 0"),
        ({"egag_gamma_min": 5}, r"egag_gamma_min must lie in \[1, 4\], not 5"),
        ({"egag_gamma_max": 0}, r"egag_gamma_max must lie in \[1, 1024\], not 0"),
        ({"egag_ema": 1.0}, "egag_ema must lie"),
        ({"egag_ema": float("nan")}, "egag_ema must lie"),
        ({"length": 3.5}, "length must be a whole number in .*, not 3.5"),
        ({"length": True}, "length must be a whole number in .*, not True"),
        ({"length": "3"}, "length must be a whole number in .*, not '3'"),
        ({"length": None}, "length must be a whole number in .*, not None"),
        ({"seed": 0.5}, "seed must be a whole number in"),
        ({"egag_gamma_max": 2.0}, "egag_gamma_max must be a whole number in .*, not 2.0"),
        ({"egag_ema": "0"}, r"egag_ema must be a number in \[0, 1\), not '0'"),
        ({"chat": 1}, "chat must be true or false, not 1"),
        ({"sampler": 3}, "sampler must be text, not 3"),
        ({"ngramstorage": "one_level"}, "'one_level' .did you mean 'onelevel'.*legal: basic, one"),
        ({"gama": 3}, r"unknown setting 'gama' \(did you mean 'gamma'\?\)"),
        ({"stop": "x"}, "stop must be a tuple of strings"),
        ({"stop": (3,)}, "stop"),
    ],
    ids=lambda value: "-".join(map(str, *value.items())) if isinstance(value, dict) else "",
)
def test_a_bad_value_is_refused_in_words_and_the_old_config_stays(
    changes: dict[str, Any], message: str
) -> None:
    old = DecodingConfig()
    before = old.to_dict()
    with pytest.raises(ConfigError, match=message):
        old.replace(**changes)
    assert old.to_dict() == before


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"sampler": "nucelus"}, UnknownComponent),
        ({"sampler": "nucleus(top_p=2)"}, BadSpecString),
        ({"sampler": "multinomial(temperature=0)"}, BadSpecString),
        ({"verifier": "believe"}, UnknownComponent),
        ({"policy": "fixed(gamma=0)"}, BadSpecString),
        ({"policy": "fixed("}, BadSpecString),
    ],
    ids=str,
)
def test_components_are_checked_when_they_are_named(
    changes: dict[str, str], error: type[ConfigError]
) -> None:
    with pytest.raises(error):
        DecodingConfig().replace(**changes)


def test_a_bad_component_is_refused_even_while_egag_hides_the_policy() -> None:
    with pytest.raises(UnknownComponent):
        DecodingConfig(egag=True, policy="nonsense")


def test_one_bad_value_among_good_ones_changes_nothing() -> None:
    old = DecodingConfig()
    with pytest.raises(ConfigError):
        old.replace(length=50, gamma=-1)
    assert old.length == 35


@pytest.mark.parametrize(
    "values",
    [{"stop": None}, {"stop": 3}, {"stop": [1, 2]}, {"stop": "end"}, {"unknown": 1}],
    ids=str,
)
def test_a_dictionary_that_is_no_config_is_refused_in_words(values: dict[str, Any]) -> None:
    # A bare string would silently become one stop string for each of its letters.
    with pytest.raises(ConfigError):
        DecodingConfig.from_dict(values)


def test_egag_takes_the_place_of_the_policy_only_while_it_is_on() -> None:
    config = DecodingConfig(policy="heuristic", egag_gamma_min=2, egag_gamma_max=6, egag_ema=0.9)
    assert config.policy_spec() == "heuristic"
    on = config.replace(egag=True)
    assert on.policy_spec() == "entropy(gamma_min=2, gamma_max=6, ema=0.9)"
    assert on.replace(egag=False) == config


def test_egags_upper_bound_is_gamma_unless_it_is_given() -> None:
    assert "gamma_max=9" in DecodingConfig(egag=True, gamma=9).policy_spec()
    assert "gamma_max=6" in DecodingConfig(egag=True, gamma=9, egag_gamma_max=6).policy_spec()


def test_egags_values_are_checked_while_it_is_off() -> None:
    with pytest.raises(ConfigError, match="egag"):
        DecodingConfig(egag=False, egag_gamma_min=9)


def test_a_list_of_stop_strings_becomes_a_tuple() -> None:
    assert DecodingConfig(stop=["x"]).stop == ("x",)  # type: ignore[arg-type]


def test_an_int_will_do_for_a_float() -> None:
    assert DecodingConfig(egag_ema=0).egag_ema == 0
