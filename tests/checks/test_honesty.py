"""A check that could not look says so: nothing drafted, nothing sampled, no such token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foredraft.checks import Plan, check
from foredraft.checks.report import PROMPTS, SAMPLED_PROMPTS, SENTENCES
from foredraft.engine import Engine
from foredraft.errors import RequestError
from foredraft.loading import LoadedModel, fit_target
from foredraft.models import DecoderOnlyModel, Network, TableModel
from tests.tiny import TEXT_VOCAB, build, noisy, tokenizer

LONG = "The quick brown fox jumps over the lazy dog, and the dog does not mind the fox at all."
PLAN = Plan(
    prompts=("The dog",),
    methods=("speculative",),
    verifiers=("rejection",),
    samples=600,
    gamma=2,
    length=8,
    sampler="topk(temperature=1.0, top_k=3)",
)


def engine(target: Network, drafter: Network | None = None) -> Engine:
    made = [m and LoadedModel("tiny", m, tokenizer(), ()) for m in (target, drafter)]
    assert made[0] is not None
    return Engine(made[0], made[1])


def llama(name: str = "llama", max_length: int | None = None) -> DecoderOnlyModel:
    made = noisy(name, vocab_size=TEXT_VOCAB) if max_length else build(name, vocab_size=TEXT_VOCAB)
    model = DecoderOnlyModel(made)
    model.max_length = max_length or model.max_length
    return model


@pytest.mark.parametrize("prompts", [(LONG,), ("The dog", LONG)])
def test_where_nothing_was_drafted_nothing_has_passed(prompts: tuple[str, ...]) -> None:
    pair = engine(llama(), llama(max_length=10))
    report = check(pair, replace(PLAN, prompts=prompts))
    found = {f.check: f for f in report.findings if f.check in ("greedy parity", "distribution")}
    assert [f.passed for f in found.values()] == [None, None]
    for finding in found.values():
        assert f"nothing was drafted for 1 of the prompts ({LONG!r})" in finding.sentence
        assert (finding.figures["drafted_tokens"] > 0) is (len(prompts) == 2)
    assert not report.passed
    assert not report.failed
    assert check(pair, PLAN).passed


def test_a_mistake_is_a_mistake_though_other_prompts_drafted_nothing() -> None:
    pair = engine(llama(), llama(max_length=10))
    plan = replace(PLAN, prompts=("The dog", LONG), mutant="wrong_bonus_row", samples=3000)
    assert check(pair, plan).failed


def test_a_tokenizer_that_knows_more_than_the_model_fails_and_ends_the_checks() -> None:
    small = engine(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB // 2)))
    report = check(small, replace(PLAN, methods=("ngram",)))
    (finding,) = report.findings
    assert (finding.check, finding.passed) == ("vocabulary", False)
    assert finding.sentence == "the tokenizer knows ids up to 299, the model 0 … 149"
    with pytest.raises(RequestError, match=r"token \d+ is outside the vocabulary 0 … 149"):
        small.generate(LONG, method="target")


def test_a_law_of_one_text_is_no_pass_and_says_what_would_help() -> None:
    certain = engine(TableModel({(): [1.0] + [0.0] * (TEXT_VOCAB - 1)}))
    (finding,) = check(certain, replace(PLAN, methods=("ngram",))).tests
    assert finding.passed is None
    assert "give more, other prompts, or a sampler that leaves more to chance" in finding.sentence


def test_all_prompts_that_were_given_are_sampled_from_and_four_of_ours() -> None:
    model = llama()
    given = tuple(f"The dog {i}" for i in range(6))
    assert replace(PLAN, prompts=given).sampled_for(model) == given
    ours = replace(PLAN, prompts=())
    assert ours.prompts_for(model) == PROMPTS
    assert ours.sampled_for(model) == PROMPTS[:SAMPLED_PROMPTS]
    assert ours.prompts_for(fit_target(build("t5"))) == SENTENCES
    report = check(engine(model), replace(PLAN, prompts=given, methods=("ngram",)))
    assert report.tests[0].figures["prompts"] == len(given)


def test_an_undecided_test_does_not_hide_what_the_others_would_have_found() -> None:
    report = check(engine(llama(), llama(max_length=99)), PLAN)
    undecided = replace(report.tests[0], passed=None)
    undecided.figures["detectable_total_variation"] = None
    both = replace(report, findings=(*report.findings, undecided))
    assert both.tests[-1].passed is None
    with_figures = replace(report.tests[0], figures={"detectable_total_variation": 0.25})
    assert replace(both, findings=(with_figures, undecided)).detectable_total_variation == 0.25
