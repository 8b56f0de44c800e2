"""Every number of a component or setting is finite, in a stated range, checked where it is set."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import foredraft
from foredraft.bench.prompt_sets import PromptItem
from foredraft.bench.timed import CostTable
from foredraft.checks import Plan
from foredraft.cli.commands import COMMANDS
from foredraft.config import DecodingConfig
from foredraft.decoding import BeamSettings
from foredraft.drafting import DRAFTERS, STORAGES, NgramDrafter
from foredraft.errors import BadSpecString, ForedraftError
from foredraft.gamma import GAMMA_POLICIES, EntropyGamma
from foredraft.loading import LoadOptions
from foredraft.registry import Registry
from foredraft.sampling import SAMPLERS, NucleusSampler
from foredraft.verification import VERIFIERS
from foredraft.zoo.corpus import Source
from tests.odd_numbers import NO_NUMBERS, VALUES, attempt, generate, numbers_of, session
from tests.toy_engine import toy_drafter, toy_target

INFINITY = math.inf
REGISTRIES: dict[str, Registry[Any]] = {
    "sampler": SAMPLERS,
    "verifier": VERIFIERS,
    "policy": GAMMA_POLICIES,
    "drafting": DRAFTERS,
}
SETTINGS_OF_OTHERS = (LoadOptions, BeamSettings, Plan, CostTable, PromptItem, Source)

COMPONENTS = [
    pytest.param(setting, name, parameter, id=f"{setting}-{name}-{parameter}")
    for setting, registry in REGISTRIES.items()
    for name in registry.names
    for parameter in numbers_of(registry.get(name))
]
SETTINGS = numbers_of(DecodingConfig)


# --- components -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "name", "parameter"), COMPONENTS)
def test_a_number_of_a_component_is_refused_or_works(
    setting: str, name: str, parameter: str
) -> None:
    registry, called = REGISTRIES[setting], parameter[:5]  # a bound is refused by what it bounds
    for value in VALUES:
        made = attempt(lambda v=value: registry.get(name)(**{parameter: v}), called)
        if made is not None:
            assert math.isfinite(getattr(made, parameter))
            generate(**{setting: registry.spec(made)})
        if not isinstance(value, int) or abs(value) < 10**4000:
            spec = f"{name}({parameter}={'nan' if value != value else repr(value)})"
            checked = () if "np." in spec or "Fraction" in spec else (called,)  # no literals
            assert (attempt(lambda s=spec: registry.create(s), *checked) is not None) == (
                made is not None and checked != ()
            )
    for value in NO_NUMBERS:
        assert attempt(lambda v=value: registry.get(name)(**{parameter: v}), called) is None


@pytest.mark.parametrize("spec", ["suffix(factor=1e999)", "ngram(n=65)", "suffix(max_tokens=0)"])
@pytest.mark.parametrize(
    "outer",
    [
        *["{}", "hybrid({}, model)", "hybrid(suffix, {})", "hybrid(suffix, fallback={})"],
        *["bandit({})", "bandit(arms=[suffix, {}])", "bandit(hybrid({}, model))"],
        *["bandit(hybrid(suffix, bandit(model, {})))", "hybrid('{}', model)"],
    ],
)
def test_a_nested_component_is_checked_when_the_outer_one_is_set(outer: str, spec: str) -> None:
    drafting = outer.format(spec)
    name = re.split(r"[(=]", spec)[1]
    for make in (
        lambda: DecodingConfig(drafting=drafting),
        lambda: DecodingConfig().replace(drafting=drafting),
        lambda: COMMANDS["/drafting"].run(session(), drafting) or 1,
    ):
        assert attempt(make, name) is None
    assert attempt(lambda: DecodingConfig(policy="bandit(fixed, svip(threshold=1e999))")) is None


@pytest.mark.parametrize("setting", REGISTRIES)
@pytest.mark.parametrize(
    "spec",
    [
        "hybrid(suffix, " * 10_000 + "model" + ")" * 10_000,
        "hybrid(suffix, " * 150 + "model" + ")" * 150,
        "bandit(" * 90 + "fixed" + ")" * 90,
        "bandit(arms=[" * 40 + "model" + "])" * 40,
        "greedy" * 170_000,
        "topk(top_k=" + "9" * 10**6 + ")",
        "topk(top_k=" + "9" * 4000 + ")",
        "suffix(factor=" + "-" * 4000 + "1)",
        "suffix(factor=" + "9" * 400 + ".5)",
    ],
    ids=lambda text: f"{text[:12]}-{len(text)}" if len(text) > 20 else text,
)
def test_a_long_or_deep_spec_string_is_refused_in_a_sentence(setting: str, spec: str) -> None:
    with pytest.raises(ForedraftError):
        DecodingConfig(**{setting: spec})
    assert attempt(lambda: DecodingConfig(**{setting: spec})) is None


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
@pytest.mark.parametrize("spec", [None, 3, b"greedy", ["greedy"], 1.5], ids=str)
def test_what_is_no_text_is_no_spec_string(registry: Registry[Any], spec: Any) -> None:
    with pytest.raises(BadSpecString, match="cannot read the"):
        registry.create(spec)


def test_values_of_numpy_are_kept_as_numbers_that_can_be_written() -> None:
    sampler = NucleusSampler(np.float64(0.5), np.float32(0.5))  # type: ignore[arg-type]
    assert SAMPLERS.spec(sampler) == "nucleus(temperature=0.5, top_p=0.5)"
    config = DecodingConfig(gamma=np.int64(3))  # type: ignore[arg-type]
    assert type(config.gamma) is int


def test_bounds_of_one_another_are_kept_and_do_not_overflow() -> None:
    for low, high in ((4, 3), (10**400, 4), (4, 10**400), (1024, 1023)):
        assert attempt(lambda a=low, b=high: EntropyGamma(a, b), "gamma_") is None
        changes = {"egag_gamma_min": low, "egag_gamma_max": high}
        assert attempt(lambda c=changes: DecodingConfig(**c), "egag_gamma_") is None
        assert attempt(lambda c=changes: DecodingConfig().replace(**c), "egag_gamma_") is None


# --- settings, and what else takes numbers --------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_refused_or_works(name: str) -> None:
    for value in VALUES + NO_NUMBERS:
        made = attempt(lambda v=value: DecodingConfig(**{name: v}), name)
        changed = attempt(lambda v=value: DecodingConfig().replace(**{name: v}), name)
        read = attempt(lambda v=value: DecodingConfig.from_dict({name: v}), name)
        assert made == changed == read
        if made is not None:
            assert value not in NO_NUMBERS[:2] or not isinstance(value, bool)
            assert made.policy_spec()
            generate(**{name: value})
            generate(**{name: value, "egag": True})


@pytest.mark.parametrize("kind", SETTINGS_OF_OTHERS, ids=lambda kind: kind.__name__)
def test_a_number_of_any_other_settings_is_refused_or_finite(kind: type) -> None:
    needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    given: dict[str, Any] = {name: 1 if name in numbers_of(kind) else "x" for name in needed}
    for name in numbers_of(kind):
        for value in VALUES + NO_NUMBERS:
            made = attempt(lambda n=name, v=value: kind(**{**given, n: v}), name)
            assert made is None or abs(getattr(made, name)) < 2**63
            assert made is None or not isinstance(value, bool | str)


@pytest.mark.parametrize("name", STORAGES)
def test_a_storage_and_its_drafter_are_refused_or_work(name: str) -> None:
    for parameter in numbers_of(STORAGES[name]):
        for value in VALUES + NO_NUMBERS:
            given = {"n": 3, "vocab_size": 8, parameter: value}
            storage = attempt(lambda g=given: STORAGES[name](**g), parameter)
            if storage is not None:
                storage.initialize([1, 2, 1, 2])
                assert isinstance(storage.next_token([7])[0], int)
    for parameter in ("filler_top_k", "min_confidence"):
        for value in VALUES + NO_NUMBERS:
            given = {parameter: value}
            attempt(lambda g=given: NgramDrafter(STORAGES[name](3, 8), **g), parameter)


FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, str]]] = {
    "autoregressive_generate": (
        lambda **k: foredraft.autoregressive_generate([3], toy_target(), **k),
        {"max_gen_len": "max_gen_len", "seed": "seed"},
    ),
    "beam_search_generate": (
        lambda **k: foredraft.beam_search_generate([3], toy_target(), **k),
        {"num_beams": "num_beams", "top_k": "top_k", "min_length": "min_length", "alpha": "alpha"},
    ),
    "speculative_generate": (
        lambda **k: foredraft.speculative_generate([3], toy_drafter(), toy_target(), **k),
        {"gamma": "gamma", "max_gen_len": "max_gen_len", "seed": "seed"},
    ),
    "egag": (
        lambda **k: foredraft.speculative_generate(
            [3], toy_drafter(), toy_target(), use_egag=True, **k
        ),
        {"gamma_min": "gamma_", "gamma_max": "gamma_", "egag_ema_beta": "ema"},
    ),
    "ngram_assisted_speculative_generate": (
        lambda **k: foredraft.ngram_assisted_speculative_generate(
            [3, 4, 3], STORAGES["basic"](3, toy_target().vocab_size), toy_target(), **k
        ),
        {"gamma": "gamma", "filler_top_k": "filler_top_k", "seed": "seed"},
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_number_of_a_documented_function_is_refused_or_works(name: str) -> None:
    call, parameters = FUNCTIONS[name]
    for parameter, called in parameters.items():
        for value in VALUES:
            given = {"max_gen_len": 5, "eos_tokens_id": [], parameter: value}
            attempt(lambda g=given: call(**g), called)


# --- what is declared -----------------------------------------------------------------------------


def test_every_number_declares_a_finite_range_and_both_its_ends_work() -> None:
    from foredraft.ranges import hints_of, range_of

    owners: list[type] = [
        registry.get(n) for registry in REGISTRIES.values() for n in registry.names
    ]
    for owner in (*owners, DecodingConfig, *SETTINGS_OF_OTHERS):
        for name in numbers_of(owner):
            legal = range_of(hints_of(owner)[name])
            assert legal is not None, f"{owner.__name__}.{name}"
            assert math.isfinite(legal.low)
            assert math.isfinite(legal.high)


@pytest.mark.parametrize(("setting", "name", "parameter"), COMPONENTS)
def test_both_ends_of_a_components_range_work(setting: str, name: str, parameter: str) -> None:
    from foredraft.ranges import hints_of, range_of

    registry, called = REGISTRIES[setting], parameter[:5]
    legal = range_of(hints_of(registry.get(name))[parameter])
    assert legal is not None
    low = math.nextafter(legal.low, INFINITY) if legal.open_low else legal.low
    high = math.nextafter(legal.high, -INFINITY) if legal.open_high else legal.high
    for value in (low, high):
        component = attempt(lambda v=value: registry.get(name)(**{parameter: v}), called)
        if component is not None:  # gamma's other bound may be in the way
            generate(**{setting: registry.spec(component), "length": 12})


@pytest.mark.parametrize("name", SETTINGS)
def test_both_ends_of_a_settings_range_work(name: str) -> None:
    from foredraft.ranges import hints_of, range_of

    legal = range_of(hints_of(DecodingConfig)[name])
    assert legal is not None
    high = math.nextafter(legal.high, -INFINITY) if legal.open_high else legal.high
    for value in (legal.low, high):
        if attempt(lambda v=value: DecodingConfig(**{name: v}), name) is not None:
            generate(**{name: value})
