"""The speculative loop: draft, verify, accept — for every drafter, policy and verifier there is.

Leviathan et al. (2023), algorithm 1, with a memory that forgets: a model always holds everything
but the last token, so each pass is fed exactly what it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from torch import Tensor

from specdec.core import Draft, StepRecord, Verdict
from specdec.decoding.sequence import Sequence
from specdec.drafting.base import Drafter
from specdec.errors import ConfigError
from specdec.gamma.base import GammaPolicy
from specdec.models.base import LanguageModel
from specdec.sampling.base import Sampler
from specdec.sampling.rng import Rng
from specdec.verification.base import Verifier


@dataclass(frozen=True)
class Speculation:
    """The parts of a speculative loop.

    Attributes:
        target: the model whose distribution is preserved.
        drafter: proposes.
        policy: decides how many.
        verifier: accepts or rejects.
        sampler: decides the distributions, for drafter and target alike.
        first_target: let the target decode the first token alone; the prompt is then paid for
            before any draft, and the drafter may learn from its logits.
    """

    target: LanguageModel
    drafter: Drafter
    policy: GammaPolicy
    verifier: Verifier
    sampler: Sampler
    first_target: bool = True


def speculative_steps(parts: Speculation, sequence: Sequence, rng: Rng) -> Iterator[StepRecord]:
    """Decode until the sequence is finished; yield one record a step.

    Args:
        parts: what to decode with; the target is started with the sequence's prompt.
        sequence: grows in place.
        rng: source of randomness of drafter and verifier, in the order of their decisions; keyed
            by position if and only if the verifier is coupled.

    Raises:
        ConfigError: verifier and rng do not fit; the output would be biased, or not coupled.
    """
    if parts.verifier.is_coupled != rng.is_keyed:
        raise ConfigError(
            f"{type(parts.verifier).__name__} cannot be used with {type(rng).__name__}; "
            "make the source of randomness with rng_for(seed, keyed=verifier.is_coupled)"
        )
    target, drafter, policy = parts.target, parts.drafter, parts.policy
    drafter.start(sequence.prompt, rng)
    policy.start()
    plain = parts.first_target
    while not sequence.finished:
        begin = perf_counter()
        # One token always comes from the target, so a draft never needs the last place.
        gamma = 0 if plain else min(policy.budget, sequence.room - 1)
        draft = drafter.propose(sequence.tokens, gamma, policy) if gamma > 0 else Draft([])
        drafted = perf_counter()
        unseen = sequence.tokens[target.length :] + draft.tokens
        logits = target.extend(unseen, keep=len(draft.tokens) + 1)  # [drafted + 1, vocab]
        verdict = _judge(parts, draft, logits, rng, sequence.length)
        emitted = sequence.commit([*draft.tokens[: verdict.num_accepted], verdict.next_token])
        target.rollback_to(sequence.length - 1)  # forget what was rejected
        drafter.observe(sequence.tokens, len(emitted), logits)
        policy.update(draft, verdict)
        yield _record(draft, verdict, emitted, drafted - begin, perf_counter() - drafted)
        plain = False


def _judge(parts: Speculation, draft: Draft, logits: Tensor, rng: Rng, position: int) -> Verdict:
    """Verify; greedy distributions are one-hot and need not be made."""
    if parts.sampler.is_greedy:
        choices: list[int] = logits.argmax(-1).tolist()  # [drafted + 1]
        return parts.verifier.judge_greedy(draft, choices, rng, position)
    target_probs = parts.sampler.probs(logits)  # [drafted + 1, vocab]
    return parts.verifier.judge(draft, target_probs, rng, position)


def _record(
    draft: Draft,
    verdict: Verdict,
    emitted: list[int],
    draft_seconds: float,
    verify_seconds: float,
) -> StepRecord:
    return StepRecord(
        drafted=draft.tokens,
        num_accepted=min(verdict.num_accepted, len(emitted)),
        emitted=emitted,
        draft_seconds=draft_seconds,
        verify_seconds=verify_seconds,
        num_draft_calls=draft.num_calls,
        normalized_entropy=draft.normalized_entropy,
        raw_gamma=draft.raw_gamma,
    )
