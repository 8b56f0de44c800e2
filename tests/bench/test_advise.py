"""Advice: what is measured, what follows, and in which form it is handed on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from foredraft.bench.advise import Advice, Candidate, advise
from foredraft.bench.recordings import Recording
from foredraft.bench.replay import Clock, CostTable, TimedModel
from foredraft.bench.timing import measure_costs
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.loading import LoadedModel
from tests.toy_engine import PROMPT, toy_drafter, toy_engine, toy_target

PROMPTS = [PROMPT, "Sing"]


class Ticking(TimedModel):
    """A table whose passes take time by a clock that nothing else moves."""


def pair(draft_seconds: float) -> tuple[Engine, Clock]:
    """Return an engine whose target takes 1 s a pass and 0.01 s a further row."""
    clock, plain = Clock(), toy_engine()
    assert plain.drafter is not None
    target = Ticking(toy_target(), 1.0, 0.01, clock)
    drafter = Ticking(toy_drafter(), draft_seconds, 0.0, clock)

    def loaded(one: LoadedModel, model: Ticking) -> LoadedModel:
        return LoadedModel(one.name, model, one.tokenizer, one.eos_token_ids)

    return Engine(loaded(plain.target, target), loaded(plain.drafter, drafter)), clock


def advice_for(draft_seconds: float) -> Advice:
    engine, clock = pair(draft_seconds)
    return advise(engine, PROMPTS, length=30, num_speculative_tokens=4, repeats=2, clock=clock)


def test_costs_are_what_the_clock_says() -> None:
    engine, clock = pair(0.25)
    assert engine.drafter is not None
    recording = Recording(engine.encode("Sing"), [1] * 20, 20)
    costs, medians = measure_costs(engine.target.model, engine.drafter.model, recording, 3, clock)
    found = [costs.draft, costs.verify, costs.verify_token, costs.draft_token]
    assert found == pytest.approx([0.25, 1.0, 0.01, 0.25])
    assert medians[4] == pytest.approx(1.04)


def test_with_a_cheap_drafter_that_is_right_it_recommends_speculation() -> None:
    advice = advice_for(0.05)
    assert advice.pays
    assert advice.gamma >= 3
    assert advice.measured_speedup > 2
    assert advice.draft_cost_ratio == pytest.approx(0.05)
    assert advice.break_even == pytest.approx(0.06)
    assert any("Speculation pays" in sentence for sentence in advice.sentences())


def test_with_a_drafter_as_large_as_the_target_it_recommends_plain_decoding() -> None:
    advice = advice_for(1.0)
    assert not advice.pays
    assert advice.gamma == 0
    found = advice.to_dict()
    assert found["recommendation"]["method"] == "target"
    assert found["num_speculative_tokens_per_batch_size"] == [[1, 1, 0]]
    assert any("Decode plainly" in sentence for sentence in advice.sentences())


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
        "big",
        "also-big",
        CostTable(1.0, 1.0, 0.0),
        {0: 1.0},
        (0.5,),
        0.5,
        [suffix],
        Candidate("model", 1, 1.5, 0.75),
        0.7,
        pays=False,
        alternative=suffix,
    )
    assert "suffix at gamma 4 should give 1.80x" in advice.sentences()[-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: advise(toy_engine(alone=True), PROMPTS), "needs? a draft model|draft model"),
        (lambda: advise(toy_engine(), PROMPTS, length=0), "length"),
        (lambda: advise(toy_engine(), PROMPTS, num_speculative_tokens=0), "K must"),
    ],
)
def test_what_cannot_be_measured_is_refused(make: Callable[[], Advice], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
