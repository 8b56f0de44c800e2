"""Figures → Markdown tables, and files in `benchmarks/results/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foredraft.files import write_whole

RESULTS = Path(__file__).parent / "results"


def markdown(table: list[list[str]]) -> str:
    """Return rows of cells, head first, as an aligned Markdown table."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def stem_of(script: str, machine: dict[str, Any], setting: dict[str, Any]) -> str:
    """Return a file name, without its ending, that says what was measured on which device."""
    padded = f"-padded-{setting['padded'] / 1e6:.0f}M" if setting["padded"] else ""
    return f"{script}-{machine['device'].split(':')[0]}-{setting['dtype']}{padded}"


def save(stem: str, title: str, text: str, found: dict[str, Any]) -> None:
    """Write figures as JSON and their text as Markdown, and say so."""
    RESULTS.mkdir(exist_ok=True)
    script = stem.split("-")[0]
    page = f"# {title}\n\nMade by `benchmarks/{script}.py`.\n\n{text}\n"
    write_whole(RESULTS / f"{stem}.json", json.dumps(found, indent=1) + "\n")
    write_whole(RESULTS / f"{stem}.md", page)
    print(f"\nwritten: benchmarks/results/{stem}.json and .md")
