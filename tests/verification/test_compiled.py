"""Verdicts in C and their readable twins: the same verdicts by the same numbers.

Every leaf of the laws' enumeration is tried: a number in the middle of each decision's interval.
"""

from __future__ import annotations

import ctypes
import itertools
import random

import pytest
import torch
from torch import Tensor

from foredraft.checks.mutants import MUTANTS
from foredraft.choices import Dense, OneHot
from foredraft.core import Draft, Verdict
from foredraft.native.sampling import Filtered
from foredraft.sampling import MultinomialSampler, Rng, rng_for
from foredraft.sampling.rng import inverse_transform
from foredraft.verification import VERIFIERS, Verifier
from tests.blocks import PAIRS, SAMPLER_SPECS, VOCAB_FOR_GAMMA, drafts, target_rows
from tests.enumeration import EnumeratedRandomness, enumerate_outcomes
from tests.native.test_fused import needs_a_compiler
from tests.sampling.test_compiled import KINDS, logits_like, processor, random_sampler

pytestmark = needs_a_compiler
assert processor  # a fixture that every test here gets

NAMES = ("rejection", "rejection_without_residual", "exact_match", "block")
CASES = 700  # random steps a verifier is tried on
every_verifier = pytest.mark.parametrize("name", NAMES)


class Midpoints(EnumeratedRandomness):
    """Notes, for each decision it takes, the middle of the numbers that decide so."""

    def __init__(self, script: list[int]) -> None:
        super().__init__(script)
        self.uniforms: list[float] = []

    def _choose(self, chances: list[float]) -> int:
        choice = super()._choose(chances)
        self.uniforms.append(sum(chances[:choice]) + chances[choice] / 2)
        return choice

    def accepts(self, probability: float) -> bool:
        accepted = super().accepts(probability)
        self.uniforms[-1] = probability / 2 if accepted else (1 + probability) / 2
        return accepted


def judged_by(
    verifier: Verifier, draft: Draft, target: Filtered, uniforms: list[float]
) -> tuple[Verdict, int]:
    """Return the verdict for these numbers, and how many of them were used up."""
    rng = Rng(0)
    rng._ahead.extend([*uniforms, *[0.5] * len(draft.tokens)])  # looked at, and not used
    verdict = verifier.judge(draft, target, rng, 0)
    return verdict, len(uniforms) + len(draft.tokens) - len(rng._ahead)


def leaves(verifier: Verifier, draft: Draft, target: Filtered) -> dict[Verdict, float]:
    """Return the distribution of C's verdicts; raise where one is not the readable rule's."""
    found: dict[Verdict, float] = {}
    scripts: list[list[int]] = [[]]
    while scripts:
        rng = Midpoints(scripts.pop())
        expected = verifier.judge(draft, Dense(target.probs), rng, 0)
        scripts += rng.untried
        if rng.probability < 1e-6:  # rounding makes these, and unmakes them
            continue
        assert judged_by(verifier, draft, target, rng.uniforms) == (expected, len(rng.uniforms))
        found[expected] = found.get(expected, 0.0) + rng.probability
    return found


def filtered_like(probs: Tensor) -> Filtered:
    """Return choices of these probabilities."""
    choices, _ = MultinomialSampler().choices(probs.log().float())
    assert isinstance(choices, Filtered)
    return choices


def single(draft: Draft) -> Draft:
    if isinstance(draft.choices, OneHot):
        return draft
    assert isinstance(draft.choices, Dense)
    return Draft(draft.tokens, Dense(draft.choices.probs.float()))


@pytest.mark.parametrize("sampler", SAMPLER_SPECS[1:])
@pytest.mark.parametrize("gamma", [gamma for gamma in VOCAB_FOR_GAMMA if gamma < 4])
@every_verifier
def test_every_leaf_of_the_laws_is_the_same_verdict(name: str, gamma: int, sampler: str) -> None:
    for pair, stopping in itertools.product(PAIRS, ("none", "after-token")):
        for draft, _ in drafts(pair, gamma, sampler, stopping):
            rows = target_rows(pair, gamma, sampler, tuple(draft.tokens))
            leaves(VERIFIERS.create(name), single(draft), filtered_like(rows))


@pytest.mark.parametrize(("name", "kept"), [("rejection", 10 / 9), ("block", 11 / 9)])
def test_the_toy_draft_keeps_what_it_keeps(name: str, kept: float) -> None:
    q = torch.tensor([[2 / 3, 1 / 3]] * 2)
    target = filtered_like(torch.tensor([[1 / 3, 2 / 3]] * 3))
    mean = 0.0
    for tokens in itertools.product(range(2), repeat=2):
        chance = float(q[0, tokens[0]] * q[1, tokens[1]])
        verdicts = leaves(VERIFIERS.create(name), Draft(list(tokens), Dense(q)), target)
        mean += chance * sum(verdict.num_accepted * p for verdict, p in verdicts.items())
    assert mean == pytest.approx(kept, abs=1e-6)


def random_step(source: random.Random) -> tuple[Draft, Filtered, Tensor]:
    """Return a draft, the target's choices after its prefixes, and its readable probabilities."""
    gamma, vocab = source.randint(0, 6), source.choice([1, 2, 5, 255, 256, 257, 1000])
    sampler = random_sampler(source, vocab)
    logits = logits_like(source.choice(KINDS), source, gamma + 1, vocab)
    target, _ = sampler.choices(logits)
    assert isinstance(target, Filtered)
    near = logits[:-1] + source.choice([0.0, 0.1, 3.0]) * torch.randn(gamma, vocab)
    q = sampler.probs(near)
    tokens = [inverse_transform(row, source.random()) for row in q]
    is_drawn = gamma and source.random() < 0.8
    return Draft(tokens, Dense(q) if is_drawn else None), target, sampler.probs(logits)


@every_verifier
def test_random_steps_are_judged_alike_and_use_the_same_numbers(name: str) -> None:
    verifier, source = VERIFIERS.create(name), random.Random(name)
    torch.manual_seed(1)
    asked, seen = Rng(1), Rng(1)
    apart = kept = 0
    for step in range(CASES):
        draft, target, probs = random_step(source)
        untouched = verifier.judge(draft, target, seen, step)
        assert untouched == verifier.judge(draft, Dense(target.probs), asked, step)
        assert seen.ahead(2) == asked.ahead(2)
        kept += untouched.num_accepted
        # The rule on torch's own probabilities differs where a number falls between roundings.
        again = Rng(step), Rng(step)
        apart += verifier.judge(draft, target, again[0], step) != verifier.judge(
            draft, Dense(probs), again[1], step
        )
    assert kept > CASES / 4
    assert apart <= 2


@every_verifier
def test_rows_behind_the_one_that_decides_are_not_made(name: str) -> None:
    q = torch.tensor([[0.0, 1.0, 0.0]] * 3)
    target = filtered_like(torch.tensor([[0.5, 0.0, 0.5]] * 4))
    verdict = VERIFIERS.create(name).judge(Draft([1, 1, 1], Dense(q)), target, Rng(0), 0)
    assert verdict.num_accepted == 0
    counts = (ctypes.c_int64 * 4).from_address(target._structure.counts)
    made = 3 if name == "block" else 1  # a block is judged as a whole
    assert [count >= 0 for count in counts] == [i < made for i in range(4)]


@pytest.mark.parametrize("name", MUTANTS.names)
def test_mutants_are_as_wrong_as_they_were(name: str) -> None:
    verifier = MUTANTS.create(name)
    for pair in ("prefix-dependent", "no-probabilities", "draft-one-hot"):
        for draft, _ in drafts(pair, 2, SAMPLER_SPECS[1], "none"):
            rows = target_rows(pair, 2, SAMPLER_SPECS[1], tuple(draft.tokens))
            target, draft = filtered_like(rows), single(draft)
            mine, theirs = (
                enumerate_outcomes(lambda rng, t=t, d=draft: verifier.judge(d, t, rng, 0))
                for t in (target, Dense(target.probs))
            )
            assert mine == theirs


def test_what_c_cannot_read_is_judged_by_the_readable_rule() -> None:
    target = filtered_like(torch.tensor([[0.3, 0.3, 0.4]] * 3))
    wide = Dense(torch.full((2, 3), 1 / 3, dtype=torch.float64))
    verifier = VERIFIERS.create("rejection")
    for draft in (Draft([0, 1], wide), Draft([2, 2], Dense(wide.probs.float().T.contiguous().T))):
        for seed in range(20):
            expected = verifier.judge(draft, Dense(target.probs), Rng(seed), 0)
            assert verifier.judge(draft, target, Rng(seed), 0) == expected
    coupled, draft = VERIFIERS.create("coupled"), Draft([0, 1])
    for seed in range(20):
        one, other = (
            coupled.judge(draft, t, rng_for(seed, keyed=True), 4)
            for t in (target, Dense(target.probs))
        )
        assert one == other
