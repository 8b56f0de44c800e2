"""Blocks: every pair of tables, sampler, stopping rule and gamma, walked draft by draft.

The real drafter drafts under a real policy, the real verifier judges; what one round leaves open is
completed with the target's own probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from foredraft.choices import Dense
from foredraft.core import Draft
from foredraft.drafting import Drafter, DraftModelDrafter
from foredraft.drafting.base import Beginning
from foredraft.gamma import ConfidenceGamma, EntropyGamma, FixedGamma, GammaPolicy
from foredraft.models import TableModel
from foredraft.sampling import SAMPLERS, Rng
from foredraft.verification import Verifier
from tests.doubles import ScriptedDrafter, ScriptedPolicy, Table, WhimsicalPolicy, random_table
from tests.enumeration import (
    Distribution,
    enumerate_outcomes,
    target_distribution,
    total_variation,
)

PROMPT = [0, 1]
SAMPLER_SPECS = (
    "greedy",
    "multinomial(temperature=0.7)",
    "topk(temperature=1.0, top_k=2)",
    "nucleus(temperature=1.4, top_p=0.8)",
    "topknucleus(temperature=0.9, top_k=3, top_p=0.9)",
)
# gamma → policy
STOPPING_RULES: dict[str, Callable[[int], GammaPolicy]] = {
    "none": FixedGamma,
    "before-token": lambda gamma: ScriptedPolicy(gamma, before=gamma - 1),
    "after-token": lambda gamma: ScriptedPolicy(gamma, after=max(1, gamma - 1)),
    "confidence": lambda gamma: ConfidenceGamma(threshold=0.45, gamma=gamma),
    "entropy": lambda gamma: EntropyGamma(1, gamma),
    "random": lambda gamma: WhimsicalPolicy(gamma, seed=0),
    "random-2": lambda gamma: WhimsicalPolicy(gamma, seed=1),
}
VOCAB_FOR_GAMMA = {1: 5, 2: 4, 3: 3, 4: 3}  # gamma → tokens, so that every path can be walked


def one_hot(table: Table) -> Table:
    """Return the table with all mass on each row's likeliest token."""
    return lambda tokens: [float(p == max(table(tokens))) for p in table(tokens)]


def halves(vocab: int, *, upper: bool) -> Table:
    """Return a constant table over one half of the vocabulary."""
    size = vocab // 2 if not upper else vocab - vocab // 2
    never = [0.0] * (vocab - size)
    row = [1 / size] * size
    return lambda tokens: never + row if upper else row + never


# name → vocab → target, drafter; all but the last two differ after every prefix
PAIRS: dict[str, Callable[[int], tuple[Table, Table | None]]] = {
    "prefix-dependent": lambda v: (random_table(v, seed=1), random_table(v, seed=2)),
    "draft-one-hot": lambda v: (random_table(v, seed=3), one_hot(random_table(v, seed=4))),
    "target-one-hot": lambda v: (one_hot(random_table(v, seed=5)), random_table(v, seed=6)),
    "equal": lambda v: (random_table(v, seed=7), random_table(v, seed=7)),
    "target-zeros": lambda v: (random_table(v, seed=8, zeros=1), random_table(v, seed=9)),
    "draft-zeros": lambda v: (random_table(v, seed=10), random_table(v, seed=11, zeros=1)),
    "both-zeros": lambda v: (
        random_table(v, seed=12, zeros=v // 2),
        random_table(v, seed=13, zeros=v // 2),
    ),
    "disjoint": lambda v: (halves(v, upper=False), halves(v, upper=True)),
    "no-probabilities": lambda v: (random_table(v, seed=14), None),
}


@cache
def target_of(pair: str, gamma: int) -> TableModel:
    return TableModel(PAIRS[pair](VOCAB_FOR_GAMMA[gamma])[0])


@cache
def target_rows(pair: str, gamma: int, sampler: str, tokens: tuple[int, ...]) -> torch.Tensor:
    """Return the target's distributions after each prefix of a draft, `[drafted + 1, vocab]`."""
    model, prompt = target_of(pair, gamma), tuple(PROMPT)
    rows = [model.next_probs((*prompt, *tokens[:i])) for i in range(len(tokens) + 1)]
    logits = torch.tensor(rows, dtype=torch.float64).log()
    return SAMPLERS.create(sampler).probs(logits)


@cache
def expected(pair: str, gamma: int, sampler: str) -> Distribution:
    model = target_of(pair, gamma)
    return target_distribution(model, SAMPLERS.create(sampler), PROMPT, gamma + 1)


def drafter_of(pair: str, gamma: int, sampler: str) -> Drafter:
    table = PAIRS[pair](VOCAB_FOR_GAMMA[gamma])[1]
    if table is None:
        return ScriptedDrafter([1, 0, 0, 1])
    return DraftModelDrafter(TableModel(table), SAMPLERS.create(sampler))


@cache
def drafts(pair: str, gamma: int, sampler: str, stopping: str) -> list[tuple[Draft, float]]:
    """Return every draft there can be with its probability."""
    drafter, policy = drafter_of(pair, gamma, sampler), STOPPING_RULES[stopping](gamma)
    seen: dict[tuple[int, ...], Draft] = {}

    def run(rng: Rng) -> tuple[int, ...]:
        drafter.start(Beginning(PROMPT, rng))
        policy.start()
        draft = drafter.propose(PROMPT, gamma, policy)
        return tuple(seen.setdefault(tuple(draft.tokens), draft).tokens)

    return [(seen[tokens], chance) for tokens, chance in enumerate_outcomes(run).items()]


def judged(verifier: Verifier, draft: Draft, rows: torch.Tensor, rng: Rng) -> tuple[int, ...]:
    """Return the tokens that a verdict emits."""
    verdict = verifier.judge(draft, Dense(rows), rng, len(PROMPT))
    return (*draft.tokens[: verdict.num_accepted], verdict.next_token)


def block_distribution(
    verifier: Verifier, pair: str, gamma: int, sampler: str, stopping: str
) -> Distribution:
    """Return the exact distribution of what one round emits: 1 to gamma + 1 tokens."""
    if verifier.is_coupled:  # draft and verdict share their noise: one enumeration for both
        drafter, policy = drafter_of(pair, gamma, sampler), STOPPING_RULES[stopping](gamma)

        def run(rng: Rng) -> tuple[int, ...]:
            drafter.start(Beginning(PROMPT, rng))
            policy.start()
            draft = drafter.propose(PROMPT, gamma, policy)
            return judged(
                verifier, draft, target_rows(pair, gamma, sampler, tuple(draft.tokens)), rng
            )

        return enumerate_outcomes(run, keyed=True)
    emitted: Distribution = {}
    for draft, chance in drafts(pair, gamma, sampler, stopping):
        rows = target_rows(pair, gamma, sampler, tuple(draft.tokens))
        outcomes = enumerate_outcomes(lambda rng: judged(verifier, draft, rows, rng))  # noqa: B023
        for tokens, probability in outcomes.items():
            emitted[tokens] = emitted.get(tokens, 0.0) + chance * probability
    return emitted


def completed(emitted: Distribution, pair: str, gamma: int, sampler: str) -> Distribution:
    """Return the distribution of gamma + 1 tokens, those not emitted drawn from the target."""
    for length in range(1, gamma + 1):
        for tokens in [t for t in emitted if len(t) == length]:
            chance = emitted.pop(tokens)
            row = target_rows(pair, gamma, sampler, tokens)[-1].tolist()
            for token, probability in enumerate(row):
                text = (*tokens, token)
                emitted[text] = emitted.get(text, 0.0) + chance * probability
    return emitted


def block_bias(verifier: Verifier, pair: str, gamma: int, sampler: str, stopping: str) -> float:
    """Return the total variation between gamma + 1 tokens and the target's own."""
    emitted = block_distribution(verifier, pair, gamma, sampler, stopping)
    text = completed(emitted, pair, gamma, sampler)
    return total_variation(text, expected(pair, gamma, sampler))


def mean_accepted(verifier: Verifier, pair: str, gamma: int, sampler: str, stopping: str) -> float:
    emitted = block_distribution(verifier, pair, gamma, sampler, stopping)
    return sum((len(tokens) - 1) * chance for tokens, chance in emitted.items())
