"""Verifiers, proved by enumeration: no samples, no tolerance but rounding."""

from __future__ import annotations

import pytest
import torch

from specdec.core import Draft
from specdec.decoding import Speculation
from specdec.drafting import Drafter, DraftModelDrafter, NgramDrafter, NGramStorage
from specdec.gamma import ConfidenceGamma, EntropyGamma, FixedGamma, GammaPolicy, HeuristicGamma
from specdec.models import TableModel
from specdec.sampling import (
    GreedySampler,
    MultinomialSampler,
    Rng,
    Sampler,
    TopKNucleusSampler,
)
from specdec.verification import (
    VERIFIERS,
    RejectionVerifier,
    RejectionWithoutResidual,
    Verifier,
    residual_distribution,
)
from tests.doubles import ScriptedDrafter, ScriptedPolicy, Table, random_table
from tests.enumeration import (
    emitted_distribution,
    enumerate_outcomes,
    target_distribution,
    total_variation,
)

PLAIN = MultinomialSampler()
PROMPT = [0, 1]
EVERY = [VERIFIERS.create(name) for name in VERIFIERS.names]
LOSSLESS = [verifier for verifier in EVERY if verifier.is_lossless]
EXACT = 1e-12


def bias(
    target: Table,
    drafter: Table | Drafter,
    verifier: Verifier,
    policy: GammaPolicy,
    *,
    gamma: int,
    sampler: Sampler = PLAIN,
    first_target: bool = False,
) -> float:
    """Return the total variation between gamma + 1 emitted tokens and the target's own."""
    model = TableModel(target)
    if not isinstance(drafter, Drafter):
        drafter = DraftModelDrafter(TableModel(drafter), sampler)
    parts = Speculation(model, drafter, policy, verifier, sampler, first_target)
    emitted = emitted_distribution(parts, PROMPT, gamma + 1)
    return total_variation(emitted, target_distribution(model, sampler, PROMPT, gamma + 1))


def constant(*row: float) -> Table:
    return lambda tokens: list(row)


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
@pytest.mark.parametrize(
    ("vocab", "gamma"),
    [
        *[(2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (4, 1)],
        pytest.param(4, 2, marks=pytest.mark.slow),
        pytest.param(3, 3, marks=pytest.mark.slow),
    ],
)
def test_emitted_tokens_have_exactly_the_target_distribution(
    verifier: Verifier, vocab: int, gamma: int
) -> None:
    p, q = random_table(vocab, seed=1), random_table(vocab, seed=2)
    assert bias(p, q, verifier, FixedGamma(gamma), gamma=gamma) < EXACT


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
def test_supports_that_overlap_differently_after_each_prefix_are_exact(verifier: Verifier) -> None:
    # Two of four tokens in each row: the supports share two, one or no token.
    p, q = random_table(4, seed=3, zeros=2), random_table(4, seed=4, zeros=2)
    assert bias(p, q, verifier, FixedGamma(3), gamma=3) < EXACT


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
@pytest.mark.parametrize(
    ("p", "q"),
    [
        pytest.param(random_table(3, seed=5), random_table(3, seed=5), id="equal"),
        pytest.param(constant(0.5, 0.5, 0, 0), constant(0, 0, 0.3, 0.7), id="disjoint"),
        pytest.param(random_table(3, seed=6), random_table(3, seed=7, zeros=1), id="q-zero"),
        pytest.param(random_table(3, seed=8, zeros=1), random_table(3, seed=9), id="p-zero"),
        pytest.param(random_table(3, seed=10), constant(0, 1, 0), id="q-one-hot"),
        pytest.param(constant(0, 0, 1), random_table(3, seed=11), id="p-one-hot"),
        pytest.param(constant(0, 1, 0), constant(1, 0, 0), id="both-one-hot"),
    ],
)
def test_extreme_pairs_of_distributions_are_exact(verifier: Verifier, p: Table, q: Table) -> None:
    assert bias(p, q, verifier, FixedGamma(2), gamma=2) < EXACT


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
@pytest.mark.parametrize("script", [[0, 1, 2, 0], [2, 2, 2, 2], [1], []])
def test_trap_a_draft_without_probabilities_is_one_hot(
    verifier: Verifier, script: list[int]
) -> None:
    drafter = ScriptedDrafter(script)
    assert bias(random_table(3, seed=12), drafter, verifier, FixedGamma(3), gamma=3) < EXACT


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
def test_ngram_drafts_that_learn_from_the_output_are_exact(verifier: Verifier) -> None:
    drafter = NgramDrafter(NGramStorage(3, vocab_size=2), filler_top_k=2)
    assert bias(random_table(2, seed=13), drafter, verifier, FixedGamma(3), gamma=3) < EXACT


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(ConfidenceGamma(threshold=0.4, gamma=3), id="confidence"),
        pytest.param(EntropyGamma(1, 3), id="entropy"),
        pytest.param(EntropyGamma(1, 3, ema=0.5), id="entropy-smoothed"),
        pytest.param(HeuristicGamma(2, gamma_max=3), id="heuristic"),
        pytest.param(ScriptedPolicy(3, before=1), id="stop-before"),
        pytest.param(ScriptedPolicy(3, before=0), id="never-draft"),
        pytest.param(ScriptedPolicy(3, after=2), id="stop-after"),
    ],
)
def test_early_stopping_never_biases_the_output(verifier: Verifier, policy: GammaPolicy) -> None:
    p, q = random_table(2, seed=14), random_table(2, seed=15)
    assert bias(p, q, verifier, policy, gamma=policy.budget) < EXACT


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
@pytest.mark.parametrize(
    "sampler", [MultinomialSampler(0.5), TopKNucleusSampler(0.7, 2, 0.8), GreedySampler()]
)
def test_filters_and_temperature_keep_it_exact(verifier: Verifier, sampler: Sampler) -> None:
    p, q = random_table(3, seed=16), random_table(3, seed=17)
    assert bias(p, q, verifier, FixedGamma(2), gamma=2, sampler=sampler) < EXACT


@pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)
def test_a_first_step_without_a_draft_changes_nothing(verifier: Verifier) -> None:
    p, q = random_table(3, seed=18), random_table(3, seed=19)
    assert bias(p, q, verifier, FixedGamma(2), gamma=2, first_target=True) < EXACT


def test_without_the_residual_the_output_is_biased_and_the_verifier_says_so() -> None:
    verifier = RejectionWithoutResidual()
    p, q = random_table(3, seed=1), random_table(3, seed=2)
    assert bias(p, q, verifier, FixedGamma(2), gamma=2) > 0.01
    assert not verifier.is_lossless


def test_every_other_registered_verifier_is_lossless() -> None:
    lossy = [name for name in VERIFIERS.names if not VERIFIERS.get(name).is_lossless]
    assert lossy == ["rejection_without_residual"]


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


def judged(verifier: Verifier, draft: Draft, target_probs: torch.Tensor) -> dict[int, float]:
    """Return the distribution of the number of accepted tokens."""
    return enumerate_outcomes(lambda rng: verifier.judge(draft, target_probs, rng).num_accepted)


def test_token_rejection_keeps_ten_ninths_of_the_toy_draft() -> None:
    # q = (2/3, 1/3), p = (1/3, 2/3), gamma 2: a token stays with probability 2/3, so
    # E = 2/3 + 4/9 = 10/9.
    q = torch.tensor([[2 / 3, 1 / 3]] * 2, dtype=torch.float64)
    p = torch.tensor([[1 / 3, 2 / 3]] * 3, dtype=torch.float64)

    def run(rng: Rng) -> int:
        draft = Draft([rng.categorical(row) for row in q], q)
        return RejectionVerifier().judge(draft, p, rng).num_accepted

    counts = enumerate_outcomes(run)
    expected = sum(kept * chance for kept, chance in counts.items())
    assert expected == pytest.approx(10 / 9, abs=EXACT)


def test_a_token_stays_with_probability_p_over_q() -> None:
    draft = Draft([0], torch.tensor([[0.8, 0.2]], dtype=torch.float64))
    p = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    assert judged(RejectionVerifier(), draft, p) == pytest.approx({0: 0.75, 1: 0.25})


def test_a_token_the_target_likes_better_always_stays() -> None:
    draft = Draft([1], torch.tensor([[0.8, 0.2]], dtype=torch.float64))
    p = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    assert judged(RejectionVerifier(), draft, p) == {1: 1.0}


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
def test_a_token_the_target_never_says_never_stays(verifier: Verifier) -> None:
    draft = Draft([0], torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    p = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    assert judged(verifier, draft, p) == {0: 1.0}


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
def test_an_empty_draft_is_plain_decoding(verifier: Verifier) -> None:
    p = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    outcomes = enumerate_outcomes(lambda rng: verifier.judge(Draft([]), p, rng).next_token)
    assert outcomes == {0: 0.25, 1: 0.75}


@pytest.mark.parametrize("verifier", EVERY, ids=VERIFIERS.spec)
def test_judging_edits_neither_the_draft_nor_the_target_distributions(verifier: Verifier) -> None:
    q = torch.tensor([[0.9, 0.1], [0.9, 0.1]], dtype=torch.float64)
    p = torch.tensor([[0.1, 0.9]] * 3, dtype=torch.float64)
    q_before, p_before = q.clone(), p.clone()
    judged(verifier, Draft([0, 0], q), p)
    assert torch.equal(q, q_before)
    assert torch.equal(p, p_before)


def test_the_residual_is_the_normalised_positive_difference() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    assert residual_distribution(p, q).tolist() == pytest.approx([0.75, 0.25, 0.0])


def test_trap_a_zero_residual_gives_the_target_itself() -> None:
    p = torch.tensor([0.5, 0.3, 0.2])
    assert torch.equal(residual_distribution(p, p.clone()), p)


def test_trap_half_precision_drafts_and_full_precision_targets_mix() -> None:
    q = torch.tensor([[0.75, 0.25]], dtype=torch.bfloat16)
    p = torch.tensor([[0.375, 0.625], [0.5, 0.5]], dtype=torch.float64)
    assert judged(RejectionVerifier(), Draft([0], q), p) == {0: 0.5, 1: 0.5}
