"""Drafters that copy: which place they copy from, how much, and how sure they are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foredraft.core import DraftStop
from foredraft.decoding import Speculation, speculative_steps
from foredraft.drafting import DRAFTERS, DraftParts, NgramDrafter, NGramStorage, RetrievalDrafter
from foredraft.drafting.base import Beginning
from foredraft.drafting.retrieval import HitRates
from foredraft.errors import BadSpecString, ConfigError
from foredraft.gamma import ConfidenceGamma, FixedGamma
from foredraft.loading import fit_target
from foredraft.sampling import GreedySampler, Rng
from foredraft.verification import RejectionVerifier
from tests.doubles import ScriptedPolicy, repeatable
from tests.readers import begun, plain
from tests.tiny import VOCAB, build

NO_LOGITS = torch.zeros(1, 1)


def retriever(spec: str, prompt: list[int], vocab_size: int = 1000) -> RetrievalDrafter:
    drafter = DRAFTERS.create(spec).build(DraftParts(vocab_size))
    assert isinstance(drafter, RetrievalDrafter)
    drafter.start(Beginning(prompt, Rng(0)))
    return drafter


def lookup_twin(text: list[int], max_ngram: int, count: int) -> list[int]:
    """Return what follows the latest earlier occurrence of the longest n-gram at the end."""
    for n in range(min(max_ngram, len(text)), 0, -1):
        for end in range(len(text) - 1, n - 1, -1):
            if text[end - n : end] == text[-n:]:
                followed = list(text)
                while len(followed) < end + count:
                    followed.append(followed[end + len(followed) - len(text)])
                return followed[end : end + count]
    return []


@repeatable
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 4))
def test_prompt_lookup_copies_what_its_brute_force_twin_copies(
    text: list[int], max_ngram: int
) -> None:
    drafter = retriever(f"prompt_lookup(max_ngram={max_ngram})", text[:1])
    for end in range(1, len(text) + 1):
        found = drafter.retrieve(text[:end], 5)
        assert found.tokens == lookup_twin(text[:end], max_ngram, 5)


def test_the_longest_match_wins_and_of_equals_the_most_recent() -> None:
    text = [1, 2, 3, 40, 7, 2, 3, 50, 7, 2, 3, 60, 9, 1, 2, 3]
    assert retriever("prompt_lookup(max_ngram=3)", text).retrieve(text, 1).tokens == [40]
    assert retriever("prompt_lookup(max_ngram=2)", text).retrieve(text, 1).tokens == [60]
    assert retriever("suffix", text).retrieve(text, 1).tokens == [40]


def test_nothing_is_proposed_where_nothing_matches() -> None:
    for spec in ("prompt_lookup", "suffix", "ngram", "prompt_lookup(min_ngram=2)"):
        draft = retriever(spec, [1, 2, 3]).propose([1, 2, 3], 4, FixedGamma(4))
        assert draft.tokens == []
    assert retriever("prompt_lookup(min_ngram=2)", [1, 2, 1]).retrieve([1, 2, 1], 4).tokens == []
    assert retriever("suffix(min_match=2)", [1, 2, 1]).retrieve([1, 2, 1], 4).tokens == []


def test_a_copy_that_reaches_the_end_goes_on_in_itself() -> None:
    text = [5, 6, 7, 6, 7]
    assert retriever("prompt_lookup", text).retrieve(text, 6).tokens == [6, 7, 6, 7, 6, 7]


def test_a_suffix_draft_is_as_long_as_its_match_allows() -> None:
    text = [1, 2, 3, 4, 5, 6, 9, 1, 2]
    assert retriever("suffix", text).retrieve(text, 8).tokens == [3, 4]
    assert retriever("suffix(factor=2.0)", text).retrieve(text, 8).tokens == [3, 4, 5, 6]
    assert retriever("suffix(factor=0.1)", text).retrieve(text, 8).tokens == [3]


@pytest.mark.parametrize("spec", ["prompt_lookup", "suffix(factor=9.0)"])
def test_an_encoders_input_is_copied_from_and_no_copy_crosses_its_end(spec: str) -> None:
    drafter = retriever(spec, [10, 11, 12, 13])
    assert drafter.retrieve([0, 11], 5).tokens == [12, 13]
    assert drafter.retrieve([0, 11, 12], 1).tokens == [13]
    # The output is newer than the input.
    assert drafter.retrieve([0, 11, 12, 20, 12], 2).tokens == [20, 12]


def test_an_encoder_token_the_decoder_cannot_say_is_not_copied() -> None:
    drafter = retriever("prompt_lookup", [10, 11, 99, 12], vocab_size=50)
    assert drafter.retrieve([0, 10], 5).tokens == [11]


@pytest.mark.parametrize("spec", ["prompt_lookup", "suffix"])
def test_a_tiny_t5_copies_from_what_its_encoder_reads(spec: str) -> None:
    """The encoder is given the output itself; from the second token on, drafts are copies of it."""
    model, sampler = fit_target(build("t5")), GreedySampler()
    prompt = plain("t5", [9, 10, 11, 12], sampler)
    expected = plain("t5", prompt, sampler)
    drafter = DRAFTERS.create(spec).build(DraftParts(VOCAB))
    parts = Speculation(model, drafter, FixedGamma(3), RejectionVerifier(), sampler)
    request = begun(model, prompt)
    records = list(speculative_steps(parts, request))
    assert request.output == expected
    copies = [r.drafted for r in records if r.drafted]
    shared = set(expected[: len(records[0].emitted)]) & set(prompt)
    assert copies if shared else True
    assert request.drafter.text[: len(prompt)] == prompt  # type: ignore[attr-defined]


def test_kept_text_serves_the_next_prompt_and_a_fresh_one_does_not() -> None:
    for spec, expected in (("suffix(keep=True)", [3]), ("suffix", [])):
        drafter = retriever(spec, [1, 2, 3])
        drafter.retrieve([1, 2, 3], 2)
        drafter.start(Beginning([1, 2], Rng(0)))
        assert drafter.retrieve([1, 2], 4).tokens == expected


def test_supposed_tokens_are_continued_and_not_learned() -> None:
    text = [1, 2, 3, 4, 9, 1]
    for spec in ("prompt_lookup", "suffix", "ngram"):
        drafter = retriever(spec, text)
        assert drafter.retrieve(text, 2, [2, 3]).tokens == [4, 9]
        assert drafter.retrieve(text, 1).tokens == [2]


def test_a_match_is_trusted_by_its_length_until_it_has_been_tested() -> None:
    rates = HitRates()
    assert [rates.confidence(n) for n in (1, 3)] == pytest.approx([1 / 2, 3 / 4])
    for hit in (True, True, False):
        rates.count(1, hit)
    assert rates.confidence(1) == pytest.approx((2 + 1) / (3 + 2))
    assert rates.confidence(3) == pytest.approx(3 / 4)


def test_what_was_promised_is_scored_against_what_was_said_drafted_or_not() -> None:
    text = [1, 2, 3, 4, 1]
    drafter = retriever("prompt_lookup", text)
    assert drafter.retrieve(text, 3).tokens == [2, 3, 4]
    before = [drafter.hit_rates.confidence(n) for n in (1, 2, 3)]  # type: ignore[attr-defined]
    drafter.observe([*text, 2, 8], 2, NO_LOGITS)
    after = [drafter.hit_rates.confidence(n) for n in (1, 2, 3)]  # type: ignore[attr-defined]
    assert after[0] > before[0]
    assert after[1] < before[1]
    assert after[2] == before[2]  # beyond the first difference nothing was tested


def test_counts_give_ngrams_their_confidence() -> None:
    storage = NGramStorage(2, vocab_size=10)
    storage.initialize([1, 2, 1, 2, 1, 3])
    assert storage.confidence([1]) == pytest.approx(2 / 4)
    assert storage.confidence([2]) == pytest.approx(2 / 3)
    assert storage.confidence([9]) == pytest.approx(1 / 10)


def test_ngram_drafts_stop_early_when_the_counts_are_unsure() -> None:
    prompt = [1, 2, 1, 2, 1, 3]
    for least, drafted in ((0.0, [2, 1, 2]), (0.3, [2, 1]), (0.5, [2]), (0.6, [])):
        drafter = NgramDrafter(NGramStorage(2, vocab_size=10), min_confidence=least)
        drafter.start(Beginning(prompt, Rng(0)))
        draft = drafter.propose([*prompt[:-1]], 3, FixedGamma(3))
        assert draft.tokens == drafted


def test_a_policy_hears_of_counted_tokens_too() -> None:
    text = [1, 2, 3, 4, 5, 1]
    drafter = retriever("prompt_lookup", text)
    assert drafter.propose(text, 4, ScriptedPolicy(4, before=2)).tokens == [2, 3]
    cut = drafter.propose(text, 4, ScriptedPolicy(4, after=3))
    assert (cut.tokens, cut.stopped) == ([2, 3, 4], DraftStop.POLICY)
    assert drafter.propose(text, 4, ConfidenceGamma(threshold=0.6)).tokens == [2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("prompt_lookup(max_ngram=0)", r"max_ngram must lie in \[1, 64\], not 0"),
        ("prompt_lookup(min_ngram=4)", r"min_ngram must lie in \[1, 3\], not 4"),
        ("suffix(factor=0)", r"factor must lie in \(0, 1000\], not 0"),
        ("suffix(max_tokens=1)", r"max_tokens must lie in \[2, 1000000000\], not 1"),
        ("ngram(n=1)", r"n must lie in \[2, 64\], not 1"),
        ("ngram(storage='basik')", r"unknown storage 'basik' \(did you mean 'basic'"),
        ("ngram(min_confidence=2.0)", r"min_confidence must lie in \[0, 1\], not 2"),
        ("hybrid(model, suffix)", "first must be a drafter that retrieves, not 'model'"),
        ("hybrid(sufix, model)", "unknown drafter 'sufix'"),
        ("bandit(arms=[])", "arms must name at least one drafter"),
    ],
)
def test_a_drafter_that_cannot_be_is_refused_in_words(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DRAFTERS.create(spec)


def test_components_inside_a_component_need_no_quotes() -> None:
    plain_form = DRAFTERS.create("hybrid(suffix(factor=2.0), model)")
    assert plain_form == DRAFTERS.create("hybrid(first='suffix(factor=2.0)', fallback='model')")
    assert DRAFTERS.spec(plain_form) == (
        "hybrid(first=suffix(factor=2.0, min_match=1, keep=False, max_tokens=100000), "
        "fallback=model())"
    )
    arms = DRAFTERS.create("bandit(model, hybrid(ngram, model), hold=2)")
    assert DRAFTERS.create(DRAFTERS.spec(arms)) == arms
    with pytest.raises(BadSpecString, match="write name or name"):
        DRAFTERS.create("hybrid(suffix, model, ngram)")


def test_a_drafter_that_needs_a_draft_model_says_so() -> None:
    for spec in ("model", "hybrid(suffix, model)", "bandit"):
        with pytest.raises(ConfigError, match="needs a draft model"):
            DRAFTERS.create(spec).build(DraftParts(10))
