"""Forced tokens: where a structure leaves one way on, its tokens are drafts that cost no call."""

from __future__ import annotations

from typing import Any

from foredraft.core import FinishReason, StepRecord
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import (
    Drafter,
    DraftModelDrafter,
    FirstDrafter,
    ForcedDrafter,
    PredictionDrafter,
)
from foredraft.drafting.base import Beginning
from foredraft.drafting.retrieval import CERTAIN
from foredraft.gamma import FixedGamma, GammaPolicy
from foredraft.models import TableModel
from foredraft.sampling import ControlledText, Controls, MultinomialSampler, Rng
from foredraft.verification import VERIFIERS
from tests.doubles import CountingTable, ScriptedDrafter, ScriptedPolicy, random_table
from tests.sampling.naive_controls import END, structure

PLAIN = MultinomialSampler()


def controls_of(source: str) -> Controls:
    return Controls([structure(source)], ControlledText([1], frozenset({END}), 4))


def run(
    drafter: Drafter, source: str, *, gamma: int = 6, policy: GammaPolicy | None = None
) -> tuple[Request, list[StepRecord]]:
    target = TableModel(random_table(4, seed=1))
    parts = Speculation(
        target, drafter, policy or FixedGamma(gamma), VERIFIERS.create("block"), PLAIN, False
    )
    request = Request(
        target.open([1]),
        Rng(0),
        max_new_tokens=12,
        eos_token_ids=[END],
        controls=controls_of(source),
        prediction=[3, 3, 3],
    )
    return request, list(speculative_steps(parts, request))


def test_what_must_come_is_all_that_is_drafted() -> None:
    controls = controls_of("abab|b")
    drafter = ForcedDrafter()
    drafter.start(Beginning([1], Rng(0), controls))
    assert drafter.retrieve([1], 5).tokens == []
    for before, forced in (([1], [2, 3]), ([3], [3]), ([2], []), ([1, 2], [3]), ([2, 2], [])):
        found = drafter.retrieve([1], 5, before)
        assert found.tokens == forced
        assert found.confidences == [CERTAIN] * len(forced)
        assert not found.is_predicted
    assert drafter.retrieve([1], 1, [1]).tokens == [2]
    assert not drafter.learns_from_logits


def test_without_controls_nothing_must_come() -> None:
    drafter = ForcedDrafter()
    drafter.start(Beginning([1], Rng(0)))
    assert drafter.retrieve([1], 5).tokens == []


def test_the_draft_model_is_not_asked_for_what_must_come() -> None:
    model = CountingTable(random_table(4, seed=2))
    request, records = run(DraftModelDrafter(model, PLAIN), "aabb")
    assert request.finish_reason is FinishReason.EOS
    assert "".join(("", "a", "b", "ab")[t] for t in request.output) == "aabb"
    assert sum(record.num_draft_calls for record in records) == len(model.fed) <= 1
    assert records[0].num_accepted == len(records[0].drafted) >= 2


def test_in_the_middle_of_a_draft_it_reads_them_in_one_pass() -> None:
    model = CountingTable(random_table(4, seed=2))
    _, records = run(DraftModelDrafter(model, PLAIN), "(a|b)abba(a|b)")
    first = records[0]
    assert len(first.drafted) >= 5
    assert first.num_draft_calls <= 3, "the first choice, the last, and an end"
    assert [len(tokens) for tokens in model.fed][:2] == [1, 3]  # a choice, ab, b


def test_a_policy_may_cut_them() -> None:
    for policy, length in ((ScriptedPolicy(6, before=1), 1), (ScriptedPolicy(6, after=2), 2)):
        for drafter in (
            FirstDrafter([ForcedDrafter()], ScriptedDrafter([])),
            DraftModelDrafter(TableModel(random_table(4, seed=2)), PLAIN),
        ):
            _, records = run(drafter, "aabbaabb", policy=policy)
            assert len(records[0].drafted) == length


def test_they_go_before_predicted_ones_and_whoever_else_drafts() -> None:
    inner = ScriptedDrafter([1] * 12)
    drafter = FirstDrafter([ForcedDrafter(), PredictionDrafter()], inner)
    request, records = run(drafter, "aab(b|ab)(a|ab)(b|ab)(a|ab)")
    forced, *others = records
    assert forced.num_predicted == 0
    assert forced.num_accepted == len(forced.drafted) > 0
    assert request.finish_reason is FinishReason.EOS
    assert any(record.drafted for record in others)


class Told(ScriptedDrafter):
    """Remembers what it was told of."""

    def __init__(self) -> None:
        super().__init__([1, 1])
        self.updates = 0

    def update(self, outcome: Any) -> None:
        self.updates += 1


def test_only_who_was_asked_learns_what_a_step_cost() -> None:
    drafter = FirstDrafter([ForcedDrafter()], Told())
    request, records = run(drafter, "abab|b")
    told = request.drafter
    assert isinstance(told, FirstDrafter)
    assert isinstance(told.inner, Told)
    assert 0 < told.inner.updates < len(records) or len(records) == 1
