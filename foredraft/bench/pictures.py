"""The pictures of a report, as SVG text: light and dark, narrow enough for a phone.

Needs matplotlib (extra `bench`); draws what `analysis` has computed and computes nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foredraft.bench.analysis import Analysis, Finding, theoretical_speedup
from foredraft.bench.cells import TARGET
from foredraft.bench.intervals import Floats, Interval
from foredraft.bench.rows import Row
from foredraft.errors import ConfigError
from foredraft.escape import for_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6  # inches: at 9 points readable on a screen of 400 pixels
LIGHT = ("#ffffff", "#222222", "#d8d8d8")  # page, ink, grid lines
DARK = ("#16181d", "#e6e6e6", "#3a3d44")
PALETTES = {  # told apart by colour-blind readers too (after Okabe and Ito, 2008)
    LIGHT: ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9"),
    DARK: ("#56b4e9", "#ff8c42", "#2bc79a", "#f0a0d0", "#f0e442", "#8ab4ff"),
}
MARKERS = "osD^vP"
Plan = tuple[str, str, float, Callable[["Figure"], None]]  # name, caption, inches high, what draws
MISSING = (
    "matplotlib is not installed, so there are no pictures; install the extra `bench` "
    "(uv sync --extra bench) and draw them with `foredraft ablate --report`"
)


@dataclass(frozen=True)
class Picture:
    """One figure."""

    name: str  # of its file, without ending
    caption: str  # what it shows, in a sentence
    light: str  # SVG on a white page
    dark: str  # SVG on a dark page


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_all(analysis: Analysis) -> list[Picture]:
    """Return every picture the rows allow."""
    return [
        Picture(name, caption, _svg(draw, height, LIGHT), _svg(draw, height, DARK))
        for name, caption, height, draw in _plans(analysis)
    ]


def _plans(analysis: Analysis) -> Iterator[Plan]:
    for number, condition in enumerate(analysis.conditions, start=1):
        yield from _plans_of_condition(analysis, condition, number)
    if any(len(analysis.fixed_gammas(c)) > 1 for c in analysis.conditions):
        yield (
            "speedup-by-gamma",
            "Speedup over Target AR against gamma, with 95 % intervals over prompts; dashed: "
            "the theoretical curve (1 − α^(γ+1)) / ((1 − α)(γc + 1)) of the measured α and c, "
            "in which verifying γ + 1 tokens costs what decoding one costs.",
            3.4,
            lambda figure: _speedup(figure, analysis),
        )
    traced = max(analysis.rows, key=lambda row: len(row.trace or ""), default=None)
    if traced is not None and traced.trace:
        yield (
            "gamma-and-entropy",
            f"Draft length and normalised entropy over one generation: {traced.cell}, "
            f"prompt {traced.prompt_id}, seed {traced.seed}.",
            3.6,
            lambda figure: _trace(figure, traced),
        )


def _plans_of_condition(analysis: Analysis, condition: str, number: int) -> Iterator[Plan]:
    where = f" ({condition})" if condition else ""
    findings = [f for f in analysis.of(condition=condition) if f.num_rows]
    if findings:
        yield (
            f"throughput-{number}",
            f"Throughput by method and task, mean over prompts with 95 % intervals{where}.",
            1.1 + 0.36 * len(findings),
            lambda figure: _throughput(figure, analysis, condition),
        )
    shown = _one_of_each_family(findings)
    if shown:
        yield (
            f"acceptance-{number}",
            f"Share of drafted tokens that were kept, by position in the draft{where}.",
            3.2,
            lambda figure: _acceptance(figure, shown),
        )


def _one_of_each_family(findings: list[Finding]) -> list[Finding]:
    """Return, for each first word of a label, the finding with the longest drafts."""
    longest: dict[str, Finding] = {}
    for finding in findings:
        family = finding.label.split(" ")[0]
        best = longest.get(family, finding)
        if len(finding.acceptance_by_position) >= len(best.acceptance_by_position):
            longest[family] = finding
    return [f for f in longest.values() if f.acceptance_by_position][: len(MARKERS)]


def _svg(draw: Callable[[Figure], None], height: float, colours: tuple[str, str, str]) -> str:
    matplotlib = importlib.import_module("matplotlib")
    figures = importlib.import_module("matplotlib.figure")
    page, ink, lines = colours
    style = {
        "font.size": 9,
        "svg.hashsalt": "foredraft",  # the same rows, the same file
        "svg.fonttype": "path",
        "text.parse_math": False,  # a label with a $ is a label
        "axes.prop_cycle": matplotlib.cycler(color=PALETTES[colours]),
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": lines,
        "legend.frameon": False,
        "legend.fontsize": 8,
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), page),
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ink),
        "axes.edgecolor": ink,
    }
    out = io.StringIO()
    with matplotlib.rc_context(style):
        figure = figures.Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _errors(intervals: list[Interval]) -> Floats:
    """Return the intervals as matplotlib's distances below and above, shape `[2, points]`."""
    below = [i.value - i.low if i.low is not None else 0.0 for i in intervals]
    above = [i.high - i.value if i.high is not None else 0.0 for i in intervals]
    return np.maximum([below, above], 0)


def _throughput(figure: Figure, analysis: Analysis, condition: str) -> None:
    axes = figure.subplots()
    labels = [f.label for f in analysis.of(condition=condition) if f.num_rows]
    kinds = analysis.kinds
    for number, kind in enumerate(kinds):
        of_kind = {f.label: f.throughput for f in analysis.of(kind=kind, condition=condition)}
        points = [(i, at) for i, name in enumerate(labels) if (at := of_kind.get(name))]
        shift = 0.5 * (number / max(len(kinds) - 1, 1) - 0.5)
        axes.errorbar(
            [at.value for _, at in points],
            [i + shift for i, _ in points],
            xerr=_errors([at for _, at in points]),
            fmt=MARKERS[number % len(MARKERS)],
            markersize=3.5,
            linewidth=1,
            label=_shown(kind),
        )
    axes.set_yticks(range(len(labels)), [_broken(name) for name in labels], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens a second")
    figure.legend(loc="outside upper center", ncols=min(len(kinds), 4))


def _shown(label: str) -> str:
    """Return a label from a file for a picture; matplotlib would hide one that begins with _."""
    return f" {for_line(label)}" if label.startswith("_") else for_line(label)


def _broken(label: str) -> str:
    """Return a label on two lines where it is long."""
    label = _shown(label)
    first, _, rest = label.partition(" ")
    return f"{first}\n{rest.replace('_', ' ')}" if len(label) > 18 else label


def _acceptance(figure: Figure, shown: list[Finding]) -> None:
    axes = figure.subplots()
    for number, finding in enumerate(shown):
        shares = finding.acceptance_by_position
        axes.plot(
            range(1, len(shares) + 1),
            shares,
            marker=MARKERS[number],
            markersize=4,
            label=_shown(finding.label),
        )
    axes.set_ylim(0, 1.02)
    _label(figure, axes, "position in the draft", "share kept")


def _label(figure: Figure, axes: Axes, x: str, y: str) -> None:
    axes.locator_params("x", integer=True)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure.legend(loc="outside upper center")


def _speedup(figure: Figure, analysis: Analysis) -> None:
    axes = figure.subplots()
    for number, condition in enumerate(analysis.conditions):
        found = analysis.fixed_gammas(condition)
        points = [
            (gamma, finding.comparisons[TARGET].speedup)
            for gamma, finding in found.items()
            if TARGET in finding.comparisons
        ]
        axes.errorbar(
            [gamma for gamma, _ in points],
            [at.value for _, at in points],
            yerr=_errors([at for _, at in points]),
            fmt=MARKERS[number % len(MARKERS)],
            color=f"C{number}",
            label=_shown(condition) or "measured",
        )
        _theory(axes, list(found.values()), max(found, default=1), f"C{number}")
    axes.axhline(1, linewidth=0.8, linestyle=":", color="gray")
    _label(figure, axes, "gamma", "speedup over Target AR")


def _theory(axes: Axes, findings: list[Finding], longest: int, colour: str) -> None:
    """Draw the curve of the mean α and c of some findings, where they have both."""
    alphas = [v for f in findings if (v := f.mean("conditional_acceptance_rate")) is not None]
    costs = [v for f in findings if (v := f.mean("draft_cost_ratio")) is not None]
    if alphas and costs:
        alpha, c = float(np.mean(alphas)), float(np.mean(costs))
        gammas = range(1, longest + 1)
        curve = [theoretical_speedup(alpha, gamma, c) for gamma in gammas]
        name = f"α = {alpha:.2f}, c = {c:.2f}"
        axes.plot(gammas, curve, linestyle="--", linewidth=1, color=colour, label=name)


def _trace(figure: Figure, row: Row) -> None:
    steps = _steps(row)
    number = range(1, len(steps) + 1)
    above, below = figure.subplots(2, sharex=True)
    above.step(number, [gamma for gamma, _ in steps], where="mid", linewidth=1)
    above.set_ylabel("gamma")
    above.set_ylim(bottom=0)
    below.plot(number, [entropy for _, entropy in steps], linewidth=1, color="C1")
    below.set_ylabel("H / ln V")
    below.set_ylim(bottom=0)
    below.set_xlabel("step")


def _steps(row: Row) -> list[tuple[int, float]]:
    """Return gamma and entropy of every step of a row's trace."""
    try:
        pairs = [step.split(":") for step in (row.trace or "").split()]
        return [(int(gamma), float(entropy)) for gamma, entropy in pairs]
    except ValueError:
        raise ConfigError(
            f"the trace of row {row.order} is no list of gamma:entropy; take the row out of the "
            "file and continue with --resume"
        ) from None
