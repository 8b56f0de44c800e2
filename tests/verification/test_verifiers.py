"""Verifiers one verdict at a time; their laws are in test_laws.py."""

from __future__ import annotations

import pytest
import torch

from foredraft.choices import Dense, OneHot
from foredraft.core import Draft
from foredraft.decoding import Speculation
from foredraft.drafting import DraftModelDrafter
from foredraft.gamma import FixedGamma
from foredraft.models import TableModel
from foredraft.sampling import (
    GreedySampler,
    MultinomialSampler,
    Rng,
)
from foredraft.verification import (
    VERIFIERS,
    BlockVerifier,
    RejectionVerifier,
    Verifier,
)
from tests.doubles import random_table
from tests.enumeration import (
    emitted_distribution,
    enumerate_outcomes,
)

PLAIN = MultinomialSampler()
PROMPT = [0, 1]
EVERY = [VERIFIERS.create(name) for name in VERIFIERS.names]
LOSSLESS = [verifier for verifier in EVERY if verifier.is_lossless]
EXACT = 1e-12


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
def test_greedy_needs_no_luck_and_one_outcome_has_all_the_probability(verifier: Verifier) -> None:
    model = TableModel(random_table(4, seed=20))
    drafter = DraftModelDrafter(TableModel(random_table(4, seed=21)), GreedySampler())
    parts = Speculation(model, drafter, FixedGamma(3), verifier, GreedySampler())
    emitted = emitted_distribution(parts, PROMPT, 6)
    (text,) = emitted
    for i, token in enumerate(text):
        row = model.next_probs((*PROMPT, *text[:i]))
        assert row[token] == max(row)
    assert emitted[text] == 1


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
@pytest.mark.parametrize("drafted", ["likeliest", "drawn"])
def test_where_there_is_one_choice_each_it_judges_as_the_rule_does(
    verifier: Verifier, drafted: str
) -> None:
    """Without a question, and whatever the draft was drawn from."""
    readable = type("Readable", (type(verifier),), {})()  # a subclass is never judged at once
    source = torch.Generator().manual_seed(7)
    for gamma in (1, 2, 5) * 20:
        chosen = torch.randint(3, (gamma + 1,), generator=source).tolist()
        tokens = torch.randint(3, (gamma,), generator=source).tolist()
        q = torch.rand(gamma, 3, generator=source) + 0.1
        drawn_from = Dense(q / q.sum(-1, keepdim=True)) if drafted == "drawn" else None
        draft = Draft(tokens, drawn_from)
        asked = [one.judge(draft, OneHot(chosen), Rng(1), 9) for one in (verifier, readable)]
        assert asked[0] == asked[1]


def judged(verifier: Verifier, draft: Draft, probs: torch.Tensor) -> dict[int, float]:
    """Return the distribution of the number of accepted tokens."""
    target = Dense(probs)
    return enumerate_outcomes(lambda rng: verifier.judge(draft, target, rng, 0).num_accepted)


def test_a_token_stays_with_probability_p_over_q() -> None:
    draft = Draft([0], Dense(torch.tensor([[0.8, 0.2]], dtype=torch.float64)))
    p = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    assert judged(RejectionVerifier(), draft, p) == pytest.approx({0: 0.75, 1: 0.25})


def test_a_token_the_target_likes_better_always_stays() -> None:
    draft = Draft([1], Dense(torch.tensor([[0.8, 0.2]], dtype=torch.float64)))
    p = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    assert judged(RejectionVerifier(), draft, p) == {1: 1.0}


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
def test_a_token_the_target_never_says_never_stays(verifier: Verifier) -> None:
    draft = Draft([0], Dense(torch.tensor([[0.5, 0.5]], dtype=torch.float64)))
    p = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    assert judged(verifier, draft, p) == {0: 1.0}


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
def test_an_empty_draft_is_plain_decoding(verifier: Verifier) -> None:
    p = Dense(torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    outcomes = enumerate_outcomes(lambda rng: verifier.judge(Draft([]), p, rng, 0).next_token)
    assert outcomes == {0: 0.25, 1: 0.75}


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
def test_judging_edits_neither_the_draft_nor_the_target_distributions(verifier: Verifier) -> None:
    q = torch.tensor([[0.9, 0.1], [0.9, 0.1]], dtype=torch.float64)
    p = torch.tensor([[0.1, 0.9]] * 3, dtype=torch.float64)
    q_before, p_before = q.clone(), p.clone()
    judged(verifier, Draft([0, 0], Dense(q)), p)
    assert torch.equal(q, q_before)
    assert torch.equal(p, p_before)


def test_the_residual_is_the_normalised_positive_difference() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    rest = Dense(p[None]).residual(0, Dense(q[None]))
    assert isinstance(rest, Dense)
    assert rest.probs[0].tolist() == pytest.approx([0.75, 0.25, 0.0])


def test_trap_a_zero_residual_gives_the_target_itself() -> None:
    p = torch.tensor([0.5, 0.3, 0.2])
    rest = Dense(p[None]).residual(0, Dense(p[None].clone()))
    assert isinstance(rest, Dense)
    assert torch.equal(rest.probs[0], p)


def test_trap_half_precision_drafts_and_full_precision_targets_mix() -> None:
    q = torch.tensor([[0.75, 0.25]], dtype=torch.bfloat16)
    p = torch.tensor([[0.375, 0.625], [0.5, 0.5]], dtype=torch.float64)
    assert judged(RejectionVerifier(), Draft([0], Dense(q)), p) == {0: 0.5, 1: 0.5}


def test_the_reported_q_of_a_greedy_drafter_matters_only_to_a_target_that_samples() -> None:
    """A drafter takes its likeliest token and reports its softmax, though it has not drawn."""
    softmax = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64)
    greedy = [torch.eye(3, dtype=torch.float64)[[token, 0]] for token in range(3)]
    sampling = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]], dtype=torch.float64)
    for verifier in LOSSLESS:
        for token, p in enumerate(greedy):
            assert first_token(verifier, Draft([0], Dense(softmax)), p) == {token: 1.0}
    for verifier in (RejectionVerifier(), BlockVerifier()):
        wrong = first_token(verifier, Draft([0], Dense(softmax)), sampling)
        assert wrong == pytest.approx({0: 5 / 6, 2: 1 / 6})
        right = first_token(verifier, Draft([0], OneHot([0])), sampling)
        assert right == pytest.approx({0: 0.5, 1: 0.3, 2: 0.2})


def first_token(verifier: Verifier, draft: Draft, probs: torch.Tensor) -> dict[int, float]:
    """Return the distribution of the first token that comes of a draft of one."""

    def run(rng: Rng) -> int:
        verdict = verifier.judge(draft, Dense(probs), rng, 0)
        return draft.tokens[0] if verdict.num_accepted else verdict.next_token

    return enumerate_outcomes(run)
