"""The speculative loop: draft, verify, accept — for every drafter, policy and verifier there is.

Leviathan et al. (2023), algorithm 1, with a memory that forgets: a model always holds everything
but the last token, so each pass is fed exactly what it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor

from foredraft.core import Draft, DraftStop, StepOutcome, StepRecord, Verdict
from foredraft.decoding.sequence import Sequence
from foredraft.drafting.base import Drafter
from foredraft.errors import ConfigError
from foredraft.gamma.base import GammaPolicy
from foredraft.logits import check_decides, likeliest, num_decided
from foredraft.models.base import LanguageModel
from foredraft.sampling.base import Sampler
from foredraft.sampling.rng import Rng
from foredraft.verification.base import Verifier

TARGET = "the target"


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
        clock: seconds now; another one replays a run at costs that are given.
    """

    target: LanguageModel
    drafter: Drafter
    policy: GammaPolicy
    verifier: Verifier
    sampler: Sampler
    first_target: bool = True
    clock: Callable[[], float] = perf_counter


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
    target, drafter, policy, clock = parts.target, parts.drafter, parts.policy, parts.clock
    drafter.start(sequence.prompt, rng)
    policy.start()
    plain = parts.first_target
    while not sequence.finished:
        begin = clock()
        draft = Draft([], stopped=DraftStop.FIRST_TARGET) if plain else _draft(parts, sequence)
        drafted = clock()
        unseen = sequence.tokens[target.length :] + draft.tokens
        logits = target.extend(unseen, keep=len(draft.tokens) + 1)  # [drafted + 1, vocab]
        verdict, target_probs = _judged(parts, draft, logits, rng, sequence.length)
        emitted = sequence.commit([*draft.tokens[: verdict.num_accepted], verdict.next_token])
        verify_begin = drafted + sequence.check_seconds
        target.rollback_to(sequence.length - 1)  # forget what was rejected
        drafter.observe(sequence.tokens, len(emitted), logits)
        outcome = StepOutcome(
            draft,
            verdict,
            target_probs,
            num_emitted=len(emitted),
            num_fed=len(unseen),
            draft_seconds=drafted - begin,
            verify_seconds=clock() - verify_begin,
            accepts_overlap=parts.verifier.accepts_overlap,
        )
        record = _record(outcome, emitted, policy)  # before the policy turns to the next step
        drafter.update(outcome)
        policy.update(outcome)
        yield replace(record, verify_seconds=clock() - verify_begin)
        plain = False


def _judged(
    parts: Speculation, draft: Draft, logits: Tensor, rng: Rng, position: int
) -> tuple[Verdict, Tensor | None]:
    """Return the verdict, and what the target draws from; None where it has but one choice.

    Args:
        parts: verifier and sampler.
        draft: `drafted` tokens.
        logits: the target's, `[drafted + 1, vocab]`.
        rng: see `speculative_steps`.
        position: of the first drafted token.

    Raises:
        ModelError: the row that decides the next token holds no number. Rows behind it, which
            answer what the text does not say, are allowed to be anything.
    """
    decided = num_decided(logits)
    sound = logits if decided == len(logits) else _silenced(logits, decided)
    if parts.sampler.is_greedy:
        target_probs = None
        verdict = parts.verifier.judge_greedy(draft, likeliest(sound), rng, position)
    else:
        target_probs = parts.sampler.probs(sound)  # [drafted + 1, vocab]
        verdict = parts.verifier.judge(draft, target_probs, rng, position)
    if verdict.num_accepted >= decided:
        check_decides(logits[decided : decided + 1], TARGET, parts.target.dtype)
    return verdict, target_probs


def _silenced(logits: Tensor, decided: int) -> Tensor:
    """Return the rows with zeros in place of those from the first that decides nothing."""
    sound = torch.zeros_like(logits)
    sound[:decided] = logits[:decided]
    return sound


def _draft(parts: Speculation, sequence: Sequence) -> Draft:
    """Ask the drafter for as many tokens as the policy wants and the sequence has room for."""
    # One token always comes from the target, so a draft never needs the last place.
    budget, room = parts.policy.budget, sequence.room - 1
    gamma = min(budget, room)
    if gamma <= 0:
        return Draft([], stopped=DraftStop.POLICY if budget <= 0 else DraftStop.ROOM)
    draft = parts.drafter.propose(sequence.tokens, gamma, parts.policy)
    if draft.stopped is not None:
        return draft
    at_bound = DraftStop.GAMMA if budget <= room else DraftStop.ROOM
    return replace(draft, stopped=at_bound if len(draft.tokens) == gamma else DraftStop.UNKNOWN)


def _record(outcome: StepOutcome, emitted: list[int], policy: GammaPolicy) -> StepRecord:
    draft = outcome.draft
    return StepRecord(
        drafted=draft.tokens,
        num_accepted=min(outcome.verdict.num_accepted, len(emitted)),
        emitted=emitted,
        draft_seconds=outcome.draft_seconds,
        verify_seconds=outcome.verify_seconds,
        num_draft_calls=draft.num_calls,
        normalized_entropy=policy.normalized_entropy,
        raw_gamma=policy.raw_gamma,
        stopped=draft.stopped,
    )
