"""Encoder–decoder models: read once, forget only what was said; the loop knows nothing of it."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
import transformers

from foredraft.core import Prompt, StepRecord
from foredraft.decoding import (
    BeamSettings,
    Request,
    Speculation,
    beam_search,
    speculative_steps,
)
from foredraft.drafting import DraftModelDrafter, NgramDrafter, NGramStorage
from foredraft.drafting.base import Beginning
from foredraft.errors import ContextOverflow, ModelError, RequestError
from foredraft.gamma import EntropyGamma, FixedGamma
from foredraft.loading import fit_drafter, fit_target
from foredraft.models import EncoderDecoderModel, Feed, Network, Recomputing
from foredraft.sampling import MultinomialSampler, Rng, rng_for
from foredraft.tracing import summarize
from foredraft.verification import VERIFIERS
from tests.readers import GREEDY, LENGTH, begun, plain, prompt_of
from tests.texts import first_pass
from tests.tiny import SEQ2SEQ, VOCAB, Witness, assert_same_logits, build, full_logits, noisy

every_architecture = pytest.mark.parametrize("name", SEQ2SEQ)
with_and_without_cache = pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])
LOSSLESS = [name for name in VERIFIERS.names if VERIFIERS.get(name).is_lossless]


def adapter_of(name: str) -> Network:
    return fit_target(build(name), build(name).runtime)


def drafter_for(name: str, target: Network, cached: bool) -> DraftModelDrafter:
    model = fit_drafter(noisy(name, noise=0.08), target, build(name).runtime)
    return DraftModelDrafter(model if cached else Recomputing(model), GREEDY)


# --- the memory law -------------------------------------------------------------------------------


@with_and_without_cache
@every_architecture
def test_logits_equal_a_fresh_pass_after_any_extend_and_rollback(name: str, cached: bool) -> None:
    source = random.Random(f"{name} walk")
    inner = adapter_of(name)
    model = Witness(build(name), inner if cached else Recomputing(inner))
    for seed in range(3):
        text = model.open(prompt_of(name, seed, length=5 + 4 * seed))
        assert text.length == 0
        text.extend(text.begin, keep=len(text.begin))
        for _ in range(12):
            new = [source.randrange(1, VOCAB) for _ in range(source.randint(1, 4))]
            text.extend(new, keep=source.randint(1, len(new)))
            if source.random() < 0.5:
                text.rollback_to(source.randint(max(0, text.length - 6), text.length))


@every_architecture
def test_what_is_said_depends_on_what_was_read(name: str) -> None:
    model = adapter_of(name)
    first = first_pass(model, prompt_of(name, 0))
    second = first_pass(model, prompt_of(name, 1))  # in the memory of the first
    assert not torch.allclose(first, second, atol=1e-2)
    assert torch.equal(first_pass(model, prompt_of(name, 0)), first)


@with_and_without_cache
@every_architecture
def test_forks_equal_independent_full_passes(name: str, cached: bool) -> None:
    source = random.Random(f"{name} beams")
    reference, inner = build(name), adapter_of(name)
    model = inner if cached else Recomputing(inner)
    prompt = prompt_of(name)
    for _ in range(2):  # the second time in memories of the first
        texts = [model.open(prompt)]
        texts[0].extend(texts[0].begin)
        held = [texts[0].begin]
        for width in (3, 4, 2, 3, 1):
            parents = [source.randrange(len(held)) for _ in range(width)]
            tokens = [source.randrange(1, VOCAB) for _ in range(width)]
            texts = [texts[p].fork() for p in parents]
            held = [[*held[p], t] for p, t in zip(parents, tokens, strict=True)]
            outputs = model.forward([Feed(c, [t]) for c, t in zip(texts, tokens, strict=True)])
            rows = [full_logits(reference, tokens, prompt)[-1] for tokens in held]
            assert_same_logits(torch.cat([o.logits for o in outputs]), torch.stack(rows))


@with_and_without_cache
@pytest.mark.parametrize("has_read", [False, True], ids=["unread", "read"])
@every_architecture
def test_a_fork_and_its_parent_go_their_own_ways(name: str, has_read: bool, cached: bool) -> None:
    inner = adapter_of(name)
    model = Witness(build(name), inner if cached else Recomputing(inner))
    parent = model.open(prompt_of(name, 0))
    if has_read:
        parent.extend(parent.begin)
    fork = parent.fork()
    other = model.open(prompt_of(name, 1))  # which the encoder reads last
    other.extend(other.begin)
    for text in (parent, fork) if not has_read else ():
        text.extend(text.begin)
    parent.extend([11, 12], keep=2)
    fork.extend([13, 14, 15], keep=3)
    parent.rollback_to(0)
    fork.extend([16])
    parent.extend([*parent.begin, 17], keep=1)
    parent.close()
    model.open(prompt_of(name, 2)).extend(parent.begin)  # in the memory that was given back
    fork.extend([18])
    other.extend([19])


# --- against transformers' own generate -----------------------------------------------------------


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("name", ["t5", "t5:native", "bart", "marian"])
def test_the_output_is_that_of_the_models_own_generate(name: str, num_beams: int) -> None:
    prompt = prompt_of(name, 3)
    theirs = build(name).generate(
        torch.tensor([prompt]),
        max_new_tokens=LENGTH,
        min_new_tokens=LENGTH if num_beams > 1 else None,
        num_beams=num_beams,
        do_sample=False,
        length_penalty=0.0,
    )[0, 1:]
    if num_beams == 1:
        ours = plain(name, prompt)
        assert ours[: len(theirs)] == theirs.tolist()
        return
    model = adapter_of(name)
    settings = BeamSettings(num_beams, top_k=2 * num_beams, alpha=0.0)
    best = beam_search(Request(model.open(prompt), Rng(0), max_new_tokens=LENGTH), settings)
    own, hidden = score(name, prompt, best.tokens), score(name, prompt, theirs.tolist())
    assert own >= hidden - 1e-3  # theirs may not say the end token, ours may


def score(name: str, prompt: Prompt, tokens: Any) -> float:
    """Return the log-probability of an output."""
    begin = adapter_of(name).open(prompt).begin
    logits = full_logits(build(name), [*begin, *tokens], prompt)[len(begin) - 1 : -1]
    return float(logits.log_softmax(-1)[range(len(tokens)), list(tokens)].sum())


# --- speculation ----------------------------------------------------------------------------------


@with_and_without_cache
@pytest.mark.parametrize("verifier", LOSSLESS)
@every_architecture
def test_greedy_speculation_says_what_plain_decoding_says(
    name: str, verifier: str, cached: bool
) -> None:
    rule, records = VERIFIERS.create(verifier), list[StepRecord]()
    for seed, policy in enumerate((FixedGamma(4), EntropyGamma(1, 5, 0.5), FixedGamma(1))):
        prompt = prompt_of(name, seed)
        inner = adapter_of(name)
        target = Witness(build(name), inner if cached else Recomputing(inner))
        drafter = drafter_for(name, inner, cached)
        parts = Speculation(target, drafter, policy, rule, GREEDY, first_target=bool(seed % 2))
        request = begun(target, prompt, rng=rng_for(0, keyed=rule.is_coupled))
        for record in speculative_steps(parts, request):
            assert request.context.length == request.length - 1
            records.append(record)
        assert request.output == plain(name, prompt)
    rate = summarize(records).acceptance_rate
    assert rate is not None
    assert 0.03 < rate < 0.97  # acceptance was partial: rollback has been exercised


@pytest.mark.parametrize("name", ["t5", "t5:native", "bart"])
def test_coupled_speculation_says_what_the_seed_says(name: str) -> None:
    sampler, rule = MultinomialSampler(temperature=1.3), VERIFIERS.create("coupled")
    for seed in range(4):
        prompt = prompt_of(name, seed)
        expected = plain(name, prompt, sampler, rng_for(seed, keyed=True))
        target = adapter_of(name)
        draft_model = fit_drafter(noisy(name, noise=0.08), target, build(name).runtime)
        drafters = (
            DraftModelDrafter(draft_model, sampler),
            NgramDrafter(NGramStorage(3, VOCAB)),
        )
        for drafter in drafters:
            request = begun(target, prompt, rng=rng_for(seed, keyed=True))
            parts = Speculation(target, drafter, FixedGamma(3), rule, sampler)
            for _ in speculative_steps(parts, request):
                pass
            assert request.output == expected


def test_an_n_gram_of_the_encoders_input_is_drafted() -> None:
    storage = NGramStorage(3, VOCAB)
    drafter = NgramDrafter(storage, stop_if_unknown=True)
    drafter.start(Beginning([20, 21, 22, 23], Rng(0)))
    draft = drafter.propose([2, 20, 21], 3, FixedGamma(3))  # the decoder's own start, then a copy
    assert draft.tokens == [22, 23]


def test_an_input_token_the_decoder_cannot_say_is_never_drafted() -> None:
    drafter = NgramDrafter(NGramStorage(2, vocab_size=50), stop_if_unknown=True)
    drafter.start(Beginning([7, 60, 7, 8], Rng(0)))
    assert drafter.propose([7], 2, FixedGamma(2)).tokens == [8]


# --- how a sequence begins, and what is never said ------------------------------------------------


@pytest.mark.parametrize(
    ("name", "begin"), [("t5", [2]), ("marian", [0]), ("mbart", [2, 5]), ("m2m_100", [2, 7])]
)
def test_the_start_token_and_what_is_forced_after_it_begin_the_sequence(
    name: str, begin: list[int]
) -> None:
    assert adapter_of(name).open(prompt_of(name)).begin == begin


def test_whispers_task_tokens_and_a_start_of_ones_own() -> None:
    model = copy.deepcopy(build("whisper"))
    model.generation_config.forced_decoder_ids = [[1, 30], [2, 31], [4, 33]]  # 3 is free
    assert fit_target(model).open(prompt_of("whisper")).begin == [2, 30, 31]
    own = EncoderDecoderModel(model, decoder_start=[2, 40])
    assert own.open(prompt_of("whisper")).begin == [2, 40]


def test_forbidden_tokens_have_no_probability_the_first_ones_only_at_first() -> None:
    model = copy.deepcopy(build("marian"))
    model.generation_config.bad_words_ids = [[0], [9, 10]]
    model.generation_config.suppress_tokens = [12]
    model.generation_config.begin_suppress_tokens = [13]
    text = fit_target(model).open(prompt_of("marian"))
    logits = text.extend([*text.begin, 20, 21], keep=3)
    never = logits.isneginf().nonzero().tolist()
    assert never == [[0, 0], [0, 12], [0, 13], [1, 0], [1, 12], [2, 0], [2, 12]]
    text.rollback_to(1)
    assert text.extend([20]).isneginf().nonzero().tolist() == [[0, 0], [0, 12]]


def test_a_model_without_a_start_token_is_refused_unless_one_is_given() -> None:
    model = copy.deepcopy(build("t5"))
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id = config.bos_token_id = None
    with pytest.raises(ModelError, match="names no decoder_start_token_id; give decoder_start="):
        fit_target(model)
    assert EncoderDecoderModel(model, decoder_start=[3]).open([5, 6]).begin == [3]


# --- refusals -------------------------------------------------------------------------------------


def test_a_prompt_longer_than_the_encoder_is_refused() -> None:
    model = fit_target(build("bart"))
    with pytest.raises(ContextOverflow, match="97 tokens but the encoder has 96 positions"):
        model.open(prompt_of("bart", length=97))
    assert model.open(prompt_of("bart", length=96)).begin == [2]


def test_an_encoder_and_a_decoder_may_have_positions_of_their_own() -> None:
    model = copy.copy(build("bart"))
    model.config = copy.deepcopy(model.config)
    model.config.max_encoder_position_embeddings = 12  # as LED has them
    model.config.max_decoder_position_embeddings = 20
    adapter = fit_target(model)
    assert adapter.max_length == 20
    with pytest.raises(ContextOverflow, match="13 tokens but the encoder has 12 positions"):
        adapter.open(prompt_of("bart", length=13))


def test_features_and_tokens_are_not_taken_for_each_other() -> None:
    with pytest.raises(RequestError, match="reads features of shape"):
        fit_target(build("whisper")).open([5, 6])
    with pytest.raises(RequestError, match=r"shape \[features, frames\], not \[1, 8, 40\]"):
        fit_target(build("whisper")).open(torch.zeros(1, 8, 40))
    for name in ("bart", "llama"):
        with pytest.raises(RequestError, match="reads token ids"):
            adapter_of(name).open(prompt_of("whisper"))


def test_a_decoder_that_takes_one_token_a_pass_is_refused() -> None:
    config = transformers.ProphetNetConfig(
        hidden_size=16, num_encoder_layers=1, num_decoder_layers=1, vocab_size=VOCAB
    )
    model = transformers.ProphetNetForConditionalGeneration(config)
    with pytest.raises(ModelError, match=r"takes one token a pass .* choose another architecture"):
        fit_target(model)
