"""Drafters with another tokenizer: exact by enumeration, greedy as plain decoding, well-behaved."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from foredraft.choices import Dense
from foredraft.config import DecodingConfig
from foredraft.core import Draft, DraftStop
from foredraft.decoding import Request, Speculation, autoregressive_steps, speculative_steps
from foredraft.drafting import (
    DRAFTERS,
    Drafter,
    DraftParts,
    IntersectionDrafter,
    RetokenizedDrafter,
    neural_parts,
)
from foredraft.drafting.base import Beginning
from foredraft.engine import Engine
from foredraft.errors import ConfigError, VocabularyMismatch
from foredraft.gamma import FixedGamma, GammaPolicy
from foredraft.loading import LoadedModel
from foredraft.models import Context, DecoderOnlyModel, TableModel
from foredraft.models.translated import Intersected
from foredraft.sampling import SAMPLERS, GreedySampler, MultinomialSampler, Rng, Sampler
from foredraft.translation import Translation
from foredraft.verification import VERIFIERS, RejectionVerifier, Verifier
from tests.blocks import SAMPLER_SPECS
from tests.doubles import CountingTable, ScriptedPolicy, Table, WhimsicalPolicy, random_table
from tests.enumeration import emitted_distribution, target_distribution, total_variation
from tests.tiny import build
from tests.tongues import byte_level, letters, of_letters, sentence_piece, with_added

EXACT = 1e-12
PLAIN, GREEDY = MultinomialSampler(), GreedySampler()
AB, BA = ("a", "b", "ab"), ("b", "a", "ba")
SPOKEN = letters(AB, (*BA, "c"), end=True)  # the drafter has a letter and an end of its own
DRAFTER_VOCAB = 5
PROMPT = [0, 2, 1]
LOSSLESS = [v for v in map(VERIFIERS.create, VERIFIERS.names) if v.is_lossless]
every_verifier = pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
WAYS = ("retokenized", "intersection")
every_way = pytest.mark.parametrize("way", WAYS)


def drafter_for(
    way: str,
    table: Table | TableModel,
    sampler: Sampler = PLAIN,
    translation: Translation = SPOKEN,
    vocab_size: int = 3,
) -> Drafter:
    model = table if isinstance(table, TableModel) else TableModel(table)
    parts = neural_parts(vocab_size, model, sampler, translation, is_foreign=True)
    return DRAFTERS.create(way).build(parts)


def bias(
    way: str,
    verifier: Verifier,
    policy: GammaPolicy,
    *,
    length: int,
    sampler: Sampler = PLAIN,
    seed: int = 1,
    eos: tuple[int, ...] = (),
) -> float:
    """Return the total variation between the loop's texts and the target's own."""
    target = TableModel(random_table(3, seed=seed))
    drafter = drafter_for(way, random_table(DRAFTER_VOCAB, seed=seed + 1), sampler)
    parts = Speculation(target, drafter, policy, verifier, sampler, False)
    emitted = emitted_distribution(parts, PROMPT, length, eos)
    return total_variation(emitted, target_distribution(target, sampler, PROMPT, length, eos))


@every_verifier
@every_way
@pytest.mark.parametrize("sampler", SAMPLER_SPECS)
@pytest.mark.parametrize("gamma", [1, 2])
def test_the_loop_has_exactly_the_target_distribution(
    way: str, verifier: Verifier, gamma: int, sampler: str
) -> None:
    rule = SAMPLERS.create(sampler)
    assert bias(way, verifier, FixedGamma(gamma), length=3, sampler=rule) < EXACT


@every_verifier
@every_way
@pytest.mark.parametrize(
    "policy",
    [ScriptedPolicy(3, before=1), ScriptedPolicy(3, after=1), WhimsicalPolicy(3, seed=2)],
    ids=["before", "after", "random"],
)
def test_no_policy_biases_it(way: str, verifier: Verifier, policy: GammaPolicy) -> None:
    assert bias(way, verifier, policy, length=3, seed=5) < EXACT


@every_verifier
@every_way
def test_an_end_token_cuts_the_text_and_changes_no_probability(
    way: str, verifier: Verifier
) -> None:
    assert bias(way, verifier, FixedGamma(2), length=3, seed=9, eos=(1,)) < EXACT


@every_verifier
def test_a_draft_model_that_runs_out_of_positions_changes_no_probability(
    verifier: Verifier,
) -> None:
    target = TableModel(random_table(3, seed=3))
    for way, positions in itertools.product(WAYS, range(3, 7)):
        small = TableModel(random_table(DRAFTER_VOCAB, seed=4), max_length=positions)
        parts = Speculation(target, drafter_for(way, small), FixedGamma(3), verifier, PLAIN, False)
        emitted = emitted_distribution(parts, PROMPT, 3)
        expected = target_distribution(target, PLAIN, PROMPT, 3)
        assert total_variation(emitted, expected) < EXACT


def test_another_q_than_the_one_drawn_from_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law can fail: q that is not renormalised over the intersection biases the text."""
    original = Dense.probabilities

    def halved(choices: Dense, tokens: Sequence[int]) -> list[float]:
        known = original(choices, tokens)
        return [q / 2 for q in known] if float(choices.probs[0, 2]) == 0 else known

    monkeypatch.setattr(Dense, "probabilities", halved)
    assert bias("intersection", RejectionVerifier(), FixedGamma(2), length=3) > 0.01


# --- what is drafted ------------------------------------------------------------------------------


def started(drafter: Drafter, prompt: list[int]) -> Drafter:
    drafter.start(Beginning(prompt, Rng(0)))
    return drafter


def saying(*script: int, vocab: int = DRAFTER_VOCAB, begin: int = 0) -> CountingTable:
    """Return a draft model that says a script behind `begin` tokens, then its letter c."""

    def row(tokens: tuple[int, ...]) -> list[float]:
        at = len(tokens) - begin
        said = script[at] if 0 <= at < len(script) else 3
        return [float(token == said) for token in range(vocab)]

    return CountingTable(row)


def propose(drafter: Drafter, tokens: list[int], gamma: int = 4) -> Draft:
    return drafter.propose(tokens, gamma, FixedGamma(gamma))


def test_text_is_cut_into_the_targets_tokens() -> None:
    # "a ab" is read as a, a, b by one letter each; what is said is b a b a b a …
    model = saying(2, 2, 2, 2, 2, 2, begin=3)
    drafter = started(drafter_for("retokenized", model), [0, 2])
    draft = propose(drafter, [0, 2], 2)
    assert draft.tokens == [1, 2]  # b, ab: of "bababa"
    assert draft.drawn_from is None
    assert draft.num_calls >= 2
    assert draft.num_read == 3


def test_what_the_target_cannot_say_ends_a_draft() -> None:
    model = saying(1, 3, 1, begin=1)  # a c a
    draft = propose(started(drafter_for("retokenized", model), [1]), [1])
    assert draft.tokens == [0]
    assert draft.stopped is None


def test_the_drafters_own_end_ends_a_draft_and_is_not_drafted() -> None:
    model = saying(1, 4, 1, begin=1)  # a </s>
    draft = propose(started(drafter_for("retokenized", model), [1]), [1])
    assert draft.tokens == [0]


def test_the_intersection_alone_is_drafted_and_q_is_renormalised() -> None:
    model = TableModel({(): [0.1, 0.3, 0.2, 0.3, 0.1]})  # b a ba c </s>
    draft = propose(started(drafter_for("intersection", model), [0]), [0], 3)
    assert draft.drawn_from is not None
    probs = draft.drawn_from.dense(torch.zeros(1, 3, dtype=torch.float64))
    assert probs.tolist() == [pytest.approx([0.75, 0.25, 0.0])] * 3


def test_with_one_tokenizer_the_intersection_is_everything() -> None:
    same = letters(AB, AB)
    row = [0.2, 0.5, 0.3]
    model = Intersected(TableModel({(): row}), same, 3)
    logits = model.open([0]).extend([0])
    assert logits.softmax(-1).tolist() == [pytest.approx(row)]


def test_rejected_text_is_forgotten_and_the_rest_is_not_read_again() -> None:
    model = saying(*([1, 0] * 12), begin=1)  # a b a b …
    drafter = started(drafter_for("retokenized", model, GREEDY), [1])
    draft = propose(drafter, [1], 4)
    fed = sum(map(len, model.fed))
    assert draft.tokens == [2, 2, 2, 2]
    tokens = [1, *draft.tokens[:2], 0]
    propose(drafter, tokens, 2)
    assert sum(map(len, model.fed[1:])) < fed + len(tokens) + 12
    assert model.held[:3] == [2, 2, 2]  # the text is "bababa", whoever cuts it how


class Full(TableModel):
    """A table that is never asked beyond its positions."""

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        assert context.length + len(tokens) <= self.max_length
        return super().logits(context, tokens, keep)


@every_way
def test_a_text_that_the_draft_model_cannot_hold_is_not_drafted_for(way: str) -> None:
    model = Full({(): [0.2, 0.2, 0.2, 0.2, 0.2]}, max_length=6)
    drafter = started(drafter_for(way, model), [0])
    lengths = []
    for length in range(1, 12):
        draft = propose(drafter, [0] * length, 3)
        lengths.append(len(draft.tokens))
        if not draft.tokens:
            assert draft.stopped is DraftStop.CONTEXT
    assert lengths[0] > 0
    assert lengths[7:] == [0] * 4


@every_way
def test_a_prompt_that_the_draft_model_cannot_hold_is_no_error(way: str) -> None:
    model = Full({(): [0.2, 0.2, 0.2, 0.2, 0.2]}, max_length=4)
    drafter = started(drafter_for(way, model), [0] * 20)
    assert propose(drafter, [0] * 20).tokens == []
    drafter.start(Beginning([0], Rng(0)))
    assert propose(drafter, [0], 1).stopped is not DraftStop.CONTEXT


@every_way
def test_a_text_begun_again_keeps_what_both_begin_with(way: str) -> None:
    model = CountingTable(random_table(DRAFTER_VOCAB, seed=1))
    drafter = started(drafter_for(way, model, GREEDY), [0, 1, 1, 0, 0])
    propose(drafter, [0, 1, 1, 0, 0])
    before = sum(map(len, model.fed))
    drafter.start(Beginning([0, 1, 1, 0, 1], Rng(0)))
    model.fed.clear()
    propose(drafter, [0, 1, 1, 0, 1])
    assert before >= 5
    assert len(model.fed[0]) <= 2


def test_the_way_follows_how_much_is_shared() -> None:
    table = TableModel(random_table(DRAFTER_VOCAB, seed=1))

    def kind(sampler: Sampler, translation: Translation) -> type[Drafter]:
        return type(neural_parts(3, table, sampler, translation, is_foreign=True).neural)

    mostly = letters(AB, (*AB, "c"))
    for sampler in (GREEDY, PLAIN):
        assert kind(sampler, mostly) is IntersectionDrafter
        assert kind(sampler, letters(AB, ("c", "d", "a", "cd"))) is RetokenizedDrafter


def test_a_drafter_is_asked_whether_it_accepts_a_target() -> None:
    three, four = TableModel({(): [1 / 3] * 3}), TableModel({(): [0.25] * 4})
    for spec in (*WAYS, "model", "hybrid(suffix, intersection)", "auto", "bandit(model, suffix)"):
        drafter = drafter_for(spec, random_table(DRAFTER_VOCAB, seed=1))
        assert drafter.accepts(three)
        assert not drafter.accepts(four)
    nothing = letters(AB, ("c", "d", "cd"))
    assert not drafter_for("intersection", random_table(3, 1), translation=nothing).accepts(three)
    assert drafter_for("retokenized", random_table(3, 1), translation=nothing).accepts(three)


def loaded(name: str, table: Table, vocabulary: Sequence[str]) -> LoadedModel:
    return LoadedModel(name, TableModel(table), of_letters(vocabulary), ())


def test_an_engine_refuses_what_does_not_accept_its_target() -> None:
    target = loaded("t", random_table(3, seed=1), AB)
    stranger = Engine(target, loaded("d", random_table(3, seed=2), ("c", "d", "cd")))
    with pytest.raises(VocabularyMismatch, match="no token is spelled alike; choose retokenized"):
        stranger.speculation("speculative", DecodingConfig(drafting="intersection"))
    parts = stranger.speculation("speculative", DecodingConfig())
    assert isinstance(parts.drafter, RetokenizedDrafter)
    wide = Engine(target, loaded("d", random_table(4, seed=2), AB))
    with pytest.raises(VocabularyMismatch, match="one tokenizer, but 4 and 3 columns"):
        wide.speculation("speculative", DecodingConfig())


@every_way
def test_without_a_draft_model_there_is_nothing_to_draft_with(way: str) -> None:
    with pytest.raises(ConfigError, match="needs a draft model"):
        DRAFTERS.create(way).build(DraftParts(3))


# --- networks -------------------------------------------------------------------------------------

TOKENIZERS = {
    "bytes": byte_level(300),
    "more-bytes": byte_level(420),
    "added": with_added(),
    "sentence-piece": sentence_piece(),
}
TEXT = "The quick brown fox é😀 jumps"


@every_way
@pytest.mark.parametrize("gamma", [2, 8, pytest.param(48, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "pair", [(a, b) for a in TOKENIZERS for b in TOKENIZERS if a != b], ids="→".join
)
def test_greedy_text_is_that_of_plain_decoding(way: str, gamma: int, pair: tuple[str, str]) -> None:
    tokenizers = [TOKENIZERS[name] for name in pair]
    target, draft_model = (
        DecoderOnlyModel(build("llama:native" if i else "llama", vocab_size=len(tokenizer)))
        for i, tokenizer in enumerate(tokenizers)
    )
    prompt = tokenizers[0](TEXT)["input_ids"]
    request = Request(target.open(prompt), Rng(0), max_new_tokens=60)
    for _ in autoregressive_steps(request, GREEDY):
        pass
    parts = neural_parts(
        target.vocab_size, draft_model, GREEDY, Translation(*tokenizers), is_foreign=True
    )
    drafter = DRAFTERS.create(way).build(parts)
    ours = Request(target.open(prompt), Rng(0), max_new_tokens=60)
    loop = Speculation(target, drafter, FixedGamma(gamma), RejectionVerifier(), GREEDY, False)
    records = list(speculative_steps(loop, ours))
    assert ours.output == request.output
    assert sum(len(record.drafted) for record in records) > 0
