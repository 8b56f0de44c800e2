"""The ends of every script: its flags, Markdown tables, and files in `benchmarks/results/`."""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foredraft.files import read_text, write_whole
from foredraft.loading.device import resolve_device

RESULTS = Path(__file__).parent / "results"
MOST_PLAIN = 2_000  # characters of a file of figures; more lie compressed, as NAME.json.xz


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a command line that tells the first line of a script's docstring."""
    return argparse.ArgumentParser(description=(doc or "").split("\n")[0])


def add_setting_flags(parser: argparse.ArgumentParser, script: str) -> None:
    """Add how the models of a setting are loaded, and whether results are kept."""
    add = parser.add_argument
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="[%(default)s]")
    add("--device", default="auto", help="auto, cpu, cuda [%(default)s]")
    add("--padded", type=float, metavar="PARAMETERS", help="pad the target to so many, e.g. 1e9")
    add("--save", action="store_true", help=f"write benchmarks/results/{script}-*.{{json,md}}")


def check_least(parser: argparse.ArgumentParser, args: argparse.Namespace, **least: int) -> None:
    """Refuse a flag whose number is too small."""
    for name, low in least.items():
        if getattr(args, name) < low:
            parser.error(f"--{name} must be {low} or more, not {getattr(args, name)}")


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
    """Write figures as JSON, and a page beside them if there is one.

    Many lie compressed in the folder of results, whose form of before is gone; elsewhere a file is
    what its name says. Of a number six digits are kept: none of them is measured better.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(found), indent=1) + "\n"
    packed = file.with_name(f"{file.name}.xz")
    if len(text) > MOST_PLAIN and file.parent.resolve() == RESULTS.resolve():
        write_whole(packed, lzma.compress(text.encode(), preset=9))
        file.unlink(missing_ok=True)
    else:
        write_whole(file, text)
        packed.unlink(missing_ok=True)
    if page:
        write_whole(file.with_suffix(".md"), page + "\n")


def rounded(value: Any) -> Any:
    """Return figures with all their floats to six digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def kept(file: Path) -> Any:
    """Return the figures that `keep` wrote, in whichever form."""
    packed = file.with_name(f"{file.name}.xz")
    return json.loads(lzma.decompress(packed.read_bytes()) if packed.exists() else read_text(file))


def end(script: str, title: str, text: str, found: dict[str, Any], *, is_kept: bool) -> None:
    """Print text and figures; keep them under a name that says what was measured on which device.

    The last line is JSON.
    """
    print(text)
    if is_kept:
        _save(script, title, text, found)
    print(json.dumps(found))


def _save(script: str, title: str, text: str, found: dict[str, Any]) -> None:
    setting = found["setting"]
    padded = f"-padded-{setting['padded'] / 1e6:.0f}M" if setting["padded"] else ""
    stem = f"{script}-{resolve_device(setting['device']).type}-{setting['dtype']}{padded}"
    page = f"# {title}\n\nMade by `benchmarks/{script}.py`.\n\n{text}"
    keep(RESULTS / f"{stem}.json", found, page)
    print(f"\nwritten: benchmarks/results/{stem}.json and .md")
