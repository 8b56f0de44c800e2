"""Through the real loop: chi-square tests of what tiny random Hugging Face models say.

Each test draws the first three tokens many times, and compares the counts of the fifteen likeliest
texts and of all others with the probabilities that uncached passes of the target give. The level,
a chance of 1e-3 of any false alarm, is shared by the cases of a test; it was fixed before the seeds
were tried, the seeds are fixed (sample i has seed i), and nothing is reseeded inside the loop. The
sizes follow from the bias to be found with probability 0.99.
"""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache

import pytest
import torch

from foredraft.checks.mutants import MUTANTS
from foredraft.checks.remembered import Remembered
from foredraft.checks.statistics import chi_square, detectable_total_variation, p_value
from foredraft.decoding import Request, Speculation, speculative_steps
from foredraft.drafting import Drafter, DraftModelDrafter, NgramDrafter, NGramStorage
from foredraft.gamma import GAMMA_POLICIES, FixedGamma, GammaPolicy, HeuristicGamma
from foredraft.loading import fit_drafter, fit_target
from foredraft.models import Network
from foredraft.sampling import MultinomialSampler, rng_for
from foredraft.verification import VERIFIERS
from tests.tiny import build, full_logits, noisy

VOCAB, LENGTH, CELLS = 16, 3, 16
PROMPT = [3, 1, 4, 3, 1, 4, 3]
SAMPLER = MultinomialSampler(temperature=0.7)
LOSSLESS = [name for name in VERIFIERS.names if VERIFIERS.get(name).is_lossless]
ARCHITECTURES = ("llama", "llama:native", "gpt2", "t5")
CASES = list(itertools.product(ARCHITECTURES, ("model", "ngram"), LOSSLESS))
LEVEL = 1e-3


def is_quick(architecture: str, drafting: str, verifier: str) -> bool:
    """Whether a case is one of the default tests: every verifier, and n-grams and T5 with one."""
    if architecture == "llama:native":
        return drafting == "model" or verifier == "rejection"
    return (architecture, drafting, verifier) == ("t5", "model", "rejection")


every_case = pytest.mark.parametrize(
    ("architecture", "drafting", "verifier"),
    [pytest.param(*c, marks=[] if is_quick(*c) else [pytest.mark.slow]) for c in CASES],
)


@cache
def law(architecture: str) -> dict[tuple[int, ...], float]:
    """Return the probability of every text of `LENGTH` tokens, from passes without a cache."""
    model, texts = build(architecture, vocab_size=VOCAB), {(): 1.0}
    begin = fit_target(model).open(PROMPT).begin
    for _ in range(LENGTH):
        logits = [full_logits(model, [*begin, *text], PROMPT)[-1] for text in texts]
        probs = SAMPLER.probs(torch.stack(logits)).double()
        texts = {
            (*text, token): chance * p
            for (text, chance), row in zip(texts.items(), probs.tolist(), strict=True)
            for token, p in enumerate(row)
        }
    return texts


def parts(
    architecture: str,
    drafting: str,
    verifier: str,
    *,
    remember: bool,
    policy: GammaPolicy | None = None,
) -> Speculation:
    def seen(model: Network) -> Network:
        return Remembered(model) if remember else model

    network = build(architecture, vocab_size=VOCAB)
    target = fit_target(network, network.runtime)
    drafter: Drafter = NgramDrafter(NGramStorage(3, VOCAB), stop_if_unknown=True)
    if drafting == "model":
        small = noisy(architecture, noise=0.3, vocab_size=VOCAB)
        draft_model = fit_drafter(small, target, small.runtime)
        drafter = DraftModelDrafter(seen(draft_model), SAMPLER)
    registry = MUTANTS if verifier in MUTANTS.names else VERIFIERS
    policy = policy or (FixedGamma(2) if drafting == "model" else HeuristicGamma(2))
    return Speculation(seen(target), drafter, policy, registry.create(verifier), SAMPLER, False)


def sampled_p_value(decoding: Speculation, architecture: str, samples: int) -> float:
    """Draw, count in cells, and return the p-value."""
    counted: Counter[tuple[int, ...]] = Counter()
    for seed in range(samples):
        rng = rng_for(seed, keyed=decoding.verifier.is_coupled)
        request = Request(decoding.target.open(PROMPT), rng, max_new_tokens=LENGTH)
        for _ in speculative_steps(decoding, request):
            pass
        counted[tuple(request.output)] += 1
    chances = law(architecture)
    likeliest = sorted(chances, key=lambda text: -chances[text])[: CELLS - 1]
    observed = [counted[text] for text in likeliest]
    expected = [samples * chances[text] for text in likeliest]
    observed.append(samples - sum(observed))
    expected.append(samples - sum(expected))
    assert min(expected) >= 50  # below, the chi-square law is too poor for so low a level
    return p_value(chi_square(observed, expected), CELLS - 1)


def level_for(bias: float, samples: int, cases: int) -> float:
    """Return the level of one of several cases; raise unless `bias` would be found at it."""
    level = LEVEL / cases
    assert detectable_total_variation(samples, CELLS - 1, level) <= bias
    return level


@every_case
def test_a_bias_of_five_hundredths_would_be_found(
    architecture: str, drafting: str, verifier: str
) -> None:
    level = level_for(0.05, samples := 6900, len(CASES))
    decoding = parts(architecture, drafting, verifier, remember=True)
    assert sampled_p_value(decoding, architecture, samples) >= level


@pytest.mark.slow
@every_case
def test_a_bias_of_two_hundredths_would_be_found(
    architecture: str, drafting: str, verifier: str
) -> None:
    level = level_for(0.02, samples := 43_000, len(CASES))
    decoding = parts(architecture, drafting, verifier, remember=True)
    assert sampled_p_value(decoding, architecture, samples) >= level


@pytest.mark.slow
@every_case
def test_so_it_would_with_every_pass_computed_through_the_caches(
    architecture: str, drafting: str, verifier: str
) -> None:
    level = level_for(0.05, samples := 6900, len(CASES))
    decoding = parts(architecture, drafting, verifier, remember=False)
    assert sampled_p_value(decoding, architecture, samples) >= level


@pytest.mark.parametrize("verifier", ["rejection", "block"])
@pytest.mark.parametrize("policy", GAMMA_POLICIES.names)
def test_so_it_would_under_every_policy_where_c_draws_whole_strides(
    policy: str, verifier: str
) -> None:
    level = level_for(0.05, samples := 6900, 2 * len(GAMMA_POLICIES.names))
    rule = GAMMA_POLICIES.create(policy)
    decoding = parts("llama:native", "model", verifier, remember=False, policy=rule)
    assert sampled_p_value(decoding, "llama:native", samples) >= level


@pytest.mark.parametrize(
    ("drafting", "mutant"),
    [
        ("model", "redraw"),
        *(
            pytest.param("model", name, marks=pytest.mark.slow)
            for name in ("discard", "wrong_q", "wrong_bonus_row")
        ),
    ],
)
def test_a_mutant_is_found_by_the_same_test(drafting: str, mutant: str) -> None:
    level = level_for(0.05, samples := 6900, len(CASES))
    decoding = parts("llama", drafting, mutant, remember=True)
    assert sampled_p_value(decoding, "llama", samples) < level
