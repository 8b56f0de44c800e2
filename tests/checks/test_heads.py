"""`verify` on a target with a head: the same checks, and they can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from foredraft.checks import check
from foredraft.checks.remembered import Remembered
from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.models import DecoderOnlyModel
from tests.checks.test_checks import SMALL, loaded, of
from tests.heads import head_for
from tests.tiny import TEXT_VOCAB, build


def engine() -> Engine:
    target = loaded(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB)))
    head = head_for(target.model, columns=TEXT_VOCAB // 2, scale=0.2)
    return Engine(target, LoadedModel("head", head, target.tokenizer, ()))


@pytest.fixture(scope="module")
def plan() -> object:
    return replace(SMALL, methods=("speculative", "egag"))


def test_a_head_passes(plan: object) -> None:
    report = check(engine(), plan, lambda *_: None)  # type: ignore[arg-type]
    assert report.passed, [f.sentence for f in report.findings]
    assert [finding.subject for finding in of(report, "cache parity")] == ["target"]
    for finding in of(report, "greedy parity"):
        assert finding.passed
    assert len(of(report, "distribution")) == 4


@pytest.mark.slow
def test_a_mistaken_verifier_is_caught_behind_a_head(plan: object) -> None:
    mistaken = replace(  # type: ignore[type-var]
        plan, mutant="redraw", methods=("speculative",), sampler="multinomial(temperature=4.0)"
    )
    report = check(engine(), mistaken, lambda *_: None)
    assert not report.passed


def test_remembered_states_are_those_of_the_network() -> None:
    inner = DecoderOnlyModel(build("llama"))
    model, prompt = Remembered(inner), [5, 6, 7]
    for _ in range(2):
        text = model.open(prompt)
        features = text.watch((1, 2))
        text.extend([*prompt, 1, 2], keep=2)
        text.rollback_to(4)
        text.extend([3, 4, 9])
        whole = inner.open(prompt)
        expected = whole.watch((1, 2))
        whole.extend([*prompt, 1, 3, 4, 9])
        assert torch.allclose(features.between(0, 7), expected.between(0, 7), atol=1e-4)
