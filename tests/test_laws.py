"""The laws, by enumeration: no samples, no seed, no tolerance but rounding.

A block is drafted by the real drafter under a real policy, judged by the real verifier and then
completed with the target's own probabilities; every outcome is visited with its probability. The
laws at the end run the whole loop. Each mutant, a verifier with one known mistake, must break the
law that is named for it; pytest lists them at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from foredraft.checks.mutants import MUTANTS
from foredraft.choices import Dense
from foredraft.core import Draft
from foredraft.decoding import Speculation
from foredraft.drafting import Drafter, DraftModelDrafter, NgramDrafter, NGramStorage
from foredraft.gamma import ConfidenceGamma, EntropyGamma, FixedGamma, GammaPolicy, HeuristicGamma
from foredraft.models import TableModel
from foredraft.sampling import SAMPLERS, MultinomialSampler, Rng, Sampler
from foredraft.verification import (
    VERIFIERS,
    BlockVerifier,
    CoupledVerifier,
    ExactMatchVerifier,
    RejectionVerifier,
    RejectionWithoutResidual,
    Verifier,
)
from tests.blocks import (
    PAIRS,
    PROMPT,
    SAMPLER_SPECS,
    STOPPING_RULES,
    VOCAB_FOR_GAMMA,
    block_bias,
    mean_accepted,
)
from tests.doubles import (
    ScriptedDrafter,
    ScriptedPolicy,
    Table,
    WhimsicalPolicy,
    random_table,
)
from tests.enumeration import (
    emitted_distribution,
    enumerate_outcomes,
    target_distribution,
    total_variation,
)

EXACT = 1e-12
PLAIN = MultinomialSampler()
EVERY = [VERIFIERS.create(name) for name in VERIFIERS.names]
LOSSLESS = [verifier for verifier in EVERY if verifier.is_lossless]
every_verifier = pytest.mark.parametrize("verifier", LOSSLESS, ids=VERIFIERS.spec)


@pytest.mark.parametrize("sampler", SAMPLER_SPECS)
@pytest.mark.parametrize("gamma", VOCAB_FOR_GAMMA)
@every_verifier
def test_a_block_has_exactly_the_target_distribution(
    verifier: Verifier, gamma: int, sampler: str
) -> None:
    for pair, stopping in itertools.product(PAIRS, STOPPING_RULES):
        assert block_bias(verifier, pair, gamma, sampler, stopping) < EXACT, (pair, stopping)


MULTINOMIAL = SAMPLER_SPECS[1]


@every_verifier
def test_a_drawn_token_is_never_discarded_for_its_own_probability(verifier: Verifier) -> None:
    for gamma, stopping in itertools.product(VOCAB_FOR_GAMMA, ("confidence", "random", "random-2")):
        assert block_bias(verifier, "equal", gamma, MULTINOMIAL, stopping) < EXACT


@every_verifier
def test_a_failed_prefix_does_not_cost_a_longer_one_its_chance(verifier: Verifier) -> None:
    for pair, sampler in itertools.product(("prefix-dependent", "both-zeros"), SAMPLER_SPECS):
        assert block_bias(verifier, pair, 3, sampler, "none") < EXACT


@every_verifier
def test_a_draft_that_was_not_drawn_is_one_hot(verifier: Verifier) -> None:
    for gamma, sampler in itertools.product(VOCAB_FOR_GAMMA, SAMPLER_SPECS):
        assert block_bias(verifier, "no-probabilities", gamma, sampler, "none") < EXACT


@every_verifier
def test_a_draft_is_judged_by_the_distribution_it_was_drawn_from(verifier: Verifier) -> None:
    for pair, gamma in itertools.product(("prefix-dependent", "equal"), VOCAB_FOR_GAMMA):
        assert block_bias(verifier, pair, gamma, MULTINOMIAL, "none") < EXACT


@every_verifier
def test_the_bonus_token_follows_the_whole_draft(verifier: Verifier) -> None:
    for gamma in VOCAB_FOR_GAMMA:  # equal tables: token and block verification keep everything
        assert block_bias(verifier, "equal", gamma, MULTINOMIAL, "none") < EXACT


@every_verifier
def test_the_residual_is_what_acceptance_leaves_over(verifier: Verifier) -> None:
    for pair, gamma in itertools.product(("prefix-dependent", "draft-zeros"), VOCAB_FOR_GAMMA):
        for sampler in SAMPLER_SPECS:
            assert block_bias(verifier, pair, gamma, sampler, "none") < EXACT


@every_verifier
def test_the_token_that_differs_is_emitted_itself(verifier: Verifier) -> None:
    for gamma, sampler in itertools.product(VOCAB_FOR_GAMMA, SAMPLER_SPECS):
        assert block_bias(verifier, "draft-one-hot", gamma, sampler, "none") < EXACT


# --- how much is kept -----------------------------------------------------------------------------


def toy_expectation(verifier: Verifier) -> float:
    """Return E[accepted] for q = (2/3, 1/3), p = (1/3, 2/3), gamma 2: the example of Sun et al."""
    q = torch.tensor([[2 / 3, 1 / 3]] * 2, dtype=torch.float64)
    p = torch.tensor([[1 / 3, 2 / 3]] * 3, dtype=torch.float64)

    def run(rng: Rng) -> int:
        draft = Draft([rng.categorical(row, i) for i, row in enumerate(q)], Dense(q))
        return verifier.judge(draft, Dense(p), rng, 0).num_accepted

    counts = enumerate_outcomes(run, keyed=verifier.is_coupled)
    return sum(kept * chance for kept, chance in counts.items())


def test_token_rejection_keeps_ten_ninths_of_the_toy_draft() -> None:
    assert toy_expectation(RejectionVerifier()) == pytest.approx(10 / 9, abs=EXACT)


@pytest.mark.parametrize("verifier", [BlockVerifier()])
def test_block_verification_keeps_eleven_ninths_of_the_toy_draft(verifier: Verifier) -> None:
    assert toy_expectation(verifier) == pytest.approx(11 / 9, abs=EXACT)


@pytest.mark.parametrize("sampler", SAMPLER_SPECS)
@pytest.mark.parametrize("gamma", VOCAB_FOR_GAMMA)
def test_block_verification_never_keeps_less_than_token_rejection(gamma: int, sampler: str) -> None:
    gains = [
        mean_accepted(BlockVerifier(), pair, gamma, sampler, stopping)
        - mean_accepted(RejectionVerifier(), pair, gamma, sampler, stopping)
        for pair, stopping in itertools.product(PAIRS, STOPPING_RULES)
    ]
    assert min(gains) > -EXACT
    has_gain = gamma > 1 and sampler != "greedy"
    assert (max(gains) > 0.001) == has_gain


@pytest.mark.parametrize("pair", ["draft-one-hot", "no-probabilities", "equal", "disjoint"])
def test_block_verification_gains_nothing_where_nothing_is_to_gain(pair: str) -> None:
    for gamma, sampler in itertools.product(VOCAB_FOR_GAMMA, SAMPLER_SPECS):
        block = mean_accepted(BlockVerifier(), pair, gamma, sampler, "none")
        token = mean_accepted(RejectionVerifier(), pair, gamma, sampler, "none")
        assert block == pytest.approx(token, abs=EXACT)


@pytest.mark.parametrize("verifier", [RejectionVerifier(), BlockVerifier()], ids=VERIFIERS.spec)
def test_a_draft_drawn_from_the_target_itself_is_always_kept(verifier: Verifier) -> None:
    for gamma in VOCAB_FOR_GAMMA:
        kept = mean_accepted(verifier, "equal", gamma, MULTINOMIAL, "none")
        assert kept == pytest.approx(gamma, abs=EXACT)


def test_shared_noise_keeps_more_than_independent_draws() -> None:
    for gamma in VOCAB_FOR_GAMMA:
        coupled = mean_accepted(CoupledVerifier(), "prefix-dependent", gamma, MULTINOMIAL, "none")
        apart = mean_accepted(ExactMatchVerifier(), "prefix-dependent", gamma, MULTINOMIAL, "none")
        assert coupled > apart + 0.01


# --- the whole loop -------------------------------------------------------------------------------


def loop_bias(
    target: Table,
    drafter: Table | Drafter,
    verifier: Verifier,
    policy: GammaPolicy,
    *,
    length: int,
    sampler: Sampler = PLAIN,
    first_target: bool = False,
    eos: tuple[int, ...] = (),
) -> float:
    """Return the total variation between the loop's texts and the target's own."""
    model = TableModel(target)
    if not isinstance(drafter, Drafter):
        drafter = DraftModelDrafter(TableModel(drafter), sampler)
    parts = Speculation(model, drafter, policy, verifier, sampler, first_target)
    emitted = emitted_distribution(parts, PROMPT, length, eos)
    return total_variation(emitted, target_distribution(model, sampler, PROMPT, length, eos))


@every_verifier
@pytest.mark.parametrize(
    ("vocab", "gamma"),
    [
        *[(2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (4, 1)],
        pytest.param(4, 2, marks=pytest.mark.slow),
        pytest.param(3, 3, marks=pytest.mark.slow),
    ],
)
def test_the_loop_has_exactly_the_target_distribution(
    verifier: Verifier, vocab: int, gamma: int
) -> None:
    p, q = random_table(vocab, seed=1), random_table(vocab, seed=2)
    assert loop_bias(p, q, verifier, FixedGamma(gamma), length=gamma + 1) < EXACT


@every_verifier
def test_supports_that_overlap_differently_after_each_prefix_are_exact(verifier: Verifier) -> None:
    # Two of four tokens in each row: the supports share two, one or no token.
    p, q = random_table(4, seed=3, zeros=2), random_table(4, seed=4, zeros=2)
    assert loop_bias(p, q, verifier, FixedGamma(3), length=4) < EXACT


@every_verifier
@pytest.mark.parametrize("script", [[0, 1, 2, 0], [2, 2, 2, 2], [1], []])
def test_trap_a_draft_without_probabilities_is_one_hot(
    verifier: Verifier, script: list[int]
) -> None:
    drafter = ScriptedDrafter(script)
    assert loop_bias(random_table(3, seed=12), drafter, verifier, FixedGamma(3), length=4) < EXACT


@every_verifier
def test_ngram_drafts_that_learn_from_the_output_are_exact(verifier: Verifier) -> None:
    drafter = NgramDrafter(NGramStorage(3, vocab_size=2), filler_top_k=2)
    assert loop_bias(random_table(2, seed=13), drafter, verifier, FixedGamma(3), length=4) < EXACT


@every_verifier
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
        pytest.param(WhimsicalPolicy(3, seed=2), id="random"),
    ],
)
def test_early_stopping_never_biases_the_output(verifier: Verifier, policy: GammaPolicy) -> None:
    p, q = random_table(2, seed=14), random_table(2, seed=15)
    assert loop_bias(p, q, verifier, policy, length=policy.budget + 1) < EXACT


@every_verifier
@pytest.mark.parametrize("sampler", SAMPLER_SPECS)
def test_filters_and_temperature_keep_the_loop_exact(verifier: Verifier, sampler: str) -> None:
    p, q = random_table(3, seed=16), random_table(3, seed=17)
    rule = SAMPLERS.create(sampler)
    assert loop_bias(p, q, verifier, FixedGamma(2), length=3, sampler=rule) < EXACT


@every_verifier
def test_a_first_step_without_a_draft_changes_nothing(verifier: Verifier) -> None:
    p, q = random_table(3, seed=18), random_table(3, seed=19)
    assert loop_bias(p, q, verifier, FixedGamma(2), length=3, first_target=True) < EXACT


@every_verifier
@pytest.mark.parametrize("eos", [(0,), (1,), (0, 2)])
def test_an_end_token_cuts_the_text_and_changes_no_probability(
    verifier: Verifier, eos: tuple[int, ...]
) -> None:
    p, q = random_table(3, seed=20), random_table(3, seed=21)
    assert loop_bias(p, q, verifier, FixedGamma(2), length=4, eos=eos) < EXACT


# --- mutants --------------------------------------------------------------------------------------

Law = Callable[[Verifier], None]
CAUGHT_BY: dict[str, Law] = {
    "redraw": test_the_token_that_differs_is_emitted_itself,
    "discard": test_a_drawn_token_is_never_discarded_for_its_own_probability,
    "break_block": test_a_failed_prefix_does_not_cost_a_longer_one_its_chance,
    "soft_one_hot": test_a_draft_that_was_not_drawn_is_one_hot,
    "wrong_q": test_a_draft_is_judged_by_the_distribution_it_was_drawn_from,
    "wrong_bonus_row": test_the_bonus_token_follows_the_whole_draft,
    "unscaled_residual": test_the_residual_is_what_acceptance_leaves_over,
}


@pytest.mark.parametrize("name", MUTANTS.names)
def test_each_mutant_breaks_the_law_named_for_it(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    law = CAUGHT_BY[name]
    with pytest.raises(AssertionError):
        law(MUTANTS.create(name))
    record_property("mutant caught", f"{name} by {law.__name__}")


def test_breaking_at_the_first_failure_loses_the_blocks_gain_too() -> None:
    law: Law = test_block_verification_keeps_eleven_ninths_of_the_toy_draft
    with pytest.raises(AssertionError):
        law(MUTANTS.create("break_block"))


def test_the_lossy_verifier_is_lossy_and_says_so() -> None:
    verifier = RejectionWithoutResidual()
    assert not verifier.is_lossless
    with pytest.raises(AssertionError):
        test_the_residual_is_what_acceptance_leaves_over(verifier)


def test_every_other_registered_verifier_is_lossless() -> None:
    lossy = [name for name in VERIFIERS.names if not VERIFIERS.get(name).is_lossless]
    assert lossy == ["rejection_without_residual"]
    assert not any(MUTANTS.get(name).is_lossless for name in MUTANTS.names)
