"""What a run allows to say in a few sentences: which method to use, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from foredraft.bench.analysis import Analysis, Finding
from foredraft.bench.cells import TARGET
from foredraft.bench.intervals import FASTER, NO_DIFFERENCE, SLOWER, TOO_FEW, Comparison, Interval

WORDS = (FASTER, SLOWER, NO_DIFFERENCE, TOO_FEW)


def conclusions(analysis: Analysis) -> Iterator[str]:
    """Yield the answers for each condition; nothing where nothing was measured."""
    for condition in analysis.conditions:
        ranked = by_speedup(analysis.of(condition=condition))
        if ranked:
            yield _quickest(ranked, condition)
            yield from _by_kind(analysis, condition, ranked[0])
        for reference in analysis.grid.references:
            yield from _beside(reference, analysis.of(condition=condition), condition)


def by_speedup(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that were compared with Target AR, the quickest first."""
    compared = [finding for finding in findings if TARGET in finding.comparisons]
    return sorted(compared, key=lambda f: f.comparisons[TARGET].speedup.value, reverse=True)


def times(interval: Interval) -> str:
    """Return a ratio with its interval, if it has one."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}×"
    return f"{interval.value:.2f}× [{interval.low:.2f}, {interval.high:.2f}]"


def _quickest(ranked: Sequence[Finding], condition: str) -> str:
    """Return which method is quickest over all prompts, and how many are found faster."""
    first = ranked[0]
    found = first.comparisons[TARGET]
    counts = _counted(finding.comparisons[TARGET] for finding in ranked)
    where = f"{condition}: " if condition else ""
    if found.word == FASTER:
        advice = f"use {first.label}, {times(found.speedup)} Target AR"
    elif found.word == TOO_FEW:
        advice = f"there are too few prompts to say; {first.label} has {times(found.speedup)}"
    else:
        advice = (
            "stay with Target AR, since nothing was found faster; the quickest other cell is "
            f"{first.label}, {times(found.speedup)} ({found.word})"
        )
    text = f"{where}{advice}, on {found.prompts} prompts."
    if len(ranked) > 1 and found.word != TOO_FEW:
        text += (
            f" Of {len(ranked)} cells beside Target AR: {counts}. The quickest of many is partly "
            "the luckiest of many: expect a little less on other prompts."
        )
    return text


def _by_kind(analysis: Analysis, condition: str, overall: Finding) -> Iterator[str]:
    """Yield for which kinds of prompts another method is quickest, in a sentence."""
    others = []
    for kind in analysis.kinds:
        ranked = by_speedup(analysis.of(kind=kind, condition=condition))
        if ranked and ranked[0].label != overall.label:
            found = ranked[0].comparisons[TARGET]
            others.append(f"{kind} {ranked[0].label}, {times(found.speedup)} ({found.word})")
    if others and len(analysis.kinds) > 1:
        where = f" ({condition})" if condition else ""
        yield f"By kind of prompt another cell is quickest{where}: {'; '.join(others)}."


def _beside(reference: str, findings: Sequence[Finding], condition: str) -> Iterator[str]:
    """Yield how the others stand to a reference, in a sentence."""
    compared = [f for f in findings if reference in f.comparisons and f.method != TARGET]
    if not compared:
        return
    best = max(compared, key=lambda f: f.comparisons[reference].speedup.value)
    found = best.comparisons[reference]
    where = f" ({condition})" if condition else ""
    counts = _counted(finding.comparisons[reference] for finding in compared)
    yield (
        f"Beside {reference}{where}: {counts} of {len(compared)}; the quickest is {best.label}, "
        f"{times(found.speedup)} ({found.word})."
    )


def _counted(comparisons: Iterator[Comparison]) -> str:
    counts = Counter(found.word for found in comparisons)
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
