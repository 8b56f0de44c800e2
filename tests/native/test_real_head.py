"""The bundled head on the real model, where it has been fetched: `pytest -m real`."""

from __future__ import annotations

from functools import cache

import pytest

from foredraft import DecodingConfig, Engine, summarize
from foredraft.models import HeadModel
from foredraft.verification import VERIFIERS
from tests.real_files import real_file

pytestmark = pytest.mark.real
QUESTIONS = ("Why do cats purr?", "What is a black hole?", "Write a limerick about a wizard.")
CONFIG = DecodingConfig(length=96, chat=True, seed=3, gamma=4)


@cache
def engine() -> Engine:
    real_file("smollm2")  # skips where it is missing
    return Engine.load("smollm2")


def test_it_is_found_by_itself() -> None:
    drafter = engine().drafter
    assert drafter is not None
    assert (drafter.name, isinstance(drafter.model, HeadModel)) == ("smollm2-head", True)


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_texts_are_the_models_whoever_drafts_and_however_many(question: str) -> None:
    plain = engine().generate(question, CONFIG, method="target").tokens
    for drafting in ("model", "auto", "hybrid(suffix, model)"):
        for gamma in (1, 4, 12):
            config = CONFIG.replace(drafting=drafting, gamma=gamma)
            assert engine().generate(question, config).tokens == plain
    for verifier in VERIFIERS.names:
        if VERIFIERS.get(verifier).is_lossless:
            assert engine().generate(question, CONFIG.replace(verifier=verifier)).tokens == plain
    egag = CONFIG.replace(egag=True)
    assert engine().generate(question, egag).tokens == plain


def test_many_texts_are_each_the_one_alone() -> None:
    alone = [engine().generate(question, CONFIG).tokens for question in QUESTIONS]
    assert [done.tokens for done in engine().generate_many(QUESTIONS, CONFIG)] == alone


def test_what_it_proposes_stands_more_often_than_not() -> None:
    records = [r for q in QUESTIONS for r in engine().generate(q, CONFIG).records]
    rate = summarize(records).conditional_acceptance_rate
    assert rate is not None
    assert rate > 0.4
