"""Advise: does speculation pay on this machine, with which drafter and gamma, and how much?

Three measurements: seconds of a draft call and of a pass that verifies k tokens, turn by turn; how
many draft tokens the target keeps on the given prompts, by position; and, for the best candidate,
its speed beside plain decoding. Between them stands the replay: the loop itself on the recorded
outputs, at the measured costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from operator import mul
from statistics import median
from time import perf_counter

from foredraft.bench.recordings import Recording
from foredraft.bench.replay import CostTable, Replay
from foredraft.bench.timing import GAMMAS, checked_medians, measure_costs
from foredraft.config import DecodingConfig
from foredraft.core import Completion
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.files import Json
from foredraft.ranges import Count, DraftLength, Length, checked
from foredraft.tracing import summarize

WITH_MODEL = ("model", "hybrid(suffix, model)")
WITHOUT_MODEL = ("prompt_lookup", "suffix", "ngram")
WORTH_IT = 1.05  # a smaller gain is not told from the noise of a clock


@dataclass(frozen=True)
class Candidate:
    """A drafter at a gamma, and what the replay says of it."""

    drafting: str  # spec string of the drafter
    gamma: int  # fixed draft length, in tokens
    mean_acceptance_length: float  # tokens emitted a step
    speedup: float  # predicted, over plain decoding


@dataclass(frozen=True)
class Advice:
    """What was measured, and what follows."""

    target: str  # name of the target
    drafter: str  # name of the draft model
    costs: CostTable  # seconds of a draft call and of verification
    verify_seconds: dict[int, float]  # T_v(k) by k, as measured
    # share of drafted tokens kept at each position, given those before were: α
    acceptance: tuple[float, ...]
    conditional_acceptance_rate: float  # α over all positions
    candidates: list[Candidate]  # every drafter and gamma, the best first
    best: Candidate  # the best candidate that uses the draft model
    measured_speedup: float  # of `best`, beside plain decoding
    pays: bool  # whether it should be used
    alternative: Candidate | None  # the best candidate without a draft model, if it is worth it

    @property
    def draft_cost_ratio(self) -> float:
        """c: seconds of a draft call / seconds of a plain target pass."""
        return self.costs.draft / self.costs.verify

    @property
    def break_even(self) -> float:
        """The acceptance below which not even one draft token a step pays."""
        return (self.costs.draft + self.costs.verify_token) / self.costs.verify

    @property
    def synthetic_acceptance_rates(self) -> list[float]:
        """The chance that the first 1 … K draft tokens are all kept: vLLM's list."""
        return list(accumulate(self.acceptance, mul))

    @property
    def gamma(self) -> int:
        """Draft tokens a step, 0 for plain decoding."""
        return self.best.gamma if self.pays else 0

    def to_dict(self) -> dict[str, Json]:
        """Return one JSON object; the last three entries are in vLLM's form."""
        return {
            "target": self.target,
            "drafter": self.drafter,
            "draft_seconds": self.costs.draft,
            "verify_seconds": {str(k): s for k, s in self.verify_seconds.items()},
            "draft_cost_ratio": self.draft_cost_ratio,
            "acceptance_by_position": list(self.acceptance),
            "conditional_acceptance_rate": self.conditional_acceptance_rate,
            "break_even_acceptance": self.break_even,
            "recommendation": {
                "method": "speculative" if self.pays else "target",
                "drafting": self.best.drafting if self.pays else None,
                "gamma": self.gamma,
                "predicted_speedup": self.best.speedup if self.pays else 1.0,
                "measured_speedup": self.measured_speedup if self.pays else 1.0,
            },
            "alternative": asdict(self.alternative) if self.alternative else None,
            "candidates": [asdict(c) for c in self.candidates],
            "num_speculative_tokens": len(self.acceptance),
            "synthetic_acceptance_rates": self.synthetic_acceptance_rates,
            "num_speculative_tokens_per_batch_size": [[1, 1, self.gamma]],
        }

    def sentences(self) -> list[str]:
        """Return the advice in plain words."""
        c, best = self.draft_cost_ratio, self.best
        told = [
            f"A draft call takes {1000 * self.costs.draft:.2f} ms, a target pass "
            f"{1000 * self.costs.verify:.2f} ms (c = {c:.2f}); each drafted token adds "
            f"{1000 * self.costs.verify_token:.3f} ms to it.",
            f"The target keeps {100 * self.conditional_acceptance_rate:.0f}% of the tested draft "
            f"tokens; one token a step pays from {100 * self.break_even:.0f}% on.",
        ]
        if self.pays:
            told.append(
                f"Speculation pays: draft with {best.drafting}, gamma {best.gamma}: "
                f"{self.measured_speedup:.2f}x plain decoding, measured side by side "
                f"({best.speedup:.2f}x predicted)."
            )
        else:
            told.append(
                f"Speculation with this draft model does not pay: at best {best.drafting}, gamma "
                f"{best.gamma}, gave {self.measured_speedup:.2f}x. Decode plainly."
            )
        if self.alternative is not None:
            told.append(
                f"Without a draft model, {self.alternative.drafting} at gamma "
                f"{self.alternative.gamma} should give {self.alternative.speedup:.2f}x."
            )
        return told


def advise(
    engine: Engine,
    prompts: Sequence[str],
    *,
    length: int = 60,
    num_speculative_tokens: int = 8,
    repeats: int = 15,
    chat: bool = False,
    clock: Callable[[], float] = perf_counter,
) -> Advice:
    """Measure a pair of models and say what to do with it.

    The prompts, at least one, are like those it will serve; a text has `length` tokens at most,
    acceptance is measured at K = `num_speculative_tokens` positions, and the clock gives seconds.

    Raises:
        ConfigError: there is no draft model, or the target has an encoder.
        ModelError: a measurement is zero or no finite number.
    """
    length = checked("length", length, Length)
    num_speculative_tokens = checked("K", num_speculative_tokens, DraftLength)
    repeats = checked("repeats", repeats, Count)
    if engine.drafter is None:
        raise ConfigError("advise weighs a draft model; load one with drafter=…")
    draft_model = engine.drafter.model
    config = DecodingConfig(length=length, gamma=num_speculative_tokens, chat=chat)
    done, recordings = _recorded(engine, prompts, config)
    longest = max(recordings, key=lambda r: len(r.tokens))
    costs, verify_seconds = measure_costs(engine.target.model, draft_model, longest, repeats, clock)
    replay = Replay(recordings, costs=costs, draft_model=draft_model)
    model, hybrid = (_candidates(replay, [drafting]) for drafting in WITH_MODEL)
    without = _candidates(Replay(recordings, costs=costs), WITHOUT_MODEL)
    # A hybrid whose model does not pay is retrieval with a burden.
    best = max(model[0], hybrid[0], key=_speedup) if model[0].speedup >= WORTH_IT else model[0]
    alternative = without[0]
    speedup = _measured_speedup(engine, prompts, config, best, clock)
    summary = summarize([record for one in done for record in one.records])
    return Advice(
        engine.target.name,
        engine.drafter.name,
        costs,
        verify_seconds,
        _acceptance(done, num_speculative_tokens),
        summary.conditional_acceptance_rate or 0.0,
        sorted([*model, *hybrid, *without], key=_speedup, reverse=True),
        best,
        speedup,
        pays=min(speedup, best.speedup) >= WORTH_IT,
        alternative=alternative if alternative.speedup >= WORTH_IT else None,
    )


def _recorded(
    engine: Engine, prompts: Sequence[str], config: DecodingConfig
) -> tuple[list[Completion], list[Recording]]:
    """Answer every prompt greedily, and speculate on the way; the text is the target's own."""
    tokens = [engine.encode(prompt, chat=config.chat) for prompt in prompts]
    if engine.target.model.open(tokens[0]).begin != tokens[0]:
        raise ConfigError("advise replays decoder-only models; this target has an encoder")
    done = [engine.generate(prompt, config) for prompt in prompts]
    pairs = zip(tokens, done, strict=True)
    return done, [Recording(prompt, one.tokens, config.length) for prompt, one in pairs]


def _candidates(replay: Replay, draftings: Sequence[str]) -> list[Candidate]:
    """Return every drafter at every gamma by its predicted speedup, the best first."""
    policies = [f"fixed(gamma={gamma})" for gamma in GAMMAS]
    found = []
    for drafting in draftings:
        played = replay.play(drafting, policies)
        for gamma, one in zip(GAMMAS, played, strict=True):
            rate = one.tokens_per_second * replay.costs.verify
            length = one.to_dict()["mean_acceptance_length"]
            found.append(Candidate(drafting, gamma, length, rate))
    return sorted(found, key=_speedup, reverse=True)


def _speedup(candidate: Candidate) -> float:
    return candidate.speedup


def _acceptance(done: Sequence[Completion], positions: int) -> tuple[float, ...]:
    """Return α by position: kept / tested, where all before were kept; untested: none kept."""
    records = [r for one in done for r in one.records]
    alphas = []
    for i in range(positions):
        # A block that an end token cut tested no more than it kept.
        reached = [r for r in records if r.gamma > i and r.num_accepted >= i]
        tested = [r.num_accepted > i for r in reached if r.num_accepted > i or r.is_rejection]
        alphas.append(sum(tested) / len(tested) if tested else 0.0)
    return tuple(alphas)


def _measured_speedup(
    engine: Engine,
    prompts: Sequence[str],
    config: DecodingConfig,
    best: Candidate,
    clock: Callable[[], float],
) -> float:
    """Return the median, over prompts, of plain seconds a token over the candidate's."""
    chosen = config.replace(drafting=best.drafting, gamma=best.gamma)
    ratios = []
    for turn, prompt in enumerate(prompts):
        seconds = {}
        for method in ("target", "speculative")[:: 1 if turn % 2 else -1]:
            begin = clock()
            tokens = engine.generate(prompt, chosen, method=method).tokens
            seconds[method] = (clock() - begin) / len(tokens)
        for method, found in seconds.items():
            checked_medians(f"token of {method}", {0: [found]})
        ratios.append(seconds["target"] / seconds["speculative"])
    return median(ratios)
