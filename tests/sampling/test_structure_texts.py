"""Texts of the bundled models obey their structures, and are one text: whoever drafts, judges."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from foredraft import DecodingConfig, Engine, LoadOptions
from foredraft.config import METHODS
from foredraft.core import Completion, FinishReason
from foredraft.drafting import DRAFTERS
from foredraft.gamma import GAMMA_POLICIES
from foredraft.verification import VERIFIERS

PROMPT = "Once upon a time there was a little fox. Here is what we know of it:"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Tom", "Lily", "Max"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 12},
        "likes": {"type": "array", "items": {"enum": ["fish", "cake"]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
REGEX = r"The (red|little) fox (ran|sat)( and (hid|sang)){1,3}\."
LARK = 'start: "I " verb " " /[a-z]{2,5}/ "."\nverb: "like" | "see"'
GREEDY, SAMPLED = "greedy", "nucleus(temperature=1.2, top_p=0.95)"
samplers = pytest.mark.parametrize("sampler", [GREEDY, SAMPLED])


def obeys_schema(text: str) -> bool:
    said = json.loads(text)
    return (
        list(said) == SCHEMA["required"]
        and said["name"] in ("Tom", "Lily", "Max")
        and type(said["age"]) is int
        and 0 <= said["age"] <= 12
        and len(said["likes"]) <= 2
        and {*said["likes"]} <= {"fish", "cake"}
    )


KINDS: dict[str, tuple[dict[str, str], Callable[[str], bool]]] = {
    "json_schema": ({"json_schema": json.dumps(SCHEMA)}, obeys_schema),
    "regex": ({"regex": REGEX}, lambda text: re.fullmatch(REGEX, text) is not None),
    "grammar": (
        {"grammar": LARK},
        lambda text: re.fullmatch("I (like|see) [a-z]{2,5}[.]", text) is not None,
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def engine(name: str = "bundled") -> Engine:
    return Engine.load(name, options=LoadOptions(device="cpu"))


def config_of(kind: str, **settings: Any) -> DecodingConfig:
    return DecodingConfig(**{"length": 60, "seed": 7, **KINDS[kind][0], **settings})


def check(done: Completion, kind: str) -> None:
    assert done.finish_reason is FinishReason.EOS
    assert KINDS[kind][1](done.text), done.text


def said(
    kind: str, method: str = "speculative", name: str = "bundled", **settings: Any
) -> list[int]:
    """Return the tokens of a text that was checked."""
    prompt = PROMPT if name == "bundled" else "Elle a deux frères."
    done = engine(name).generate(prompt, config_of(kind, **settings), method=method)
    check(done, kind)
    return done.tokens


@cache
def greedy(kind: str, name: str = "bundled") -> list[int]:
    return said(kind, "target", name)


@every_kind
@pytest.mark.parametrize("cache_on", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_obeys_and_greedily_says_the_same(
    method: str, cache_on: bool, kind: str
) -> None:
    text = said(kind, method, cache=cache_on)
    assert (text == greedy(kind)) or method == "drafter"
    said(kind, method, cache=cache_on, sampler=SAMPLED)


@every_kind
@pytest.mark.parametrize("gamma", [2, 8, 48])
@pytest.mark.parametrize("method", ["speculative", "ngram"])
def test_every_draft_length_gives_the_same_text(method: str, gamma: int, kind: str) -> None:
    assert said(kind, method, gamma=gamma) == greedy(kind)
    coupled = {"verifier": "coupled", "sampler": SAMPLED}
    for seed in range(2):
        plain = said(kind, "target", seed=seed, **coupled)
        assert said(kind, method, gamma=gamma, seed=seed, **coupled) == plain


@every_kind
@pytest.mark.parametrize("drafting", DRAFTERS.names)
def test_every_drafter_gives_the_same_text(drafting: str, kind: str) -> None:
    assert said(kind, drafting=drafting, gamma=8) == greedy(kind)
    coupled = {"verifier": "coupled", "sampler": SAMPLED}
    assert said(kind, drafting=drafting, **coupled) == said(kind, "target", **coupled)
    said(kind, drafting=drafting, sampler=SAMPLED)


@every_kind
@pytest.mark.parametrize("verifier", VERIFIERS.names)
def test_every_verifier_obeys(verifier: str, kind: str) -> None:
    assert said(kind, verifier=verifier) == greedy(kind)
    for drafting, seed in itertools.product(("model", "suffix", "auto"), range(2)):
        said(kind, drafting=drafting, verifier=verifier, sampler=SAMPLED, seed=seed)


@pytest.mark.parametrize("policy", GAMMA_POLICIES.names)
def test_every_policy_obeys(policy: str) -> None:
    for kind in KINDS:
        assert said(kind, policy=policy, gamma=8) == greedy(kind)
        said(kind, policy=policy, sampler=SAMPLED)


@every_kind
@pytest.mark.parametrize("method", ["target", "speculative", "ngram", "drafter"])
def test_so_do_translations(method: str, kind: str) -> None:
    text = said(kind, method, "bundled-seq2seq", gamma=8)
    assert text == greedy(kind, "bundled-seq2seq") or method == "drafter"
    said(kind, method, "bundled-seq2seq", sampler=SAMPLED)


@samplers
@every_kind
def test_several_texts_at_once_are_each_its_own(kind: str, sampler: str) -> None:
    prompts = [PROMPT, "The dog", "A cat and a", "One day, Lily", "Tom was sad"]
    config = config_of(kind, sampler=sampler, verifier="coupled" if sampler == SAMPLED else "block")
    for method in ("target", "speculative", "ngram"):
        together = engine().generate_many(prompts, config, method=method)
        for prompt, done in zip(prompts, together, strict=True):
            check(done, kind)
            assert done.tokens == engine().generate(prompt, config, method=method).tokens


@samplers
def test_structures_and_penalties_obey_together(sampler: str) -> None:
    more = {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "no_repeat_ngram_size": 9}
    for kind in KINDS:
        said(kind, sampler=sampler, min_new_tokens=2, **more)


@pytest.mark.parametrize("method", METHODS)
def test_a_text_that_is_cut_short_says_so_and_one_that_just_fits_does_not(method: str) -> None:
    config = config_of("regex", regex="(abc){5}")
    whole = engine().generate(PROMPT, config, method=method)
    assert (whole.text, whole.finish_reason) == ("abc" * 5, FinishReason.EOS)
    length = len(whole.tokens) - 1  # without the end token
    fits = engine().generate(PROMPT, config.replace(length=length), method=method)
    assert (fits.text, fits.finish_reason) == ("abc" * 5, FinishReason.LENGTH)
    short = engine().generate(PROMPT, config.replace(length=length - 1), method=method)
    assert short.finish_reason is FinishReason.UNSATISFIED
    assert ("abc" * 5).startswith(short.text)


def test_what_may_not_come_at_all_is_blocked() -> None:
    for method in METHODS:
        config = config_of("regex", regex="(abc){5}", min_new_tokens=50)
        done = engine().generate(PROMPT, config, method=method)
        assert (done.text, done.finish_reason) == ("abc" * 5, FinishReason.BLOCKED)
        assert sum(len(record.emitted) for record in done.records) == len(done.tokens)


def test_forced_tokens_are_drafted_without_a_call() -> None:
    for drafting in ("model", "suffix", "auto"):
        config = config_of("regex", regex="(the little red fox ){3}", drafting=drafting, gamma=48)
        done = engine().generate(PROMPT, config)
        assert done.text == "the little red fox " * 3
        assert sum(record.num_draft_calls for record in done.records) <= 2
        if drafting != "auto":  # which drafts by what its passes cost
            assert len(done.records) <= 3
