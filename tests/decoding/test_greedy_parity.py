"""The greedy law: speculation changes the speed, never a token, and every cached logit is right."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from foredraft.core import StepRecord
from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import STORAGES, DraftModelDrafter, NgramDrafter
from foredraft.gamma import GAMMA_POLICIES, FixedGamma
from foredraft.models import Network, Recomputing
from foredraft.sampling import GreedySampler, Rng, rng_for
from foredraft.verification import VERIFIERS, RejectionVerifier
from tests.tiny import ARCHITECTURES, VOCAB, Witness, adapt, build, full_logits, noisy

GREEDY, REJECTION = GreedySampler(), RejectionVerifier()
LENGTH = 22
PROMPTS = ([9, 12, 33], [5, 6, 7, 5, 6, 7, 5, 6])
DRAFTERS = ("noisy", "stranger")  # often right, hardly ever right


def usable_policies() -> list[str]:
    """Policies that draft and need nothing but a length: `oracle` is fed elsewhere."""
    return [
        name
        for name in GAMMA_POLICIES.names
        if all(v is not ... for v in GAMMA_POLICIES.parameters(name).values())
        and GAMMA_POLICIES.create(name).budget
    ]


def lossless_verifiers() -> list[str]:
    return [name for name in VERIFIERS.names if VERIFIERS.get(name).is_lossless]


@dataclass(frozen=True)
class Case:
    """One way to speculate; its text form is the test's name."""

    policy: str
    verifier: str
    drafter: str
    cached: bool
    first_target: bool

    def __str__(self) -> str:
        cache = "cache" if self.cached else "no_cache"
        first = "target_first" if self.first_target else "draft_first"
        return "-".join([self.policy, self.verifier, self.drafter, cache, first])


CASES = [
    Case(*values)
    for values in itertools.product(
        usable_policies(), lossless_verifiers(), DRAFTERS, (True, False), (True, False)
    )
]
# All cases on one architecture; on the others every tenth, each beginning elsewhere. The prompts
# alternate in a pattern that goes with no setting.
MATRIX = [
    pytest.param(name, case, PROMPTS[j.bit_count() % 2], id=f"{name}-{case}")
    for i, name in enumerate(ARCHITECTURES)
    for j, case in enumerate(CASES)
    if name == "llama" or j % 10 == i % 10
]


def adapter(model: Any, cached: bool) -> Network:
    inner = adapt(model)
    return inner if cached else Recomputing(inner)


def started(target: Network, prompt: list[int], rng: Rng) -> Request:
    return Request(target.open(prompt), rng, max_new_tokens=LENGTH)


@cache
def baseline(name: str, prompt: tuple[int, ...]) -> list[int]:
    target = adapt(build(name))
    request = started(target, list(prompt), Rng(0))
    for _ in autoregressive_steps(request, GREEDY):
        pass
    return request.output


def assert_fed_the_text(draft_model: Witness, text: list[int]) -> None:
    """Raise unless each pass since the last call held a prefix of `text`: no rejected draft."""
    for fed in draft_model.fed:
        assert fed == text[: len(fed)]
    draft_model.fed.clear()


def speculate(
    parts: Speculation, prompt: list[int], draft_model: Witness | None = None
) -> tuple[list[int], list[StepRecord]]:
    """Run the loop; check after each round that both models hold what they should."""
    target = parts.target
    assert isinstance(target, Witness)
    request = started(target, prompt, rng_for(0, keyed=parts.verifier.is_coupled))
    text, records = list(prompt), []
    for record in speculative_steps(parts, request):
        assert request.context.length == request.length - 1
        assert target.tokens == request.tokens[:-1]
        if draft_model is not None:
            assert_fed_the_text(draft_model, text + record.drafted)
        text = list(request.tokens)
        records.append(record)
    return request.output, records


@pytest.mark.parametrize("prompt", PROMPTS, ids=["short", "repeating"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_plain_decoding_is_the_argmax_of_uncached_passes(name: str, prompt: list[int]) -> None:
    tokens = list(prompt)
    for _ in range(LENGTH):
        tokens.append(int(full_logits(build(name), tokens)[-1].argmax()))
    assert baseline(name, tuple(prompt)) == tokens[len(prompt) :]


@pytest.mark.parametrize(("name", "case", "prompt"), MATRIX)
def test_speculative_equals_plain_decoding(name: str, case: Case, prompt: list[int]) -> None:
    network = noisy(name) if case.drafter == "noisy" else build(name, 1)
    draft_model = Witness(network, adapter(network, case.cached))
    parts = Speculation(
        target=Witness(build(name), adapter(build(name), case.cached)),
        drafter=DraftModelDrafter(draft_model, GREEDY),
        policy=GAMMA_POLICIES.create(case.policy, gamma=4),
        verifier=VERIFIERS.create(case.verifier),
        sampler=GREEDY,
        first_target=case.first_target,
    )
    output, records = speculate(parts, prompt, draft_model)
    assert output == baseline(name, tuple(prompt))
    assert sum(len(record.drafted) for record in records) > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_noisy_drafters_are_accepted_in_full_in_part_and_not_at_all(name: str) -> None:
    accepted = set()
    for noise, prompt in itertools.product((0.05, 0.1), PROMPTS):
        target, draft_model = Witness(build(name)), adapt(noisy(name, 0, noise))
        parts = Speculation(
            target, DraftModelDrafter(draft_model, GREEDY), FixedGamma(4), REJECTION, GREEDY
        )
        output, records = speculate(parts, prompt)
        assert output == baseline(name, tuple(prompt))
        accepted |= {record.num_accepted for record in records if record.gamma == 4}
    assert {0, 4} < accepted, "no draft was kept in part"


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_ngram_assisted_equals_plain_decoding(name: str, storage: str) -> None:
    accepted = 0
    for i, verifier in enumerate(lossless_verifiers()):
        prompt = PROMPTS[(i + 1) % 2]
        grams = STORAGES[storage](3, VOCAB)
        grams.initialize(prompt + baseline(name, tuple(prompt))[:12])  # so that some are right
        drafter = NgramDrafter(grams, stop_if_unknown=i % 2 == 0, reset_in_between=False)
        judge = VERIFIERS.create(verifier)
        parts = Speculation(Witness(build(name)), drafter, FixedGamma(4), judge, GREEDY)
        output, records = speculate(parts, prompt)
        assert output == baseline(name, tuple(prompt))
        accepted += sum(record.num_accepted for record in records)
    assert accepted > 0
