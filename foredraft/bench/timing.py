"""What drafts and passes cost here: timed in the loop itself, turn by turn, plainly and drafting.

The loop tells a `Meter` of every run, as it tells the one that `auto` decides with; what it does
besides, and what a drafter takes beyond the passes of models, is told from the time between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from statistics import fmean, median

from torch import Tensor

from foredraft.bench.timed import Costs, Overhead
from foredraft.config import DecodingConfig
from foredraft.core import StepRecord
from foredraft.costs import Meter
from foredraft.curves import Curve
from foredraft.engine import Engine
from foredraft.errors import ModelError

GAMMAS = (1, 2, 3, 4, 6, 8, 12)
MODEL, AUTO, PLAIN = "model", "auto", "target"
ROUNDS = 3  # of a measurement side by side


@dataclass(frozen=True)
class Run:
    """One text, decoded by the loop."""

    prompt: list[int]
    begin: list[int]  # what its output follows
    tokens: list[int]  # the output
    records: list[StepRecord]
    seconds: list[float]  # between a step's beginning and the next one's, by step
    meter: Meter  # that was told of it

    @property
    def total(self) -> float:
        """Seconds of the whole text."""
        return sum(self.seconds)


class Runner:
    """Decodes texts as an engine does, by a clock; what it learns outlives a text, but no runner.

    Args:
        engine: of the models.
        config: of all texts, sampled greedily.
        clock: seconds now.
    """

    def __init__(self, engine: Engine, config: DecodingConfig, clock: Callable[[], float]) -> None:
        self._engine, self._config, self._clock = (
            Engine(engine.target, engine.drafter),
            config,
            clock,
        )

    def run(
        self, prompt: str, drafting: str | None, gamma: int | None, meter: Meter | None = None
    ) -> Run:
        """Decode one text.

        Args:
            prompt: text.
            drafting: spec string of a drafter; None decodes plainly.
            gamma: length of all drafts; None: the drafter chooses.
            meter: to be told; None: the one that the drafter decides with.

        Raises:
            ModelError: a step or a draft took no time.
        """
        config = self._config
        if drafting is not None:
            config = config.replace(drafting=drafting)
        if gamma is not None:
            config = config.replace(policy=f"fixed(gamma={gamma})")
        method = PLAIN if drafting is None else "speculative"
        generation = self._engine.stream(prompt, config, method=method)
        parts = generation.parts
        generation.parts = replace(parts, clock=self._clock, meter=meter or parts.meter)
        seconds, before = list[float](), self._clock()
        for chunk in generation:
            now = self._clock()
            seconds.append(_checked("step", now - before))
            if chunk.record.num_draft_calls:
                _checked("draft", chunk.record.draft_seconds)
            before = now
        context = generation.request.context
        assert not isinstance(context.prompt, Tensor)  # an engine reads text
        return Run(
            *(list(context.prompt), context.begin, generation.tokens),
            *(generation.records, seconds, generation.parts.meter),
        )


class Timing:
    """What runs show: a meter's curves of typical steps, one a run and count, and what is besides.

    A machine is slow now and then for longer than a text, so that of runs the quick ones count.

    Attributes:
        meter: D and T_v, each with what a step takes outside of passes.
        read: seconds that a text's first target pass takes beyond T_v(0), by its prompt.
        draft_read: that the draft model takes for reading, or its encoder, by tokens.
    """

    def __init__(self) -> None:
        self.meter = Meter()
        self.read, self.draft_read = Curve(from_nothing=True), Curve(from_nothing=True)
        self._drafted: dict[str, list[Run]] = {}

    def add_plain(self, run: Run) -> None:
        """Count a run of plain decoding: T_v(0)."""
        verify = self.meter.verify_seconds
        verify.add(0, _typical(run.seconds[1:] or run.seconds))
        self.read.add(len(run.prompt), max(run.seconds[0] - verify(0), 0.0))

    def add(self, drafting: str, run: Run) -> None:
        """Count a run with a drafter."""
        self._drafted.setdefault(drafting, []).append(run)
        first = next((i for i, r in enumerate(run.records) if r.num_draft_calls), None)
        drafts, passes = dict[int, list[float]](), dict[int, list[float]]()
        for place, (record, seconds) in enumerate(zip(run.records, run.seconds, strict=True)):
            if place:
                passes.setdefault(record.gamma, []).append(seconds - record.draft_seconds)
            if place != first:  # which reads
                drafts.setdefault(record.num_draft_calls, []).append(record.draft_seconds)
        for count in passes.keys() - {0}:
            self.meter.verify_seconds.add(count, _typical(passes[count]))
        if drafting == MODEL:
            for calls in drafts.keys() - {0}:
                self.meter.draft_seconds.add(calls, _typical(drafts[calls]))
            self._count_reading(run, first)

    def _count_reading(self, run: Run, first: int | None) -> None:
        """Count what the first draft of a text took for reading."""
        if first is None:
            return
        record, draft = run.records[first], self.meter.draft_seconds
        if not draft.is_known:  # a text of one draft
            draft.add(record.num_draft_calls, record.draft_seconds)
        reading = record.draft_seconds - draft(record.num_draft_calls)
        self.draft_read.add(len(run.prompt), max(reading, 0.0))

    @property
    def costs(self) -> Costs:
        """What the loop takes."""
        meter = self.meter
        return Costs(meter.draft_seconds, meter.verify_seconds, self.read, self.draft_read)

    def overhead(self, drafting: str) -> Overhead:
        """Return what a drafter takes beyond that, at least 0."""
        texts, steps = list[float](), list[float]()
        for run in self._drafted[drafting]:
            texts.append(run.seconds[0] - self.costs.verify(0) - self.read(len(run.prompt)))
            if drafting != MODEL:  # whose costs hold all it takes
                steps += self._rests(run)
        return Overhead(_usual(texts), _usual(steps))

    def _rests(self, run: Run) -> list[float]:
        """Return what a step of a run takes beyond the models' passes; or nothing."""
        rests, has_read = list[float](), False
        for record, seconds in zip(run.records[1:], run.seconds[1:], strict=True):
            calls = record.num_draft_calls
            if has_read or not calls:  # a first call reads
                passes = self.costs.draft(calls) if calls else 0.0
                rests.append(seconds - passes - self.costs.verify(record.gamma))
            has_read = has_read or calls > 0
        return [_typical(rests)] if rests else []


def _typical(found: Sequence[float]) -> float:
    """Return the mean of all but the longest eighth, in which something else ran."""
    return fmean(sorted(found)[: len(found) - len(found) // 8])


def _usual(found: Sequence[float]) -> float:
    """Return a lower quartile, at least 0."""
    return max(sorted(found)[(len(found) - 1) // 4], 0.0) if found else 0.0


def _checked(what: str, seconds: float) -> float:
    """Return a time, which must be one."""
    if not 0 < seconds < inf:
        raise ModelError(
            f"a {what} took {seconds} s by this clock, and no advice follows from that; measure "
            "with more --repeats, or where the clock runs"
        )
    return seconds


def measure(
    runner: Runner, prompts: Sequence[str], draftings: Sequence[str], repeats: int
) -> tuple[Timing, list[Run]]:
    """Run texts with each drafter, and plainly before each, turn by turn.

    Args:
        runner: decodes.
        prompts: at least one; all are decoded plainly.
        draftings: spec strings; the draft model alone is run at every gamma, others at one a text.
        repeats: texts timed with each of them.

    Returns:
        What was measured, and a plain run of every prompt.

    Raises:
        ModelError: a step took no time.
    """
    timing = Timing()
    plain = [runner.run(prompt, None, None) for prompt in prompts]
    for run in plain:
        timing.add_plain(run)
    for turn in range(repeats):
        prompt = prompts[turn % len(prompts)]
        for drafting in draftings:
            timing.add_plain(runner.run(prompt, None, None))
            _time(timing, runner, prompt, drafting, turn)
    return timing, plain


def _time(timing: Timing, runner: Runner, prompt: str, drafting: str, turn: int) -> None:
    if drafting == MODEL:
        for length in GAMMAS:
            timing.add(drafting, runner.run(prompt, drafting, length, Meter()))
        return
    gamma: int | None = None if drafting == AUTO else GAMMAS[-1 - turn % len(GAMMAS)]
    timing.add(drafting, runner.run(prompt, drafting, gamma))


def speedups(
    runner: Runner, prompts: Sequence[str], methods: Sequence[tuple[str, int | None]]
) -> list[float]:
    """Return how many times as fast as plain decoding drafters are, side by side.

    Args:
        runner: decodes; what has a length rule of its own learns from one more round at first.
        prompts: texts, each decoded `ROUNDS` times with each; medians count.
        methods: drafters and gammas, None where the drafter chooses.
    """
    for (drafting, gamma), prompt in product(methods, prompts):
        if gamma is None:
            runner.run(prompt, drafting, gamma)
    ways: list[tuple[str | None, int | None]] = [(None, None), *methods]
    times: dict[tuple[int, int], list[float]] = {}
    for turn, (place, prompt) in product(range(ROUNDS), enumerate(prompts)):
        for step in range(len(ways)):
            way = (step + turn) % len(ways)
            times.setdefault((way, place), []).append(runner.run(prompt, *ways[way]).total)
    totals = [0.0] * len(ways)
    for (way, _), found in times.items():
        totals[way] += median(found)
    return [totals[0] / total for total in totals[1:]]
