"""Advice: what is measured, what follows, and in which form it is handed on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from foredraft.bench.advice import Advice, Candidate, break_even
from foredraft.bench.advise import advise
from foredraft.bench.timed import Clock, TimedModel
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.loading import LoadedModel, LoadOptions
from foredraft.models import TableModel
from tests.toy_engine import PROMPT, token, tokenizer, toy_drafter, toy_engine, toy_target

PROMPTS = [PROMPT, "Sing"]
EMPTY = {"processor": "a processor", "threads": 2}


def pair(
    draft_seconds: float, drafter: TableModel | None = None, *, alone: bool = False
) -> tuple[Engine, Clock]:
    """Return an engine whose target takes 1 s a pass and 0.01 s a further row."""
    clock, plain = Clock(), toy_engine()
    assert plain.drafter is not None
    target = TimedModel(toy_target(), lambda rows: 1 + 0.01 * (rows - 1), clock)
    timed = TimedModel(drafter or toy_drafter(), lambda calls: draft_seconds * calls, clock)

    def loaded(one: LoadedModel, model: TimedModel) -> LoadedModel:
        return LoadedModel(one.name, model, one.tokenizer, one.eos_token_ids)

    big = loaded(plain.target, target)
    return Engine(big) if alone else Engine(big, loaded(plain.drafter, timed)), clock


def noise() -> TableModel:
    """Return a draft model that always says a word which the target never says."""
    row = [0.0] * len(tokenizer())
    row[token(" upon")] = 1.0
    return TableModel({(): row})


def advice_for(draft_seconds: float, *, alone: bool = False) -> Advice:
    engine, clock = pair(draft_seconds, alone=alone)
    return advise(engine, PROMPTS, length=30, num_speculative_tokens=4, repeats=2, clock=clock)


def test_costs_are_what_the_clock_says() -> None:
    advice = advice_for(0.25)
    assert advice.draft_seconds[1] == pytest.approx(0.25)
    assert advice.draft_seconds[4] == pytest.approx(1.0)
    assert advice.verify_seconds[0] == pytest.approx(1.0)
    assert advice.verify_seconds[4] == pytest.approx(1.04)


def test_with_a_cheap_drafter_that_is_right_it_recommends_speculation() -> None:
    advice = advice_for(0.05)
    assert advice.pays
    assert advice.gamma >= 3
    assert advice.best.measured_speedup is not None
    assert advice.best.measured_speedup > 2
    assert advice.draft_cost_ratio == pytest.approx(0.05)
    assert advice.break_even == pytest.approx(0.06)
    assert any("Speculation pays" in sentence for sentence in advice.sentences())
    assert not any("ever" in sentence for sentence in advice.sentences())


@pytest.mark.parametrize("draft_seconds", [0.05, 0.25, 1.0])
@pytest.mark.parametrize("alone", [True, False])
def test_what_is_predicted_is_what_the_clock_measures(draft_seconds: float, alone: bool) -> None:
    advice = advice_for(draft_seconds, alone=alone)
    for one in (advice.best, advice.auto):
        assert one.speedup == pytest.approx(one.measured_speedup, rel=0.1)
        assert any(f"{one.speedup:.2f}x predicted" in told for told in advice.sentences())


def test_with_a_drafter_as_large_as_the_target_it_recommends_plain_decoding() -> None:
    advice = advice_for(1.0)
    assert not advice.pays
    assert advice.gamma == 0
    found = advice.to_dict()
    assert found["recommendation"]["method"] == "target"
    assert found["pays"] is found["recommendation"]["pays"] is False
    assert found["num_speculative_tokens_per_batch_size"] == [[1, 1, 0]]
    assert advice.break_even > 1
    assert any("Never with this drafter: drafts cost more" in one for one in advice.sentences())


def test_never_with_a_drafter_of_noise_and_never_here_where_nothing_repeats() -> None:
    engine, clock = pair(0.1, noise())
    advice = advise(engine, [PROMPT], length=12, repeats=2, clock=clock)
    found, told = advice.to_dict(), advice.sentences()
    assert found["recommendation"]["method"] == "target"
    assert found["pays"] is False
    assert advice.break_even > advice.seen == 0
    assert any(one.startswith("Never with this drafter: 11% must be kept, and 0%") for one in told)
    assert told[-1] == "Never here: decode plainly."


def test_without_a_draft_model_retrieval_and_auto_are_weighed() -> None:
    advice = advice_for(0.0, alone=True)
    assert advice.drafter is None
    assert {one.drafting for one in advice.candidates} == {
        *("prompt_lookup", "suffix", "ngram", "auto"),
    }
    assert advice.pays  # a song repeats
    engine, clock = pair(0.0, alone=True)
    never = advise(engine, [PROMPT], length=12, repeats=2, clock=clock)
    assert never.to_dict()["recommendation"]["method"] == "target"
    assert never.sentences()[-1].startswith("Never here: decode plainly (")


def test_an_encoder_decoder_is_advised() -> None:
    options = LoadOptions(device="cpu")
    engine = Engine.load("bundled-seq2seq", "bundled-seq2seq", options=options)
    advice = advise(engine, ["Le chat dort."], length=12, num_speculative_tokens=3, repeats=1)
    assert {"model", "suffix", "auto"} <= {one.drafting for one in advice.candidates}
    assert len(advice.acceptance) == 3
    assert advice.conditional_acceptance_rate > 0


def test_the_rates_for_vllm_never_rise_and_are_as_many_as_its_tokens() -> None:
    found = advice_for(0.05).to_dict()
    rates = found["synthetic_acceptance_rates"]
    assert len(rates) == found["num_speculative_tokens"] == 4
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert all(0 <= rate <= 1 for rate in rates)
    alphas = found["acceptance_by_position"]
    assert rates == pytest.approx(list(itertools.accumulate(alphas, lambda a, b: a * b)))
    assert json.loads(json.dumps(found)) == found


def test_an_alternative_without_a_draft_model_is_named_where_it_is_worth_it() -> None:
    suffix = Candidate("suffix", 4, 2.0, 1.8)
    advice = Advice(
        *("big", "also-big", EMPTY, {1: 1.0}, {0: 1.0}, 1.0, (0.5,), 0.5, [suffix]),
        Candidate("model", 1, 1.5, 0.75, 0.7),
        Candidate("auto", None, 1.0, 0.98, 0.97),
        pays=False,
        alternative=suffix,
    )
    told = advice.sentences()
    assert told[0].endswith("sampler greedy; processor a processor, threads 2.")
    assert told[-2].startswith("Never with this drafter: 100% must be kept, and 50% were")
    assert "suffix at gamma 4 should give 1.80x" in told[-1]
    assert replace(advice, alternative=None).sentences()[-1] == "Never here: decode plainly."


def test_a_draft_model_that_copies_beat_is_not_recommended() -> None:
    advice = advice_for(0.8)  # it pays beside plain decoding, but a song repeats
    copies = advice_for(0.0, alone=True)
    assert advice.best.is_worth_it
    assert advice.best.speedup < copies.best.speedup
    assert not advice.pays
    told = advice.sentences()
    assert told[-2].startswith("Better without this drafter: at best, ")
    assert told[-1].startswith("Without a draft model, ")


def test_what_must_be_kept_is_what_a_draft_costs() -> None:
    assert break_even(lambda k: 0.3 * k, lambda k: 1.0, (1, 2)) == pytest.approx(0.3)
    assert break_even(lambda k: 0.75, lambda k: 1.0, (1, 2)) == pytest.approx(0.5)  # a + a² = 0.75
    assert break_even(lambda k: 2.0 * k, lambda k: 1.0, (1, 2)) == pytest.approx(2.0)
    assert break_even(lambda k: 0.0, lambda k: 1.0, (1,)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: advise(toy_engine(), PROMPTS, length=0), "length"),
        (lambda: advise(toy_engine(), PROMPTS, num_speculative_tokens=0), "K must"),
        (lambda: advise(toy_engine(), PROMPTS, repeats=0), "repeats"),
    ],
)
def test_what_cannot_be_measured_is_refused(make: Callable[[], Advice], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
