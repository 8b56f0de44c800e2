"""Spec strings: what is written down comes back, and what cannot be read is refused in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from foredraft.drafting import DRAFTERS
from foredraft.errors import BadSpecString, ConfigError, UnknownComponent
from foredraft.gamma import GAMMA_POLICIES, EntropyGamma
from foredraft.ranges import Range
from foredraft.registry import Registry, nearest
from foredraft.sampling import SAMPLERS, NucleusSampler, TopKNucleusSampler
from foredraft.verification import VERIFIERS

REGISTRIES: list[Registry[Any]] = [SAMPLERS, GAMMA_POLICIES, VERIFIERS, DRAFTERS]
EVERY = [
    pytest.param(registry, name, id=f"{registry.kind}-{name}".replace(" ", "-"))
    for registry in REGISTRIES
    for name in registry.names
]
HUGE = "1" + "0" * 400


@pytest.mark.parametrize(("registry", "name"), EVERY)
def test_the_spec_string_of_a_component_rebuilds_it(registry: Registry[Any], name: str) -> None:
    component = registry.create(name)
    spec = registry.spec(component)
    again = registry.create(spec)
    assert again == component
    assert registry.spec(again) == spec
    assert spec.startswith(f"{name}(")


def test_values_other_than_the_defaults_come_back_too() -> None:
    for spec in ("nucleus(temperature=0.6, top_p=0.95)", "topk(temperature=1e-05, top_k=3)"):
        assert SAMPLERS.spec(SAMPLERS.create(spec)) == spec
    spec = "entropy(gamma_min=2, gamma_max=6, ema=0.9)"
    assert GAMMA_POLICIES.spec(GAMMA_POLICIES.create(spec)) == spec


@pytest.mark.parametrize(("registry", "name"), EVERY)
def test_a_components_parameters_are_its_own_with_their_defaults(
    registry: Registry[Any], name: str
) -> None:
    component = registry.create(name)
    for parameter, default in registry.parameters(name).items():
        assert not parameter.startswith("_")
        assert getattr(component, parameter) == default


def test_omitted_parameters_take_their_defaults() -> None:
    assert SAMPLERS.create("nucleus(top_p=0.5)") == NucleusSampler(1.0, 0.5)
    assert SAMPLERS.create("  nucleus ( top_p = 0.5 ) ") == NucleusSampler(1.0, 0.5)
    assert SAMPLERS.create("nucleus()") == SAMPLERS.create("nucleus")


def test_an_int_will_do_for_a_float() -> None:
    sampler = SAMPLERS.create("nucleus(temperature=2, top_p=1)")
    assert SAMPLERS.spec(sampler) == "nucleus(temperature=2.0, top_p=1.0)"


def test_defaults_of_the_caller_yield_to_the_spec_and_skip_what_a_component_lacks() -> None:
    assert GAMMA_POLICIES.create("fixed", gamma=7, nonsense=1) == GAMMA_POLICIES.create(
        "fixed(gamma=7)"
    )
    assert GAMMA_POLICIES.create("fixed(gamma=2)", gamma=7).budget == 2
    assert GAMMA_POLICIES.create("entropy", gamma=7) == EntropyGamma()


@pytest.mark.parametrize(
    ("registry", "typo", "meant"),
    [
        (SAMPLERS, "nucelus", "nucleus"),
        (GAMMA_POLICIES, "heuristics(gamma=3)", "heuristic"),
        (VERIFIERS, "exactmatch", "exact_match"),
    ],
    ids=["sampler", "policy", "verifier"],
)
def test_an_unknown_name_suggests_the_nearest_and_lists_the_legal_ones(
    registry: Registry[Any], typo: str, meant: str
) -> None:
    with pytest.raises(UnknownComponent) as caught:
        registry.create(typo)
    text = str(caught.value)
    assert text.startswith(f"unknown {registry.kind} ")
    assert f"(did you mean {meant!r}?)" in text
    assert all(name in text for name in registry.names)


def test_a_name_near_nothing_gets_no_suggestion() -> None:
    assert nearest("xyzzy", SAMPLERS.names) == ""
    with pytest.raises(UnknownComponent, match="unknown sampler 'xyzzy'; legal: greedy"):
        SAMPLERS.get("xyzzy")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nucleus(topp=0.9)", r"no parameter 'topp' \(did you mean 'top_p'\?\); legal: temp"),
        ("entropy(_raw=1)", "has no parameter '_raw'"),
        ("exact_match(x=1)", "has no parameter 'x'; legal: none"),
        ("nucleus(top_p='high')", r"top_p must be a number in \(0, 1\], not 'high'"),
        ("nucleus(top_p=True)", r"top_p must be a number in \(0, 1\], not True"),
        ("topk(top_k=2.0)", r"top_k must be a whole number in \[1, 2147483647\], not 2.0"),
        ("topk(top_k=True)", r"top_k must be a whole number in \[1, 2147483647\], not True"),
        ("topk(top_k=None)", r"top_k must be a whole number in \[1, 2147483647\], not None"),
        ("nucleus(top_p=1.5)", r"sampler 'nucleus': top_p must lie in \(0, 1\], not 1.5"),
        ("topk(top_k=0)", r"sampler 'topk': top_k must lie in \[1, 2147483647\], not 0"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(spec: str, message: str) -> None:
    registry = next(r for r in REGISTRIES if spec.split("(")[0] in r.names)
    with pytest.raises(BadSpecString, match=message):
        registry.create(spec)


@pytest.mark.parametrize(
    "spec",
    [
        *["", "   ", "(", "()", "3", "nucleus(", "nucleus)", "nucleus 0.6", "nucleus(0.6)"],
        *["nucleus(top_p=)", "nucleus(top_p=0.5, top_p=0.6)", "nucleus(**{})", "nucleus(*[])"],
        *[
            "a.b()",
            "nucleus()()",
            "lambda: 1",
            "nucleus(top_p=open)",
            "nucleus(top_p=1 if 1 else 0)",
        ],
        *["nucleus\0", "nucleus(top_p={[]: 1})", "nucleus(top_p={[1]})", "核()(", "'\\d'"],
        "nucleus(top_p=" + "(" * 5000 + ")" * 5000 + ")",
        "nucleus(top_p=" + "-" * 50_000 + "1)",
    ],
    ids=lambda spec: spec[:24] or "empty",
)
def test_what_cannot_be_read_is_refused_and_the_form_is_shown(spec: str) -> None:
    with pytest.raises(BadSpecString, match=r"write name or name\(key=value") as caught:
        SAMPLERS.create(spec)
    assert len(str(caught.value)) < 200


def test_a_spec_string_is_never_executed() -> None:
    with pytest.raises(BadSpecString):
        SAMPLERS.create("nucleus(top_p=__import__('os').getpid())")


@pytest.mark.parametrize(
    ("registry", "spec"),
    [
        (SAMPLERS, f"multinomial(temperature={HUGE})"),
        (GAMMA_POLICIES, f"heuristic(gamma={HUGE})"),
        (GAMMA_POLICIES, f"entropy(gamma_min={HUGE})"),
    ],
    ids=["float", "bound-of-heuristic", "bound-of-entropy"],
)
def test_a_number_beyond_every_float_is_refused_like_any_other(
    registry: Registry[Any], spec: str
) -> None:
    with pytest.raises(BadSpecString):
        registry.create(spec)


def test_words_in_the_order_of_the_parameters_build_a_component() -> None:
    built = SAMPLERS.create_positional("topknucleus", ["0.7", "5", "0.9"])
    assert built == TopKNucleusSampler(0.7, 5, 0.9)
    assert SAMPLERS.create_positional("topknucleus", ["1"]) == TopKNucleusSampler(1.0)
    assert SAMPLERS.create_positional("greedy", []) == SAMPLERS.create("greedy")


def test_too_many_words_show_the_usage() -> None:
    with pytest.raises(BadSpecString, match="usage: nucleus <temperature> <top_p>"):
        SAMPLERS.create_positional("nucleus", ["1", "0.9", "3"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hot"], r"temperature must be a number in \(0, 10000\], not 'hot'"),
        (["1", "0"], r"top_p must lie in \(0, 1\], not 0"),
        (["nan"], "temperature must be a number in .*, not 'nan'"),
        (["1e999"], r"temperature must lie in \(0, 10000\], not inf"),
    ],
)
def test_a_word_that_does_not_fit_is_named(words: list[str], message: str) -> None:
    with pytest.raises(BadSpecString, match=message):
        SAMPLERS.create_positional("nucleus", words)


@pytest.mark.parametrize(
    "word",
    ["{[]:1}", "-" * 3000 + "1", "-" * 200_000 + "1", "(" * 1000, "\0", HUGE, "9" * 5000],
    ids=["unhashable", "deep", "deeper", "nested", "nul", "huge", "too-many-digits"],
)
def test_no_word_whatever_raises_anything_but_a_bad_spec_string(word: str) -> None:
    with pytest.raises(BadSpecString):
        SAMPLERS.create_positional("multinomial", [word])


def test_an_unknown_name_before_words_is_an_unknown_component() -> None:
    with pytest.raises(UnknownComponent, match="did you mean 'greedy'"):
        SAMPLERS.create_positional("greddy", ["1"])


def test_a_component_of_ones_own_registers_with_one_line() -> None:
    registry: Registry[object] = Registry("spice")

    @registry.register("pepper")
    @dataclass(frozen=True)
    class Pepper:
        corns: int
        ground: bool = True

    assert registry.names == ["pepper"]
    assert registry.parameters("pepper") == {"corns": ..., "ground": True}
    assert registry.create("pepper(corns=3, ground=False)") == Pepper(3, False)
    with pytest.raises(BadSpecString, match="spice 'pepper' needs a value for 'corns'"):
        registry.create("pepper")


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_values_inside_the_range_pass(value: float) -> None:
    Range(0, 1).check("x", value)


def test_the_message_of_a_range_says_which_ends_belong_to_it() -> None:
    with pytest.raises(ConfigError, match=r"^x must lie in \[0, 1\], not 1.5$"):
        Range(0, 1).check("x", 1.5)
    with pytest.raises(ConfigError, match=r"^x must lie in \(0, 8\), not 0$"):
        Range(0, 8, open_low=True, open_high=True).check("x", 0)


def test_what_nobody_can_change_is_read_once_and_what_learns_each_time() -> None:
    assert SAMPLERS.create("nucleus(top_p=0.5)") is SAMPLERS.create("nucleus(top_p=0.5)")
    assert GAMMA_POLICIES.create("cost_aware") is not GAMMA_POLICIES.create("cost_aware")
    registry: Registry[Any] = Registry("part")
    for number in (1, 2):  # as a cell of a notebook that is run again

        @registry.register("one")
        @dataclass(frozen=True)
        class One:
            value: int = number

        assert registry.create("one").value == number
