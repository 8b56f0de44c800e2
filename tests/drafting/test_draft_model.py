"""DraftModelDrafter: what it draws, from what, and what its model remembers."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import pytest
import torch

from foredraft.core import Draft, DraftStop, StepOutcome
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import DraftModelDrafter
from foredraft.drafting.base import Beginning
from foredraft.gamma import (
    BanditGamma,
    ConfidenceGamma,
    FixedGamma,
    GammaPolicy,
    HeuristicGamma,
    SvipGamma,
)
from foredraft.models import TableModel
from foredraft.sampling import (
    SAMPLERS,
    GreedySampler,
    MultinomialSampler,
    Rng,
    Sampler,
    TopKNucleusSampler,
)
from foredraft.verification import RejectionVerifier
from tests.doubles import CountingTable, ScriptedPolicy, logits_of, probs_of, random_table
from tests.enumeration import enumerate_outcomes

VOCAB = 5
PROMPT = [0, 3, 1]
FIVE = FixedGamma(5)


def counting(max_length: int = 1024) -> CountingTable:
    return CountingTable(random_table(VOCAB, seed=0), max_length=max_length)


def started(
    sampler: Sampler | None = None, model: TableModel | None = None, seed: int = 0
) -> DraftModelDrafter:
    """Return a drafter that has begun with `PROMPT`."""
    drafter = DraftModelDrafter(model or counting(), sampler or MultinomialSampler())
    drafter.start(Beginning(PROMPT, Rng(seed)))
    return drafter


def drawn(policy: GammaPolicy, gamma: int = 5, seed: int = 0) -> Draft:
    """Return one draft after the prompt."""
    return started(seed=seed).propose(PROMPT, gamma, policy)


def test_gamma_tokens_are_drawn_for_gamma_passes() -> None:
    for gamma in range(1, 6):
        draft = drawn(FIVE, gamma)
        assert len(draft.tokens) == draft.num_calls == gamma
        assert probs_of(draft).shape == (gamma, VOCAB)


def test_no_wish_no_draft_and_no_pass() -> None:
    model = counting()
    assert started(model=model).propose(PROMPT, 0, FIVE) == Draft([])
    assert model.fed == []


def test_trap_a_greedy_draft_carries_no_soft_probabilities() -> None:
    draft = started(GreedySampler()).propose(PROMPT, 5, FIVE)
    assert draft.drawn_from is None
    table = random_table(VOCAB, seed=0)
    for i, token in enumerate(draft.tokens):
        row = table((*PROMPT, *draft.tokens[:i]))
        assert row[token] == max(row)


@pytest.mark.parametrize(
    "sampler", [MultinomialSampler(0.7), TopKNucleusSampler(1.3, 4, 0.8)], ids=["plain", "filtered"]
)
def test_trap_the_probabilities_are_those_of_the_sampler_after_each_prefix(
    sampler: Sampler,
) -> None:
    draft = started(sampler).propose(PROMPT, 4, FIVE)
    for i in range(4):
        row = random_table(VOCAB, seed=0)((*PROMPT, *draft.tokens[:i]))
        assert probs_of(draft)[i].tolist() == sampler.probs(logits_of(row)).tolist()


@pytest.mark.parametrize("name", [n for n in SAMPLERS.names if n != "greedy"])
def test_trap_tokens_are_drawn_from_exactly_the_probabilities_handed_over(name: str) -> None:
    drafter = DraftModelDrafter(counting(), SAMPLERS.create(name))
    handed: dict[tuple[int, ...], float] = {}

    def run(rng: Rng) -> tuple[int, ...]:
        drafter.start(Beginning(PROMPT, rng))
        draft = drafter.propose(PROMPT, 2, FIVE)
        first, second = draft.tokens
        handed[first, second] = float(probs_of(draft)[0, first] * probs_of(draft)[1, second])
        return first, second

    outcomes = enumerate_outcomes(run)
    assert outcomes == pytest.approx(handed, abs=1e-12)
    assert sum(handed.values()) == pytest.approx(1)


def test_the_prompt_is_read_once_and_then_one_token_a_pass() -> None:
    model = counting()
    draft = started(model=model).propose(PROMPT, 3, FIVE)
    assert model.fed == [PROMPT, draft.tokens[:1], draft.tokens[1:2]]


def test_tokens_so_far_are_not_edited() -> None:
    tokens = list(PROMPT)
    started().propose(tokens, 3, FIVE)
    assert tokens == PROMPT


def test_a_policy_that_stops_before_a_token_saves_the_draw_but_not_the_pass() -> None:
    draft = drawn(ScriptedPolicy(before=2))
    assert draft.tokens == drawn(FIVE).tokens[:2]
    assert len(probs_of(draft)) == 2
    assert draft.num_calls == 3


def test_a_policy_that_stops_before_the_first_token_leaves_an_empty_draft() -> None:
    draft = drawn(ScriptedPolicy(before=0))
    assert (draft.tokens, draft.drawn_from, draft.num_calls) == ([], None, 1)


def test_trap_a_policy_that_stops_after_a_token_leaves_it_drafted() -> None:
    policy = ScriptedPolicy(after=3)
    draft = drawn(policy)
    assert draft.tokens == drawn(FIVE).tokens[:3]
    assert policy.asked_after == [(token, i + 1) for i, token in enumerate(draft.tokens)]
    assert draft.num_calls == 3


def test_trap_a_drawn_token_is_never_discarded_for_its_own_low_probability() -> None:
    sure_of_nothing = ConfidenceGamma(threshold=1.0)
    for seed in range(20):
        assert drawn(sure_of_nothing, seed=seed).tokens == drawn(FIVE, seed=seed).tokens[:1]


def test_after_partial_acceptance_the_model_forgets_what_was_rejected() -> None:
    model = counting()
    drafter = started(model=model)
    draft = drafter.propose(PROMPT, 4, FIVE)
    recovered = (draft.tokens[1] + 1) % VOCAB
    tokens = [*PROMPT, draft.tokens[0], recovered]
    model.fed.clear()
    drafter.propose(tokens, 1, FIVE)
    assert model.fed == [[recovered]]
    assert model.held == tokens


def test_after_full_acceptance_the_last_draft_is_fed_with_the_bonus_token() -> None:
    model = counting()
    drafter = started(model=model)
    draft = drafter.propose(PROMPT, 3, FIVE)
    tokens = [*PROMPT, *draft.tokens, 4]
    model.fed.clear()
    drafter.propose(tokens, 1, FIVE)
    assert model.fed == [[draft.tokens[-1], 4]]
    assert model.held == tokens


def test_a_model_that_was_not_asked_for_some_steps_catches_up() -> None:
    model = counting()
    drafter = started(model=model)
    rejected = drafter.propose(PROMPT, 2, FIVE).tokens[0]
    unseen = [(rejected + 1) % VOCAB, 4, 2, 2, 0]  # recovered, then steps without a draft
    tokens = PROMPT + unseen
    model.fed.clear()
    draft = drafter.propose(tokens, 2, FIVE)
    assert model.fed == [unseen, draft.tokens[:1]]
    assert model.held == [*tokens, draft.tokens[0]]


def test_undrafted_steps_in_the_loop_leave_no_rejected_token_in_memory() -> None:
    class EveryThird(ScriptedPolicy):
        steps = 0

        def update(self, outcome: StepOutcome) -> None:
            self.steps += 1

        @property
        def budget(self) -> int:
            return 4 if self.steps % 3 == 0 else 0

    model, sampler = counting(), MultinomialSampler()
    target = TableModel(random_table(VOCAB, seed=1))
    drafter = DraftModelDrafter(model, sampler)
    parts = Speculation(target, drafter, EveryThird(), RejectionVerifier(), sampler)
    request = Request(target.open(PROMPT), Rng(0), max_new_tokens=60)
    for record in speculative_steps(parts, request):
        if record.drafted:
            drafted_from = request.tokens[: request.length - len(record.emitted)]
            assert model.held == drafted_from + record.drafted[:-1]


@pytest.mark.parametrize(("max_length", "drafted"), [(4, 2), (5, 3), (6, 4), (7, 5), (8, 5)])
def test_near_the_draft_models_end_fewer_tokens_are_drafted(max_length: int, drafted: int) -> None:
    # The last draft is never fed: 3 tokens of prompt and 1 draft fill 4 positions and give 2.
    draft = started(model=counting(max_length)).propose(PROMPT, 5, FIVE)
    assert len(draft.tokens) == drafted


def test_beyond_the_draft_models_end_nothing_is_drafted() -> None:
    model = counting(max_length=5)
    drafter = started(model=model)
    tokens = [*PROMPT, 1, 1, 1]
    assert drafter.propose(tokens, 5, FIVE) == Draft([], stopped=DraftStop.CONTEXT)
    assert drafter.propose([*tokens, 1, 1], 5, FIVE) == Draft([], stopped=DraftStop.CONTEXT)


def test_a_target_with_more_positions_than_its_draft_model_writes_to_the_end() -> None:
    target, sampler = TableModel(random_table(VOCAB, seed=1)), MultinomialSampler()
    drafter = DraftModelDrafter(counting(max_length=8), sampler)
    parts = Speculation(target, drafter, FIVE, RejectionVerifier(), sampler)
    request = Request(target.open(PROMPT), Rng(0), max_new_tokens=20)
    records = list(speculative_steps(parts, request))
    assert len(request.output) == 20
    assert sum(len(r.drafted) for r in records) > 0
    assert records[-1].drafted == []


def test_a_prompt_too_long_for_the_draft_model_is_decoded_without_drafts() -> None:
    model = counting(max_length=len(PROMPT))
    drafter = started(model=model)
    assert drafter.propose(PROMPT, 5, FIVE) == Draft([], stopped=DraftStop.CONTEXT)
    assert drafter.propose([*PROMPT, 1], 5, FIVE) == Draft([], stopped=DraftStop.CONTEXT)
    drafter.start(Beginning([0], Rng(0)))
    assert len(drafter.propose([0], 5, FIVE).tokens) == 3  # the next prompt fits


def test_a_new_text_keeps_in_memory_what_it_shares_with_the_one_before() -> None:
    drafted = started().propose(PROMPT, 3, FIVE).tokens
    for begin, shared in (([2, 2], 0), (PROMPT[:2], 1), ([*PROMPT, drafted[0], 9], 4)):
        model = counting()
        drafter = started(model=model)
        assert drafter.propose(PROMPT, 3, FIVE).tokens == drafted
        drafter.start(Beginning(begin, Rng(0)))
        context = drafter._context
        assert context is not None
        assert context.length == shared
        drafter.propose(begin, 1, FIVE)
        assert model.fed[-1] == begin[shared:]


def test_trap_the_loop_never_reseeds() -> None:
    # Reseeded in each step, forty uniform tokens in steps of five would repeat the same few.
    uniform, sampler = TableModel(lambda tokens: [1 / 64] * 64), MultinomialSampler()
    drafter = DraftModelDrafter(uniform, sampler)
    target = TableModel(lambda tokens: [1 / 64] * 64)
    parts = Speculation(target, drafter, FixedGamma(4), RejectionVerifier(), sampler)
    request = Request(target.open([0]), Rng(0), max_new_tokens=41)
    torch.manual_seed(0)
    for _ in speculative_steps(parts, request):
        pass
    assert len(set(request.output)) > 20


def test_a_greedy_draft_nobody_looks_at_is_made_by_one_call() -> None:
    class AtOnce(CountingTable):
        calls = 0

        def draft(self, tokens: SequenceOf[int], count: int) -> tuple[list[int], list[float]]:
            self.calls += 1
            return super().draft(tokens, count)

    looked_at = started(GreedySampler()).propose(PROMPT, 4, ScriptedPolicy())
    model = AtOnce(random_table(VOCAB, seed=0), max_length=1024)
    drafter = started(GreedySampler(), model)
    assert drafter.propose(PROMPT, 4, FIVE) == looked_at
    assert (model.calls, model.held) == (1, PROMPT + looked_at.tokens[:3])
    drafter.propose(PROMPT, 4, ScriptedPolicy())
    started(MultinomialSampler(), model).propose(PROMPT, 4, FIVE)
    assert model.calls == 1


def test_a_policy_that_looks_at_tokens_takes_them_one_by_one() -> None:
    assert [FixedGamma(4).stride(n) for n in range(5)] == [4, 3, 2, 1, 0]
    assert HeuristicGamma(4).stride(0) == 4
    assert ConfidenceGamma().stride(0) == ScriptedPolicy().stride(2) == 1
    bandit = BanditGamma(arms=(FixedGamma(3), SvipGamma()))
    assert bandit.stride(0) == 3, "whatever plays is drafted as it would be alone"
