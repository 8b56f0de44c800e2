"""Coupled verification: the seed alone decides the text, whoever drafts, and however much."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import Drafter, DraftModelDrafter, NgramDrafter, NGramStorage
from foredraft.errors import ConfigError
from foredraft.gamma import GAMMA_POLICIES, FixedGamma
from foredraft.models import DecoderOnlyModel, Network, Recomputing
from foredraft.sampling import SAMPLERS, KeyedRng, MultinomialSampler, Rng, Sampler
from foredraft.verification import VERIFIERS, CoupledVerifier
from tests.doubles import ScriptedDrafter
from tests.tiny import ARCHITECTURES, VOCAB, build, noisy

PROMPT = [5, 6, 7, 5, 6]
LENGTH = 24
SPECS = (
    "greedy",
    "multinomial(temperature=0.3)",
    "multinomial(temperature=1.5)",
    "topk(temperature=1.0, top_k=5)",
    "nucleus(temperature=1.0, top_p=0.95)",
    "topknucleus(temperature=0.8, top_k=20, top_p=0.9)",
)
DRAFTERS: dict[str, Callable[[Sampler], Drafter]] = {
    "noisy-model": lambda sampler: DraftModelDrafter(DecoderOnlyModel(noisy("llama")), sampler),
    "same-model": lambda sampler: DraftModelDrafter(DecoderOnlyModel(build("llama")), sampler),
    "stranger": lambda sampler: DraftModelDrafter(DecoderOnlyModel(build("gpt2")), sampler),
    "ngram": lambda sampler: NgramDrafter(NGramStorage(3, VOCAB)),
    "script": lambda sampler: ScriptedDrafter([1, 2, 3] * 20),
}
POLICIES = ("fixed(gamma=1)", "fixed(gamma=7)", "heuristic", "confidence", "entropy(ema=0.5)")


def begun(target: Network, rng: Rng) -> Request:
    return Request(target.open(PROMPT), rng, max_new_tokens=LENGTH)


def plain_text(target: Network, sampler: Sampler, seed: int) -> list[int]:
    request = begun(target, KeyedRng(seed))
    list(autoregressive_steps(request, sampler))
    return request.output


def coupled_text(parts: Speculation, seed: int) -> list[int]:
    request = begun(parts.target, KeyedRng(seed))
    list(speculative_steps(parts, request))
    return request.output


@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no-cache"])
@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("spec", SPECS)
def test_every_drafter_gives_the_text_of_plain_decoding(
    spec: str, drafter: str, cache: bool
) -> None:
    sampler = SAMPLERS.create(spec)
    target: Network = DecoderOnlyModel(build("llama"))
    for seed in (7, 8):
        expected = plain_text(target, sampler, seed)
        speaking = target if cache else Recomputing(target)
        for first_target in (True, False):
            parts = Speculation(
                speaking,
                DRAFTERS[drafter](sampler),
                FixedGamma(4),
                CoupledVerifier(),
                sampler,
                first_target,
            )
            assert coupled_text(parts, seed) == expected


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("spec", SPECS)
def test_every_policy_gives_the_text_of_plain_decoding(spec: str, policy: str) -> None:
    sampler, target = SAMPLERS.create(spec), DecoderOnlyModel(build("llama"))
    parts = Speculation(
        target,
        DRAFTERS["noisy-model"](sampler),
        GAMMA_POLICIES.create(policy),
        CoupledVerifier(),
        sampler,
    )
    assert coupled_text(parts, 3) == plain_text(target, sampler, 3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_the_text_of_plain_decoding(name: str) -> None:
    sampler, target = MultinomialSampler(1.0), DecoderOnlyModel(build(name))
    drafter = DraftModelDrafter(DecoderOnlyModel(noisy(name)), sampler)
    parts = Speculation(target, drafter, FixedGamma(4), CoupledVerifier(), sampler)
    assert coupled_text(parts, 11) == plain_text(target, sampler, 11)


def test_another_seed_gives_another_text() -> None:
    sampler, target = MultinomialSampler(1.0), DecoderOnlyModel(build("llama"))
    assert plain_text(target, sampler, 1) != plain_text(target, sampler, 2)


def test_a_drafter_equal_to_the_target_is_always_kept() -> None:
    sampler, target = MultinomialSampler(1.0), DecoderOnlyModel(build("llama"))
    drafter = DRAFTERS["same-model"](sampler)
    parts = Speculation(target, drafter, FixedGamma(4), CoupledVerifier(), sampler)
    records = list(speculative_steps(parts, begun(target, KeyedRng(0))))
    assert all(record.num_accepted == len(record.drafted) for record in records)


@pytest.mark.parametrize("name", VERIFIERS.names)
def test_trap_shared_noise_and_independent_noise_are_not_mixed_up(name: str) -> None:
    # Token rejection with shared noise would be biased, coupled without it would not be coupled.
    verifier, sampler = VERIFIERS.create(name), MultinomialSampler(1.0)
    target = DecoderOnlyModel(build("llama"))
    drafter = DRAFTERS["noisy-model"](sampler)
    parts = Speculation(target, drafter, FixedGamma(4), verifier, sampler)
    wrong = Rng(0) if verifier.is_coupled else KeyedRng(0)
    with pytest.raises(ConfigError, match=f"{type(verifier).__name__} .* {type(wrong).__name__}"):
        next(speculative_steps(parts, begun(target, wrong)))
