"""SmolLM2 with the bundled drafter, two tokenizers: greedy equality and the distribution test."""

from __future__ import annotations

import pytest

from foredraft.checks import Plan, check
from foredraft.engine import Engine
from foredraft.loading import LoadOptions
from tests.real_files import real_file

PROMPTS = ("Once upon a time there was a little girl who", "Zwölf Boxkämpfer — 日本語 😀")
PLAN = Plan(
    methods=("retokenized", "intersection"),
    verifiers=("rejection", "coupled"),
    prompts=PROMPTS,
    samples=600,
    length=24,
)


@pytest.mark.real
def test_a_real_pair_of_two_tokenizers_is_lossless() -> None:
    real_file("smollm2")
    engine = Engine.load("smollm2", "bundled", options=LoadOptions(device="cpu"))
    report = check(engine, PLAN)
    assert report.passed, [f for f in report.findings if not f.passed]
    drafted = [f.figures["drafted_tokens"] for f in report.findings if f.check == "greedy parity"]
    assert all(drafted)
