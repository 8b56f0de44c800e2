"""The checks find what is wrong, and nothing where nothing is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from foredraft.checks import Finding, Plan, Report, check
from foredraft.checks.mutants import MUTANTS
from foredraft.core import Prompt
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.loading import LoadedModel
from foredraft.models import Context, DecoderOnlyModel, Network, Recomputing, TableModel, Wrapper
from foredraft.models.wrapper import InnerText
from foredraft.zoo.tokenizer import train_tokenizer
from tests.tiny import TEXT_VOCAB, build, noisy, tokenizer

PROMPTS = ("The dog", "one two three one two three one two", "A house by the sea")
SMALL = Plan(
    prompts=PROMPTS,
    samples=3000,
    gamma=2,
    length=12,
    sampler="topk(temperature=1.0, top_k=3)",
    verifiers=("rejection", "block"),
)


def loaded(model: Network, vocabulary: Any = None) -> LoadedModel:
    return LoadedModel("tiny", model, vocabulary or tokenizer(), ())


def engine(target: Network | None = None, drafter: Network | None = None) -> Engine:
    return Engine(
        loaded(target or DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB))),
        loaded(drafter or DecoderOnlyModel(noisy("llama", vocab_size=TEXT_VOCAB))),
    )


def of(report: Report, name: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == name]


class Stale(InnerText):
    """Remembers whether something was forgotten."""

    is_stale = False

    def rollback_to(self, length: int) -> None:
        self.is_stale = self.is_stale or 0 < length < self.length
        super().rollback_to(length)


class Forgetful(Wrapper):
    """A network whose rollback leaves tokens behind that it should have forgotten."""

    def open(self, prompt: Prompt) -> Context:
        context = super().open(prompt)
        context.memory = Stale(context.memory.context)
        return context

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        logits = super().logits(context, tokens, keep)
        return logits.flip(-1) if context.memory.is_stale else logits


def test_a_right_pair_passes_everything() -> None:
    report = check(engine(), SMALL)
    assert report.passed
    assert not report.failed
    assert [f.subject for f in of(report, "cache parity")] == ["target", "drafter"]
    pairs = [f"{method} · {rule}" for method, rule in SMALL.pairs]
    assert [f.subject for f in of(report, "greedy parity")] == pairs
    assert [f.subject for f in report.tests] == pairs
    assert 0.05 < (report.detectable_total_variation or 0) < 0.2


@pytest.mark.parametrize("name", ["redraw", "discard", "break_block", "wrong_q", "wrong_bonus_row"])
def test_a_mutant_is_found_by_its_distribution(name: str) -> None:
    plan = replace(SMALL, mutant=name, methods=("speculative",), samples=4000)
    report = check(engine(), plan)
    (test,) = report.tests
    assert report.failed
    assert test.passed is False
    assert test.subject == f"speculative · mutant {name}"
    figures = test.figures
    assert figures["impossible_texts"] or figures["observed_total_variation"] > 0.03


@pytest.mark.slow
def test_a_mutant_of_one_hot_drafts_is_found_with_ngrams() -> None:
    heard = set(tokenizer()(PROMPTS[1])["input_ids"])  # a model that says what it has heard
    row = [(token in heard) / len(heard) for token in range(len(tokenizer()))]
    parrot = Engine(loaded(TableModel({(): row})))
    plan = replace(SMALL, prompts=PROMPTS[1:2], methods=("ngram",), samples=6000)
    plan = replace(plan, gamma=1, sampler="multinomial")
    assert all(f.passed for f in check(parrot, plan).tests)
    assert [f.passed for f in check(parrot, replace(plan, mutant="soft_one_hot")).tests] == [False]


def test_every_mutant_can_be_asked_for() -> None:
    for name in MUTANTS.names:
        assert Plan(mutant=name).pairs[0] == ("speculative", f"mutant {name}")


def test_a_lossy_verifier_fails_its_distribution() -> None:
    plan = replace(SMALL, verifiers=("rejection_without_residual",), methods=("speculative",))
    report = check(engine(), replace(plan, samples=4000))
    (test,) = report.tests
    assert test.passed is False
    assert "instead of" in test.sentence


def test_a_cache_that_does_not_forget_fails_parity_by_name() -> None:
    broken = Forgetful(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB)))
    report = check(engine(target=broken), replace(SMALL, samples=1))
    caches = {f.subject: f.passed for f in of(report, "cache parity")}
    assert caches == {"target": False, "drafter": True}
    greedy = of(report, "greedy parity")
    assert all(f.passed is False for f in greedy if f.subject.startswith("speculative"))
    assert "bugs" in greedy[0].sentence
    assert greedy[0].figures["differences"][0]["is_near_tie"] is False


def test_a_broken_draft_cache_is_found_although_it_changes_no_text() -> None:
    broken = Forgetful(DecoderOnlyModel(noisy("llama", vocab_size=TEXT_VOCAB)))
    report = check(engine(drafter=broken), replace(SMALL, samples=1))
    assert {f.subject: f.passed for f in of(report, "cache parity")} == {
        "target": True,
        "drafter": False,
    }
    assert all(f.passed for f in of(report, "greedy parity"))


def test_a_difference_within_rounding_is_a_near_tie_and_passes() -> None:
    """A model of low precision whose passes of several tokens round the last digits away."""

    class Coarse(Forgetful):
        def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
            logits = Wrapper.logits(self, context, tokens, keep)
            return (logits * 4).round() / 4 if len(tokens) > 1 else logits

        def rounding(self, logits: Tensor) -> float:
            return 0.25

    coarse = Coarse(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB, initializer_range=0.1)))
    plan = replace(SMALL, samples=1, length=30, methods=("speculative",), verifiers=("rejection",))
    (found,) = of(check(engine(target=coarse), plan), "greedy parity")
    assert found.passed
    assert found.figures["differences"], "no difference: the test shows nothing"
    assert all(d["is_near_tie"] for d in found.figures["differences"])
    assert "near-tie up to 0.5" in found.sentence


@pytest.mark.slow
def test_a_drafter_with_another_tokenizer_is_checked_like_any_other() -> None:
    right = engine()
    assert right.drafter is not None
    columns = right.drafter.model.vocab_size
    other = train_tokenizer(["quite another text, with words of its own"], columns)
    mixed = Engine(right.target, replace(right.drafter, tokenizer=other))
    report = check(mixed, SMALL)
    (vocabulary,) = of(report, "vocabulary")
    assert vocabulary.passed is True
    assert "other tokenizers, " in vocabulary.sentence
    assert not report.failed
    assert {finding.subject for finding in of(report, "cache parity")} == {"target", "drafter"}


def test_too_few_samples_are_undecided_neither_passed_nor_failed() -> None:
    report = check(engine(), replace(SMALL, samples=5, methods=("ngram",)))
    assert [f.passed for f in report.tests] == [None, None]
    assert report.detectable_total_variation is None
    assert not report.passed
    assert not report.failed


@pytest.mark.parametrize("after", [0, 3, 40])
def test_an_interrupt_keeps_what_was_found(after: int) -> None:
    calls = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal calls
        assert 0 <= done <= total
        calls += 1
        if calls == after + 1:
            raise KeyboardInterrupt

    report = check(engine(), SMALL, progress)
    assert report.interrupted
    assert not report.passed
    assert not report.failed
    assert of(report, "vocabulary")
    if after == 40:
        assert report.tests[-1].figures["samples"] < SMALL.samples
        assert of(report, "greedy parity")


def test_without_a_cache_and_without_a_drafter_the_rest_is_checked() -> None:
    alone = Engine(loaded(Recomputing(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB)))))
    report = check(alone, replace(SMALL, methods=("ngram",)))
    assert report.passed
    assert report.drafter is None
    assert "no draft model" in of(report, "vocabulary")[0].sentence


def test_what_needs_a_draft_model_is_refused_without_one() -> None:
    alone = Engine(loaded(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB))))
    with pytest.raises(ConfigError, match="need a draft model"):
        check(alone, SMALL)


def test_a_drafter_too_small_for_every_prompt_is_no_pass() -> None:
    short = DecoderOnlyModel(noisy("llama", vocab_size=TEXT_VOCAB))
    short.max_length = 2
    report = check(engine(drafter=short), replace(SMALL, samples=1))
    caches = {f.subject: f.passed for f in of(report, "cache parity")}
    assert caches == {"target": True, "drafter": None}


def test_a_wide_law_is_not_searched_for_cells_that_it_cannot_fill() -> None:
    row = [1 / TEXT_VOCAB] * TEXT_VOCAB
    asked: list[tuple[int, ...]] = []

    def flat(tokens: tuple[int, ...]) -> list[float]:
        asked.append(tokens)
        return row

    plan = replace(
        SMALL,
        sampler="multinomial(temperature=1.0)",
        methods=("ngram",),
        verifiers=("rejection",),
        samples=20,
        gamma=5,
    )
    (test,) = check(Engine(loaded(TableModel(flat))), plan).tests
    assert test.passed is None
    assert len(asked) < 5000


def test_a_prompt_at_the_end_of_the_context_is_no_failure() -> None:
    model = DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB))
    room = 2
    model.max_length = len(tokenizer()(PROMPTS[0])["input_ids"]) + room
    plan = replace(SMALL, prompts=PROMPTS[:1], methods=("speculative",))
    assert check(engine(target=model), plan).passed


def test_the_report_is_json() -> None:
    report = check(engine(), replace(SMALL, methods=("egag",), verifiers=("coupled",)))
    read = json.loads(json.dumps(report.to_dict()))
    assert read["passed"] is True
    assert read["plan"]["samples"] == SMALL.samples
    figures = read["findings"][-1]["figures"]
    assert figures["samples"] == SMALL.samples
    assert figures["p_value"] > figures["level"] == SMALL.level


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 0}, r"samples must lie in \[1, 1000000000\], not 0"),
        ({"samples": 2.5}, "samples must be a whole number"),
        ({"gamma": 0}, "gamma must lie in"),
        ({"length": -1}, "length must lie in"),
        ({"level": 0.0}, r"level must lie in \(0, 1\), not 0.0"),
        ({"level": 1.0}, "level must lie in"),
        ({"methods": ("beam",)}, "unknown method 'beam'; legal: speculative, egag, ngram"),
        ({"methods": ()}, "methods must name at least one"),
        ({"verifiers": ("blok",)}, "unknown verifier 'blok'"),
        ({"sampler": "greedy"}, "sampler must draw"),
        ({"mutant": "hulk"}, "unknown mutant 'hulk'"),
        ({"prompts": "hello"}, "prompts must be a tuple of strings, not 'hello'"),
        ({"length": 1}, "length must lie in"),
        ({"seed": 1.5}, "seed must be a whole number in .*, not 1.5"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **change)
