"""Figures → Markdown tables, and files in `benchmarks/results/`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foredraft.files import write_whole
from foredraft.loading.device import resolve_device

RESULTS = Path(__file__).parent / "results"


def markdown(rows: Sequence[dict[str, Any]], form: str = "{:.4g}") -> str:
    """Return rows, all with the same keys, as an aligned Markdown table.

    Args:
        rows: a cell is a text, a number, a median with its interval as `side_by_side.median_of`
            gives it, or None.
        form: of numbers that are not whole.
    """
    table = [list(rows[0]), *([shown(cell, form) for cell in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def shown(cell: Any, form: str) -> str:
    """Return a cell as text."""
    if isinstance(cell, dict):
        ends = [shown(cell[end], form) for end in ("low", "high")]
        middle = shown(cell["median"], form)
        return middle if cell["low"] is None else f"{middle} [{', '.join(ends)}]"
    if cell is None:
        return "–"
    return form.format(cell) if isinstance(cell, float) else str(cell)


def keep(file: Path, found: dict[str, Any], page: str = "") -> None:
    """Write figures as JSON, and a page beside them if there is one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(found, indent=1) + "\n")
    if page:
        write_whole(file.with_suffix(".md"), page + "\n")


def save(script: str, title: str, text: str, found: dict[str, Any]) -> None:
    """Write figures and text under a name that says what was measured on which device."""
    setting = found["setting"]
    padded = f"-padded-{setting['padded'] / 1e6:.0f}M" if setting["padded"] else ""
    stem = f"{script}-{resolve_device(setting['device']).type}-{setting['dtype']}{padded}"
    page = f"# {title}\n\nMade by `benchmarks/{script}.py`.\n\n{text}"
    keep(RESULTS / f"{stem}.json", found, page)
    print(f"\nwritten: benchmarks/results/{stem}.json and .md")
