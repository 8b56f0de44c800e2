"""Rows → the numbers of a report: each cell's means, its comparisons, its quality, its failures."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np

from foredraft.bench.cells import TARGET
from foredraft.bench.grid import Grid
from foredraft.bench.intervals import Comparison, Interval, bootstrap, compare
from foredraft.bench.rows import NEAR_TIE, NO, OK, YES, Row
from foredraft.errors import ConfigError, quoted

ALL = "all"  # every kind of prompt together
MEANS = (
    *("throughput_tokens_per_second", "latency_seconds", "tokens_per_second"),
    *("acceptance_rate", "conditional_acceptance_rate", "mean_acceptance_length"),
    *("mean_gamma", "mean_normalized_entropy", "draft_cost_ratio"),
    *("num_emitted_tokens", "target_logprob_per_token"),
)


@dataclass(frozen=True)
class Spread:
    """A mean over rows with its standard deviation; of one row there is none."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Finding:
    """One cell on one kind of prompt."""

    # label, condition, method: see `Cell`
    label: str
    condition: str
    method: str
    kind: str  # of prompts; `all` is every kind
    num_rows: int  # rows that count
    num_failed: int  # rows that failed, and do not
    # column → mean and standard deviation over rows; absent where no row has it
    means: dict[str, Spread] = field(default_factory=dict)
    throughput: Interval | None = None  # mean over prompts, with its interval
    # label of another cell → ours beside it, in the same condition
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    # yes, near-tie, no → rows whose text was compared with Target AR's
    matches: dict[str, int] = field(default_factory=dict)
    # share of the steps that drafted position i which kept it
    acceptance_by_position: tuple[float, ...] = ()
    peak_cpu_bytes: int | None = None  # the most of any row
    peak_cuda_bytes: int | None = None  # the most of any row
    shared_device: bool = False  # whether any row was timed beside other workers

    def mean(self, column: str) -> float | None:
        """Return a column's mean, if any row has the column."""
        return self.means[column].mean if column in self.means else None


@dataclass(frozen=True)
class Analysis:
    """Everything a report says of a run."""

    grid: Grid  # the plan
    rows: tuple[Row, ...]  # in the order of the schedule
    # every cell on every kind, then on all of them; in the order of the grid
    findings: tuple[Finding, ...]

    @property
    def conditions(self) -> list[str]:
        """Conditions, in the order of the grid."""
        return list(dict.fromkeys(cell.condition for cell in self.grid.cells))

    @property
    def kinds(self) -> list[str]:
        """Kinds of prompts, in the order of the grid."""
        return list(dict.fromkeys(item.kind for item in self.grid.prompts))

    def of(self, *, kind: str = ALL, condition: str | None = None) -> list[Finding]:
        """Return the findings of a kind, perhaps of one condition only."""
        of_kind = [f for f in self.findings if f.kind == kind]
        return [f for f in of_kind if condition in (None, f.condition)]

    def fixed_gammas(self, condition: str) -> dict[int, Finding]:
        """Return gamma → finding of the cells that differ in nothing but their fixed gamma."""
        series: dict[object, dict[int, Finding]] = defaultdict(dict)
        found = {f.label: f for f in self.of(condition=condition) if f.num_rows}
        for cell in self.grid.cells:
            config = cell.config
            fixed = cell.method == "speculative" and config.policy == "fixed" and not config.egag
            if fixed and cell.condition == condition and cell.label in found:
                rest = (cell.draft_model, dataclasses.replace(config, gamma=64))
                series[rest][config.gamma] = found[cell.label]
        longest = max(series.values(), key=len, default={})
        return dict(sorted(longest.items()))

    @property
    def failures(self) -> list[Row]:
        """Rows that failed."""
        return [row for row in self.rows if row.status != OK]


def analyse(grid: Grid, rows: Iterable[Row]) -> Analysis:
    """Return the analysis of a run, finished or not."""
    ordered = tuple(sorted(rows, key=lambda row: row.order))
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in ordered:
        groups[row.cell, row.kind].append(row)
        groups[row.cell, ALL].append(row)
    speeds = {key: speed_by_prompt(group) for key, group in groups.items()}
    kinds = list(dict.fromkeys(item.kind for item in grid.prompts))
    findings = []
    for kind in [*kinds, ALL]:
        for cell in grid.cells:
            ours = speeds.get((cell.id, kind), {})
            known = {
                other.label: found
                for other in grid.cells
                if other.condition == cell.condition and other.id != cell.id
                if other.label in (TARGET, *grid.references)
                if (found := compare(ours, speeds.get((other.id, kind), {})))
            }
            about = (cell.label, cell.condition, cell.method, kind)
            findings.append(_finding(about, groups.get((cell.id, kind), []), ours, known))
    return Analysis(grid, ordered, tuple(findings))


def speed_by_prompt(rows: Iterable[Row]) -> dict[str, float]:
    """Return prompt id → mean throughput over its repeats.

    Failed rows do not count, nor does what is no speed: none, zero, or no finite number.
    """
    speeds: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        speed = row.throughput_tokens_per_second
        if row.status == OK and speed is not None and 0 < speed < math.inf:
            speeds[row.prompt_id].append(speed)
    return {prompt: fmean(values) for prompt, values in speeds.items()}


def _finding(
    about: tuple[str, str, str, str],
    rows: Sequence[Row],
    speeds: dict[str, float],
    comparisons: dict[str, Comparison],
) -> Finding:
    good = [row for row in rows if row.status == OK]
    return Finding(
        *about,
        num_rows=len(good),
        num_failed=len(rows) - len(good),
        means={name: spread for name in MEANS if (spread := _spread(good, name))},
        throughput=bootstrap(np.array(list(speeds.values()))) if speeds else None,
        comparisons=comparisons,
        matches={
            word: count
            for word in (YES, NEAR_TIE, NO)
            if (count := sum(row.matches_baseline == word for row in good))
        },
        acceptance_by_position=acceptance_by_position(good),
        peak_cpu_bytes=max((r.peak_cpu_bytes or 0 for r in good), default=0) or None,
        peak_cuda_bytes=max((r.peak_cuda_bytes or 0 for r in good), default=0) or None,
        shared_device=any(row.shared_device for row in good),
    )


def _spread(rows: Sequence[Row], name: str) -> Spread | None:
    found = (getattr(row, name) for row in rows)
    values = [value for value in found if value is not None and math.isfinite(value)]
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def acceptance_by_position(rows: Iterable[Row]) -> tuple[float, ...]:
    """Return the share of drafted tokens kept at each position, counts of all rows together."""
    drafted, kept = Counter[int](), Counter[int]()
    for row in rows:
        for total, text in ((drafted, row.drafted_by_position), (kept, row.kept_by_position)):
            total.update(dict(enumerate(_counts(row, text or ""))))
    return tuple(kept[i] / drafted[i] for i in sorted(drafted) if drafted[i])


def _counts(row: Row, text: str) -> list[int]:
    try:
        return [int(count) for count in text.split()]
    except ValueError:
        raise ConfigError(
            f"row {row.order} counts {quoted(text)} by position, which are no whole numbers; "
            "take the row out of the file and continue with --resume"
        ) from None


def theoretical_speedup(alpha: float, gamma: int, c: float) -> float:
    """Return the speedup of a fixed gamma (Leviathan et al., 2023, theorem 3.8).

    Args:
        alpha: acceptance of one token, given that those before it were accepted.
        gamma: draft length.
        c: seconds of a draft call / seconds of a target call.
    """
    emitted = gamma + 1.0 if alpha >= 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)
    return emitted / (gamma * c + 1)
