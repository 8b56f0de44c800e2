"""The documented names: parameters in their documented order, with their documented defaults."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import foredraft
from foredraft import functional

REQUIRED = inspect.Parameter.empty

COMMON: dict[str, Any] = {
    "logits_processor": foredraft.GreedyProcessor(),
    "max_gen_len": 40,
    "eos_tokens_id": 1,
    "pad_token_id": 0,
    "use_cache": True,
    "debug": False,
}
SPECULATIVE: dict[str, Any] = COMMON | {"tokenizer": None, "gamma": 5, "first_target": True}
DOCUMENTED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "autoregressive_generate": (["inputs", "model"], COMMON),
    "beam_search_generate": (
        ["inputs", "model"],
        {
            "max_gen_len": 40,
            "num_beams": 4,
            "top_k": 3,
            "min_length": 5.0,
            "alpha": 1.2,
            "eos_tokens_id": 1,
            "pad_token_id": 0,
            "debug": False,
            "tokenizer": None,
        },
    ),
    "speculative_generate": (
        ["inputs", "drafter", "target"],
        SPECULATIVE
        | {
            "use_egag": False,
            "gamma_min": 1,
            "gamma_max": None,
            "egag_ema_beta": 0.0,
            "skip_sample_adjustment": False,
        },
    ),
    "ngram_assisted_speculative_generate": (
        ["inputs", "ngramstorage", "target"],
        SPECULATIVE | {"filler_top_k": 3, "stop_if_unknown": True},
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_parameters_exist_with_their_documented_defaults(name: str) -> None:
    first, defaults = DOCUMENTED[name]
    parameters = inspect.signature(getattr(foredraft, name)).parameters
    assert list(parameters)[: len(first)] == first
    assert all(parameters[p].default is REQUIRED for p in first)
    assert {p: parameters[p].default for p in defaults} == defaults
    assert all(p.default is not REQUIRED for p in list(parameters.values())[len(first) :])


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_alias_has_the_signature_of_its_namesake_and_one_parameter_more(name: str) -> None:
    signature, alias = (
        inspect.signature(getattr(foredraft, known), eval_str=True)
        for known in (name, f"{name}_encoder_decoder")
    )
    *parameters, start = alias.parameters.values()
    assert (start.name, start.default, start.kind) == (
        *("decoder_start_token_id", None),
        inspect.Parameter.KEYWORD_ONLY,
    )
    assert alias.replace(parameters=parameters) == signature


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_alias_hands_all_that_it_is_given_to_its_namesake(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        p: object() for p in inspect.signature(getattr(foredraft, name)).parameters
    }
    given["model" if "model" in given else "target"] = foredraft.TableModel({(): [1.0]})
    monkeypatch.setattr(functional, name, lambda **handed: handed)
    assert getattr(foredraft, f"{name}_encoder_decoder")(**given) == given


@pytest.mark.parametrize("name", ["speculative_generate", "ngram_assisted_speculative_generate"])
def test_tokenizer_and_gamma_may_be_given_by_position(name: str) -> None:
    parameters = list(inspect.signature(getattr(foredraft, name)).parameters)
    assert parameters[3:5] == ["tokenizer", "gamma"]


@pytest.mark.parametrize(
    ("processor", "names"),
    [
        (foredraft.MultinomialProcessor, ["temperature"]),
        (foredraft.TopKProcessor, ["temperature", "top_k"]),
        (foredraft.NucleusProcessor, ["temperature", "top_p"]),
        (foredraft.TopKNucleusProcessor, ["temperature", "top_k", "top_p"]),
        (foredraft.NGramStorage, ["n", "vocab_size"]),
        (foredraft.OneLevelNGramStorage, ["n", "vocab_size"]),
    ],
)
def test_documented_classes_take_their_parameters_in_order(
    processor: Callable[..., Any], names: list[str]
) -> None:
    assert list(inspect.signature(processor).parameters)[: len(names)] == names


@pytest.mark.parametrize("name", foredraft.__all__)
def test_no_base_hides_what_a_class_takes(name: str) -> None:
    """A `__new__` that takes anything stands before `__init__` for some releases of Python."""
    public = getattr(foredraft, name)
    for base in public.__mro__ if inspect.isclass(public) else ():
        if base.__module__.startswith("foredraft"):
            assert "__new__" not in vars(base) or issubclass(base, enum.Enum)
