"""Without a seed every call draws anew, as torch.manual_seed governs; a seed repeats a text."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import foredraft
from foredraft.config import DecodingConfig
from foredraft.errors import ConfigError
from tests.tiny import VOCAB, build, noisy
from tests.toy_engine import PROMPT, toy_drafter, toy_engine

SAMPLER = foredraft.MultinomialProcessor(1.0)
IDS = [5, 6, 7]
OPTIONS: dict[str, Any] = {"logits_processor": SAMPLER, "max_gen_len": 20, "eos_tokens_id": None}
METHODS = ("speculative", "ngram", "target", "drafter")


def takes_a_seed() -> dict[str, Callable[..., Any]]:
    """Return every documented function that draws, on a decoder-only and an encoder–decoder."""
    found: dict[str, Callable[..., Any]] = {}
    for ending, network in (("", "llama"), ("_encoder_decoder", "bart")):
        target, drafter = build(network), noisy(network)
        for name, between in (
            ("autoregressive_generate", tuple),
            ("speculative_generate", lambda drafter=drafter: (drafter,)),
            ("ngram_assisted_speculative_generate", lambda: (foredraft.NGramStorage(3, VOCAB),)),
        ):
            function = getattr(foredraft, name + ending)

            def call(function: Any = function, between: Any = between, t: Any = target, **k: Any):  # type: ignore[no-untyped-def]
                result = function(IDS, *between(), t, **OPTIONS | k)
                return result[0] if isinstance(result, tuple) else result

            found[name + ending] = call
    return found


CALLS = takes_a_seed()
every_function = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def sampling(**changes: Any) -> DecodingConfig:
    return DecodingConfig(sampler="multinomial(temperature=1.0)", length=20, **changes)


def engine() -> foredraft.Engine:
    return toy_engine(toy_drafter(), toy_drafter())  # a target that is never quite certain


def test_every_public_function_with_a_seed_is_among_them() -> None:
    named = {
        name
        for name in foredraft.__all__
        if name.endswith("generate")
        and "seed" in inspect.signature(getattr(foredraft, name)).parameters
    }
    assert named == {name for name in CALLS if not name.endswith("_encoder_decoder")}
    seeds = [f.default for f in dataclasses.fields(DecodingConfig) if f.name == "seed"]
    assert seeds == [None]


@every_function
def test_two_calls_are_two_samples(call: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    assert len({tuple(call()) for _ in range(4)}) > 1


@every_function
def test_manual_seed_governs_them(call: Callable[..., Any]) -> None:
    def both(seed: int) -> list[Any]:
        torch.manual_seed(seed)
        return [call(verifier="coupled"), call(verifier="coupled")]

    first = both(1)
    assert first[0] != first[1]
    assert both(1) == first
    assert both(2) != first


@pytest.mark.parametrize("method", METHODS)
def test_a_completion_says_the_seed_that_repeats_it(method: str) -> None:
    torch.manual_seed(0)
    ours, texts, seeds = engine(), set(), set()
    for _ in range(8):
        done = ours.generate(PROMPT, sampling(), method=method)
        again = ours.generate(PROMPT, sampling(seed=done.seed), method=method)
        if method != "ngram":  # whose storage may have learnt
            assert again.tokens == done.tokens
        texts.add(tuple(done.tokens))
        seeds.add(done.seed)
    assert len(texts) > 1
    assert len(seeds) == 8


def test_compared_methods_share_one_fresh_seed() -> None:
    ours, config = engine(), sampling(verifier="coupled")
    first, second = (ours.compare(PROMPT, config, METHODS[:3]) for _ in range(2))
    assert len({r.completion.seed for r in first}) == 1
    assert len({tuple(r.completion.tokens) for r in first}) == 1  # coupled
    assert first[0].completion.seed != second[0].completion.seed


def test_a_config_without_a_seed_survives_json() -> None:
    assert DecodingConfig.from_dict(DecodingConfig().to_dict()).seed is None


ILLEGAL = [-1, -(10**30), 2**63, 10**30, True, 1.0, float("nan"), "7", b"7", [7], object()]


@every_function
def test_a_seed_out_of_range_is_refused_with_the_range(call: Callable[..., Any]) -> None:
    for seed in ILLEGAL:
        with pytest.raises(ConfigError, match=rf"seed must .*\[0, {2**63 - 1}\]"):
            call(seed=seed)
    assert call(seed=np.int64(7)) == call(seed=7)


def test_a_config_refuses_it_too() -> None:
    for seed in ILLEGAL:
        with pytest.raises(ConfigError, match=rf"seed must .*\[0, {2**63 - 1}\]"):
            DecodingConfig(seed=seed)
