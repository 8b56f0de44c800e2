"""Advise: does speculation pay on this machine, with which drafter and gamma, and how much?

Three measurements: the loop's costs, plainly and with every drafter, turn by turn; how many draft
tokens the target keeps on the given prompts, by position; and, for the best candidate and `auto`,
their speed beside plain decoding. Between them stands the replay: the loop itself on the recorded
outputs, at the measured costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from foredraft.bench.advice import WORTH_IT, Advice, Candidate, break_even
from foredraft.bench.machine import describe_machine
from foredraft.bench.recordings import Recording
from foredraft.bench.replay import Replay, Replayed
from foredraft.bench.timed import Seconds
from foredraft.bench.timing import (
    AUTO,
    GAMMAS,
    MODEL,
    ROUNDS,
    Run,
    Runner,
    Timing,
    measure,
    speedups,
)
from foredraft.config import DecodingConfig
from foredraft.core import StepRecord
from foredraft.engine import Engine
from foredraft.ranges import LONGEST_DRAFT, Count, DraftLength, Length, checked
from foredraft.tracing import summarize
from foredraft.translation import Translation, translation_between

HYBRID = "hybrid(suffix, model)"
WITHOUT_MODEL = ("prompt_lookup", "suffix", "ngram")
PLAYED = 1 + ROUNDS  # times that `auto` plays all recordings: as often as it is measured


def advise(
    engine: Engine,
    prompts: Sequence[str],
    *,
    length: int = 60,
    num_speculative_tokens: int = 8,
    repeats: int = 5,
    chat: bool = False,
    clock: Callable[[], float] = perf_counter,
) -> Advice:
    """Measure a target, and its draft model if there is one, and say what to do with it.

    The prompts, at least one, are like those it will serve; a text has `length` tokens at most,
    acceptance is known at K = `num_speculative_tokens` positions, and the clock gives seconds.

    Raises:
        ConfigError: a number is out of range.
        ModelError: a measurement is zero or no finite number.
    """
    num_speculative_tokens = checked("K", num_speculative_tokens, DraftLength)
    repeats = checked("repeats", repeats, Count)
    config = DecodingConfig(length=checked("length", length, Length), chat=chat)
    draft_model = engine.drafter.model if engine.drafter else None
    without, weighed = _weighed(engine, prompts, Runner(engine, config, clock), config, repeats)
    timing = weighed.timing
    copies = _sorted(one for drafting in WITHOUT_MODEL for one in without.fixed(drafting))
    subject = _with_model(weighed) if draft_model is not None else copies
    auto, plain_auto = weighed.auto(), without.auto()
    beside = Runner(engine, config, clock)  # in which nothing has been learned
    measured = speedups(beside, prompts, [(subject[0].drafting, subject[0].gamma), (AUTO, None)])
    best, auto = (
        replace(one, measured_speedup=speed)
        for one, speed in zip((subject[0], auto), measured, strict=True)
    )
    tested = best.drafting if draft_model is None else MODEL
    records, seconds = weighed.drafts(tested, num_speculative_tokens), weighed.seconds(tested)
    alternative = max(copies[0], plain_auto, key=_speedup)
    # A draft model must be worth more than doing without it, and not only than plain decoding.
    is_best = draft_model is None or best.speedup >= alternative.speedup
    is_better = draft_model is None or auto.speedup >= WORTH_IT * plain_auto.speedup
    verify = timing.costs.verify
    advice = Advice(
        engine.target.name,
        engine.drafter.name if engine.drafter else None,
        describe_machine(),
        {k: seconds(k) for k in GAMMAS},
        {k: verify(k) for k in (0, *GAMMAS)},
        break_even(seconds, verify, GAMMAS),
        _acceptance(records, num_speculative_tokens),
        summarize(records).conditional_acceptance_rate or 0.0,
        _sorted([auto, *copies, *(subject if draft_model is not None else ())]),
        best,
        auto,
        pays=(best.is_worth_it and is_best) or (auto.is_worth_it and is_better),
        alternative=alternative if draft_model is not None and alternative.is_worth_it else None,
    )
    # A gain that the acceptance does not explain is not the drafter's.
    return replace(advice, pays=advice.pays and advice.break_even <= min(1.0, advice.seen))


def _weighed(
    engine: Engine, prompts: Sequence[str], runner: Runner, config: DecodingConfig, repeats: int
) -> tuple[_Weighed, _Weighed]:
    """Return what is weighed without the draft model, and with it: the same if there is none."""
    draft_model = engine.drafter.model if engine.drafter else None
    draftings = [*((MODEL, HYBRID) if draft_model else ()), *WITHOUT_MODEL, AUTO]
    timing, runs = measure(runner, prompts, draftings, repeats)
    recordings = [Recording(run.prompt, run.tokens, config.length, run.begin) for run in runs]
    without = _Weighed(Replay(recordings, costs=timing.costs), timing, runs)
    if draft_model is None:
        return without, without
    replay = Replay(
        recordings,
        costs=timing.costs,
        draft_model=draft_model,
        translation=_translation(engine),
        target=engine.target.model,
    )
    return without, _Weighed(replay, timing, runs)


def _translation(engine: Engine) -> Translation | None:
    if engine.drafter is None:
        return None
    return translation_between(engine.target.tokenizer, engine.drafter.tokenizer)


@dataclass(frozen=True)
class _Weighed:
    """A replay whose speeds are told in those of plain decoding."""

    replay: Replay
    timing: Timing
    runs: Sequence[Run]

    def fixed(self, drafting: str) -> list[Candidate]:
        """Return a drafter at every gamma, the best first."""
        policies = [f"fixed(gamma={gamma})" for gamma in GAMMAS]
        overhead = self.timing.overhead(drafting)
        played = self.replay.play(drafting, policies, overhead=overhead)
        pairs = zip(GAMMAS, played, strict=True)
        return _sorted(self._candidate(one, gamma) for gamma, one in pairs)

    def auto(self) -> Candidate:
        """Return what chooses by itself."""
        policy, overhead = f"fixed(gamma={LONGEST_DRAFT})", self.timing.overhead(AUTO)
        (one,) = self.replay.play(AUTO, [policy], overhead=overhead, times=PLAYED)
        return self._candidate(one, None)

    def drafts(self, drafting: str, gamma: int) -> list[StepRecord]:
        """Return the steps of a drafter at one gamma."""
        (one,) = self.replay.play(drafting, [f"fixed(gamma={gamma})"])
        return [record for records in one.records for record in records]

    def seconds(self, drafting: str) -> Seconds:
        """Return D(k) of a drafter, with what it takes besides the draft model."""
        own, draft = self.timing.overhead(drafting).step, self.timing.costs.draft
        return lambda count: own + (draft(count) if drafting == MODEL else 0.0)

    def _candidate(self, one: Replayed, gamma: int | None) -> Candidate:
        costs = self.replay.costs
        plain = sum(
            costs.read(len(run.prompt)) + len(run.tokens) * costs.verify(0) for run in self.runs
        )
        length = one.to_dict()["mean_acceptance_length"]
        return Candidate(one.drafting, gamma, length, plain / one.seconds)


def _with_model(weighed: _Weighed) -> list[Candidate]:
    """Return what drafts with the model; a hybrid whose model does not pay burdens retrieval."""
    model = weighed.fixed(MODEL)
    hybrid = weighed.fixed(HYBRID) if model[0].speedup >= WORTH_IT else []
    return _sorted([*model, *hybrid])


def _sorted(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=_speedup, reverse=True)


def _speedup(candidate: Candidate) -> float:
    return candidate.speedup


def _acceptance(records: Sequence[StepRecord], positions: int) -> tuple[float, ...]:
    """Return α by position: kept / tested, where all before were kept; untested: none kept."""
    alphas = []
    for i in range(positions):
        # A block that an end token cut tested no more than it kept.
        reached = [r for r in records if r.gamma > i and r.num_accepted >= i]
        tested = [r.num_accepted > i for r in reached if r.num_accepted > i or r.is_rejection]
        alphas.append(sum(tested) / len(tested) if tested else 0.0)
    return tuple(alphas)
