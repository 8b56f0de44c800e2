"""One self-contained HTML page: what to use, one sorted table, pictures; all details in folds."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape as in_html
from pathlib import Path

from foredraft.bench.analysis import ALL, Analysis, Finding
from foredraft.bench.cells import TARGET
from foredraft.bench.conclusions import by_speedup, conclusions, times
from foredraft.bench.folder import COUNTING_RULE, REPORT, SUMMARY, Manifest
from foredraft.bench.intervals import FASTER, SLOWER, Comparison
from foredraft.bench.pictures import Picture, can_draw, draw_all
from foredraft.bench.rows import NEAR_TIE, NO, YES
from foredraft.escape import for_line, for_terminal
from foredraft.files import read_text, write_whole, writing
from foredraft.tracing.render import percent

CSS = Path(__file__).with_name("report.css")
FAILURES_SHOWN = 20
SHOWN_ABOVE = ("grid", "counting_rule")  # of the manifest
STATISTICS = (
    "Repeats of a prompt are averaged; intervals are 95 %, percentile bootstrap over prompts, and "
    "need six of them. The words faster and slower go by the interval of the speedup, the "
    "geometric mean of the ratios prompt by prompt. One interval in twenty misses by chance: of "
    "many words one may be wrong."
)
Cell = tuple[str, str]  # text, CSS class


def write_report(analysis: Analysis, manifest: Manifest, folder: Path) -> Path:
    """Write report.html, summary.json and figures/*.svg into a run's folder; return the page.

    Without matplotlib there are no figures. The summary holds every `Finding` of the page.

    Raises:
        ConfigError: it cannot be written.
    """
    pictures = draw_all(analysis) if can_draw() else []
    findings = [dataclasses.asdict(finding) for finding in analysis.findings]
    machines = [sitting["machine"] for sitting in manifest.get("sittings", [])]
    summary = {"machine": machines[-1] if machines else None, "findings": findings}
    page = folder / REPORT
    with writing(page, "make room or allow it, then write it with --report"):
        if pictures:
            (folder / "figures").mkdir(exist_ok=True)
        for picture in pictures:
            write_whole(folder / "figures" / f"{picture.name}.svg", picture.light)
        write_whole(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
        write_whole(page, html(analysis, manifest, pictures))
    return page


def html(analysis: Analysis, manifest: Manifest, pictures: Sequence[Picture]) -> str:
    """Return the page."""
    title = f"Ablation: {escape(analysis.grid.name)}"
    told = {key: value for key, value in manifest.items() if key not in SHOWN_ABOVE}
    told_as = json.dumps(told, indent=1, ensure_ascii=False)
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{escape(_about(analysis))}</p>",
        "<h2>Which should I use?</h2>",
        "<ul>",
        *(f"<li>{escape(sentence)}</li>" for sentence in conclusions(analysis)),
        "</ul>",
        *_ranking(analysis),
        "<h2>Pictures</h2>" if pictures else "",
        '<div class="figures">',
        *map(_figure, pictures),
        "</div>",
        *_failures(analysis),
        "<h2>Details</h2>",
        *_folded("Every number, by sampler and kind of prompt", _tables(analysis)),
        "<h2>How it was measured</h2>",
        f"<p>{escape(COUNTING_RULE)} {escape(STATISTICS)}</p>",
        *_folded(
            "Machine, versions, grid and models", [f"<pre>{in_html(for_terminal(told_as))}</pre>"]
        ),
    ]
    style = read_text(CSS)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def escape(text: str) -> str:
    """Return text from anywhere for an HTML page: no mark-up, no control character, one line."""
    return in_html(for_line(text))


def _about(analysis: Analysis) -> str:
    grid, done = analysis.grid, len(analysis.rows)
    text = (
        f"{len(grid.cells)} cells × {len(grid.prompts)} prompts × {len(grid.seeds)} seeds: "
        f"{done} of {grid.num_rows} rows"
    )
    failed = len(analysis.failures)
    text += f", of which {failed} failed and count for nothing." if failed else ", none failed."
    if any(row.shared_device for row in analysis.rows):
        text += " Some rows were timed on a device that other workers shared: mind the speeds."
    return text


def _ranking(analysis: Analysis) -> Iterator[str]:
    """Yield every cell over all prompts, the quickest first, in one table."""
    ranked = by_speedup(analysis.of())
    if not ranked:
        return
    yield "<h2>All prompts, the quickest first</h2>"
    rows = []
    for finding in ranked:
        found = finding.comparisons[TARGET]
        style = found.word if found.word in (FASTER, SLOWER) else "soft"
        where = {"condition": (finding.condition, "soft")} if finding.condition else {}
        rows.append(
            {"cell": (finding.label, "")}
            | where
            | {
                "× Target AR": (times(found.speedup), ""),
                "so it is": (found.word, style),
                "acceptance": (percent(finding.mean("acceptance_rate")), ""),
                "τ": (_number(finding.mean("mean_acceptance_length")), ""),
            }
        )
    yield table(rows)


def _folded(summary: str, parts: Iterable[str]) -> Iterator[str]:
    """Yield parts of a page that open when they are asked for."""
    yield f"<details><summary>{escape(summary)}</summary>"
    yield from parts
    yield "</details>"


def _figure(picture: Picture) -> str:
    light, dark = (
        "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        for svg in (picture.light, picture.dark)
    )
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(picture.caption)}"></picture>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _tables(analysis: Analysis) -> Iterator[str]:
    for condition in analysis.conditions:
        yield f"<h3>{escape(condition or 'Results')}</h3>"
        for kind in [ALL, *analysis.kinds]:
            findings = analysis.of(kind=kind, condition=condition)
            yield f"<h4>{'All prompts' if kind == ALL else escape(kind)}</h4>"
            yield table([columns(f, analysis.grid.references) for f in findings])


def table(rows: Sequence[dict[str, Cell]]) -> str:
    """Return rows of named cells as a table; on a narrow page each row becomes a card."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = []
    for row in rows:
        cells = (
            f'<td data-name="{escape(n)}" class="{row.get(n, ("", ""))[1]}">'
            f"{escape(row.get(n, ('–', ''))[0])}</td>"
            for n in names
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    rest = "\n".join(body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rest}\n</tbody></table>"


def columns(finding: Finding, references: Sequence[str]) -> dict[str, Cell]:
    """Return what a table says of a finding."""
    found: dict[str, Cell] = {"cell": (finding.label, ""), "rows": (_rows(finding), "")}
    if finding.throughput:
        found["tokens/s ± sd"] = (_spread(finding, "throughput_tokens_per_second", ".1f"), "")
        found["latency s ± sd"] = (_spread(finding, "latency_seconds", ".3f"), "")
    for other in (TARGET, *references):
        if other in finding.comparisons:
            found |= _compared(other, finding.comparisons[other])
    found |= {
        "acceptance": (percent(finding.mean("acceptance_rate")), ""),
        "τ": (_number(finding.mean("mean_acceptance_length")), ""),
        "mean γ": (_number(finding.mean("mean_gamma")), ""),
        "H / ln V": (_number(finding.mean("mean_normalized_entropy"), ".3f"), ""),
    }
    if finding.matches:
        found["equals Target AR"] = _equality(finding)
    if "target_logprob_per_token" in finding.means:
        found["ln p a token ± sd"] = (_spread(finding, "target_logprob_per_token", ".3f"), "")
    for name, size in (("CPU", finding.peak_cpu_bytes), ("CUDA", finding.peak_cuda_bytes)):
        if size is not None:
            found[f"peak {name} MB"] = (f"{size / 1e6:,.0f}", "")
    return found


def _rows(finding: Finding) -> str:
    text = str(finding.num_rows)
    text += f" (+{finding.num_failed} failed)" if finding.num_failed else ""
    return text + (" shared device" if finding.shared_device else "")


def _compared(other: str, found: Comparison) -> dict[str, Cell]:
    name = "Target AR" if other == TARGET else other
    d = found.difference
    ends = "" if d.low is None else f" [{d.low:+.1f}, {d.high:+.1f}]"
    style = found.word if found.word in (FASTER, SLOWER) else "soft"
    return {
        f"− {name}, tokens/s": (f"{d.value:+.1f}{ends}", ""),
        f"× {name}": (times(found.speedup), ""),
        f"than {name}": (found.word, style),
    }


def _equality(finding: Finding) -> Cell:
    counts = [finding.matches.get(word, 0) for word in (YES, NEAR_TIE, NO)]
    text = f"{counts[0]}/{sum(counts)}"
    text += f", {counts[1]} near-ties" if counts[1] else ""
    return (f"{text}, {counts[2]} differ", "no") if counts[2] else (text, "")


def _spread(finding: Finding, column: str, form: str) -> str:
    spread = finding.means[column]
    after = "" if spread.deviation is None else f" ± {spread.deviation:{form}}"
    return f"{spread.mean:{form}}{after}"


def _number(value: float | None, form: str = ".2f") -> str:
    return "–" if value is None else f"{value:{form}}"


def _failures(analysis: Analysis) -> Iterator[str]:
    failures = analysis.failures
    if failures:
        yield f"<h2>Failures</h2><p>{len(failures)} rows failed.</p>"
        for row in failures[:FAILURES_SHOWN]:
            place = f"{row.cell}, {row.prompt_id}, seed {row.seed}: {row.error}"
            yield f"<p>{escape(place)}</p>"
