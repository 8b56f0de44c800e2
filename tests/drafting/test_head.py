"""Heads through the loop: the target's text and distribution, whatever the head has heard."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from foredraft.checks.statistics import chi_square, p_value
from foredraft.choices import Dense
from foredraft.core import DraftStop, StepRecord
from foredraft.decoding import Request, Speculation, begin, speculative_steps, step
from foredraft.drafting import DRAFTERS, DraftParts, HeadDrafter, neural_parts
from foredraft.drafting.base import Beginning
from foredraft.gamma import GAMMA_POLICIES, FixedGamma, GammaPolicy
from foredraft.gamma.base import Signal
from foredraft.loading.runtime import can_fuse
from foredraft.models import DecoderOnlyModel, HeadModel, Network, Recomputing
from foredraft.native.fused import FusedModel
from foredraft.native.graphs import StaticModel
from foredraft.native.network import NativeModel
from foredraft.sampling import SAMPLERS, GreedySampler, MultinomialSampler, Rng, Sampler, rng_for
from foredraft.verification import VERIFIERS
from tests.enumeration import enumerate_outcomes, total_variation
from tests.heads import head_for
from tests.tiny import VOCAB, build, random_tokens

PROMPT = random_tokens(random.Random(4), 9)
SHORT = [1, 0, 2]
GREEDY, PLAIN = GreedySampler(), MultinomialSampler()
ROUNDING = 1e-6  # of float32 in the chance of a text
LOSSLESS = [name for name in VERIFIERS.names if VERIFIERS.get(name).is_lossless]
RUNTIMES = {
    "transformers": DecoderOnlyModel,
    "native": NativeModel,
    "static": StaticModel,
    "uncached": lambda network: Recomputing(DecoderOnlyModel(network)),
}
if can_fuse():
    RUNTIMES["compiled"] = FusedModel
every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


def target_of(runtime: str, **changes: Any) -> Network:
    made: Network = RUNTIMES[runtime](build("llama", **changes))
    return made


def parts_of(
    target: Network,
    head: HeadModel,
    *,
    sampler: Sampler = GREEDY,
    policy: GammaPolicy | None = None,
    verifier: str = "rejection",
    drafting: str = "model",
    first_target: bool = True,
) -> Speculation:
    drafter = DRAFTERS.create(drafting).build(neural_parts(target.vocab_size, head, sampler))
    rule = VERIFIERS.create(verifier)
    return Speculation(target, drafter, policy or FixedGamma(3), rule, sampler, first_target)


def written(
    parts: Speculation, prompt: Sequence[int], length: int, rng: Rng | None = None
) -> tuple[list[int], list[StepRecord]]:
    keyed = parts.verifier is not None and parts.verifier.is_coupled
    request = Request(
        parts.target.open(prompt), rng or rng_for(0, keyed=keyed), max_new_tokens=length
    )
    records = list(speculative_steps(parts, request))
    return request.output, records


@every_runtime
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_greedy_text_is_the_targets(runtime: str, kind: str) -> None:
    target = target_of(runtime)
    head = head_for(target, kind)
    alone, _ = written(Speculation.plain(target, GREEDY), PROMPT, 40)
    for name in GAMMA_POLICIES.names:
        text, records = written(
            parts_of(target, head, policy=GAMMA_POLICIES.create(name)), PROMPT, 40
        )
        assert text == alone, name
        if name == "fixed":
            assert sum(len(r.drafted) for r in records) > 40


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma3", "mistral_sliding", "opt"])
def test_a_head_drafts_for_any_decoder(architecture: str) -> None:
    network = build(architecture)
    target = DecoderOnlyModel(network)
    head = head_for(target)
    alone, _ = written(Speculation.plain(target, GREEDY), PROMPT, 30)
    text, records = written(parts_of(target, head), PROMPT, 30)
    assert text == alone
    assert sum(len(r.drafted) for r in records) > 30


@pytest.mark.parametrize("drafting", ["auto", "hybrid(suffix, model)", "bandit"])
@pytest.mark.parametrize("verifier", VERIFIERS.names)
def test_greedy_text_is_the_targets_with_every_verifier(verifier: str, drafting: str) -> None:
    target = target_of("native")
    alone, _ = written(Speculation.plain(target, GREEDY), PROMPT, 30)
    parts = parts_of(target, head_for(target), verifier=verifier, drafting=drafting)
    if VERIFIERS.get(verifier).is_lossless:
        assert written(parts, PROMPT, 30)[0] == alone


@cache
def law(target: Network, length: int) -> dict[tuple[int, ...], float]:
    """Return the probability of every text behind `SHORT`, from passes without a memory."""
    texts: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(length):
        rows = [target.open(SHORT).extend([*SHORT, *text])[0] for text in texts]
        probs = PLAIN.probs(torch.stack(rows)).double().tolist()
        texts = {
            (*text, token): chance * p
            for (text, chance), row in zip(texts.items(), probs, strict=True)
            for token, p in enumerate(row)
        }
    return texts


@pytest.mark.parametrize("first_target", [False, True])
@pytest.mark.parametrize("verifier", LOSSLESS)
def test_the_law_is_the_targets_by_enumeration(verifier: str, first_target: bool) -> None:
    target = target_of("native", vocab_size=3)
    head, bounds = head_for(target, columns=2, scale=0.8), FixedGamma(2)
    given = {"sampler": PLAIN, "verifier": verifier, "policy": bounds, "first_target": first_target}

    def run(rng: Rng) -> tuple[int, ...]:
        return tuple(written(parts_of(target, head, **given), SHORT, 3, rng)[0])

    made = enumerate_outcomes(run, keyed=VERIFIERS.create(verifier).is_coupled)
    assert total_variation(made, law(target, 3)) < ROUNDING


@pytest.mark.parametrize("runtime", ["compiled"] if can_fuse() else [])
def test_the_law_is_the_targets_where_strides_are_drawn_in_c(runtime: str) -> None:
    """Chi-square of two tokens that are drafted together; the level, 1e-4, was fixed before.

    Whatever comes less than once in a hundred texts shares a cell. In 4,000 samples a bias of total
    variation 0.06 would be found with probability 0.99.
    """
    target = target_of(runtime, vocab_size=3)
    head = head_for(target, columns=2, scale=0.8)
    parts = parts_of(target, head, sampler=PLAIN, policy=FixedGamma(2))
    chances = Counter[tuple[int, ...]]()
    for text, chance in law(target, 3).items():
        chances[text[1:]] += chance  # type: ignore[assignment]
    runs = [written(parts, SHORT, 4, Rng(seed)) for seed in range(4000)]
    assert sum(len(records[1].drafted) == 2 for _, records in runs) > 3900
    counted = Counter(tuple(text[1:3]) for text, _ in runs)
    often = [cell for cell, chance in chances.items() if chance > 0.01]
    observed, expected = [counted[cell] for cell in often], [4000 * chances[c] for c in often]
    observed.append(4000 - sum(observed))
    expected.append(4000 - sum(expected))
    assert p_value(chi_square(observed, expected), len(often)) > 1e-4


def test_another_q_than_was_drawn_from_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of("native", vocab_size=3)
    drafter = HeadDrafter(head_for(target, columns=2, scale=0.8), PLAIN)
    original = HeadDrafter._drawing

    def drawing(self: HeadDrafter, rows: list[Any]) -> Callable[[Signal, int], int]:
        draw = original(self, rows)

        def one(signal: Signal, num_drafted: int) -> int:
            token = draw(signal, num_drafted)
            rows[-1] = Dense(rows[-1].probs.roll(1, -1))
            return token

        return one

    monkeypatch.setattr(HeadDrafter, "_drawing", drawing)
    rule = VERIFIERS.create("rejection")
    parts = Speculation(target, drafter, FixedGamma(2), rule, PLAIN)
    made = enumerate_outcomes(lambda rng: tuple(written(parts, SHORT, 3, rng)[0]))
    assert total_variation(made, law(target, 3)) > 0.01


@every_runtime
@pytest.mark.parametrize("sampler", ["multinomial", "nucleus(temperature=0.8, top_p=0.9)"])
def test_a_seed_gives_one_text_however_drafts_are_asked_for(runtime: str, sampler: str) -> None:
    """A stride is drawn in one call; where a policy asks token by token, each is drawn alone."""
    target = target_of(runtime)
    head, drawn = head_for(target, scale=0.6), SAMPLERS.create(sampler)
    runs = [
        written(parts_of(target, head, sampler=drawn, policy=policy), PROMPT, 30, Rng(7))
        for policy in (FixedGamma(3), Slow(3), Listening(3))
    ]
    for text, records in runs[1:]:
        assert text == runs[0][0]
        assert [r.drafted for r in records] == [r.drafted for r in runs[0][1]]


class Slow(FixedGamma):
    """The same lengths, asked for token by token."""

    def stride(self, num_drafted: int) -> int:
        return 1


class Listening(Slow):
    """The same, which wants to hear the logits of each."""

    def admits(self, *_: object) -> None:
        return None


@every_runtime
def test_what_a_head_holds_is_what_a_fresh_one_would_read(runtime: str) -> None:
    """After any drafts and rollbacks its logits are those of a head that is told all at once."""
    target = target_of(runtime)
    head, source = head_for(target, scale=0.5), random.Random(9)
    drafter = HeadDrafter(head, GREEDY)
    parts = Speculation(target, drafter, FixedGamma(4), VERIFIERS.create("rejection"), GREEDY)
    request = Request(target.open(PROMPT), Rng(0), max_new_tokens=60)
    begin(parts, request)
    while not request.finished:
        parts = Speculation(target, drafter, FixedGamma(4), VERIFIERS.create("rejection"), GREEDY)
        step(parts, [request])
        own = request.drafter._context  # type: ignore[union-attr]
        if not own or source.random() < 0.5 or own.length <= len(PROMPT):
            continue
        tokens = request.tokens
        own.rollback_to(min(own.length, request.drafter._begin))  # type: ignore[union-attr]
        features = request.context.features
        held = own.length
        head.tell(own, features.between(held - 1, len(tokens) - 1))
        made = own.extend(tokens[held:])
        own.rollback_to(held)
        fresh = head.open(tokens)
        head.skip_to(fresh, 1)
        head.tell(fresh, features.between(0, len(tokens) - 1))
        again = fresh.extend(tokens[1:])
        finite = made.isfinite()
        assert torch.equal(finite, again.isfinite())
        assert float((made - again)[finite].abs().max()) < 1e-4


@every_runtime
def test_a_later_turn_begins_with_what_was_told(runtime: str) -> None:
    """The head's own guesses of the turn before are read again, with the target's states."""
    target = target_of(runtime)
    head, context = head_for(target, scale=0.5), target.open(PROMPT)
    context.watch(head.layers)
    context.extend(PROMPT[:-1])
    drafter = HeadDrafter(head, GREEDY)
    drafter.start(Beginning(PROMPT, Rng(0), context=context))
    draft = drafter.propose(PROMPT, 4, FixedGamma(4))
    assert len(draft.tokens) == 4
    assert drafter._context is not None
    assert drafter._context.length > len(PROMPT)
    context.extend([PROMPT[-1], *draft.tokens])  # all of them stood
    drafter.start(Beginning([*PROMPT, *draft.tokens, 3], Rng(0), context=context))
    assert drafter._context.length == len(PROMPT)


@every_runtime
def test_texts_in_one_pass_have_features_of_their_own(runtime: str) -> None:
    target = target_of(runtime)
    head = head_for(target)
    prompts = [random_tokens(random.Random(i), 4 + 7 * i) for i in range(3)]
    parts = parts_of(target, head)
    alone = [written(parts, prompt, 20) for prompt in prompts]
    requests = [Request(target.open(p), Rng(0), max_new_tokens=20) for p in prompts]
    for request in requests:
        begin(parts, request)
    drafted = [0] * len(requests)
    while running := [one for one in requests if not one.finished]:
        records = step(parts, running)
        for one, record in zip(running, records, strict=True):
            drafted[requests.index(one)] += len(record.drafted)
    assert [one.output for one in requests] == [text for text, _ in alone]
    if runtime == "compiled":  # to the bit: then drafts are the same ones too
        assert drafted == [sum(len(r.drafted) for r in records) for _, records in alone]


def test_a_text_that_was_read_before_anybody_asked_is_drafted_for_from_there_on() -> None:
    target = target_of("native")
    head = head_for(target)
    alone, _ = written(Speculation.plain(target, GREEDY), PROMPT, 20)
    context = target.open(PROMPT)
    context.extend(PROMPT[:6])
    parts = parts_of(target, head)
    request = Request(context, Rng(0), max_new_tokens=20)
    records = list(speculative_steps(parts, request))
    assert request.output == alone
    assert sum(len(r.drafted) for r in records) > 20
    assert context.features is not None
    assert context.features.begin == 6


def test_without_features_nothing_is_drafted() -> None:
    target = target_of("native")
    parts = parts_of(target, head_for(target))
    request = Request(target.open(PROMPT), Rng(0), max_new_tokens=6)
    begin(parts, request)
    request.context.features = None
    request.is_plain = False
    [record] = step(parts, [request])
    assert record.stopped is DraftStop.UNKNOWN


def test_nothing_is_taken_down_once_nobody_reads_it() -> None:
    target = target_of("native")
    head = HeadDrafter(head_for(target), GREEDY)
    policy, verifier = FixedGamma(2), VERIFIERS.create("rejection")
    context = target.open(PROMPT)
    begin(
        Speculation(target, head, policy, verifier, GREEDY),
        Request(context, Rng(0), max_new_tokens=2),
    )
    assert context.features is not None
    other = DRAFTERS.create("suffix").build(DraftParts(target.vocab_size, None))
    again = Request(context.reopen(PROMPT, ()), Rng(0), max_new_tokens=2)
    begin(Speculation(target, other, policy, verifier, GREEDY), again)
    assert again.context.features is None


def test_a_fork_goes_on_with_what_was_told() -> None:
    target = target_of("native")
    head = head_for(target)
    context = target.open(PROMPT)
    context.watch(head.layers)
    context.extend(PROMPT[:-1])
    other = context.fork()
    other.extend(PROMPT[-1:])
    assert (context.features.end, other.features.end) == (len(PROMPT) - 1, len(PROMPT))
    assert torch.equal(context.features.between(0, 8), other.features.between(0, 8))


def test_a_target_of_another_kind_is_refused() -> None:
    target, other = target_of("native"), target_of("native", hidden_size=48)
    drafter = HeadDrafter(head_for(target), GREEDY)
    assert drafter.accepts(target)
    assert not drafter.accepts(other)
    assert not drafter.accepts(target_of("native", vocab_size=VOCAB + 1))
