"""Columns of text in the eighty characters of a terminal; nothing is cut off."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

WIDTH = 80  # characters of a terminal as it opens
VALUE = 11  # of a value that stands between name and meaning


def columns(rows: Sequence[Sequence[str]], *, right: bool) -> Iterator[str]:
    """Yield the lines of a table, all columns but the first perhaps to the right.

    A list too long for its column goes on in a further line, under the same name, so that every
    line can be found by it.
    """
    names = max(len(row[0]) for row in rows)
    others = len(rows[0]) - 1
    limit = (WIDTH - names) // max(others, 1) - 2
    if right:
        rows = [line for row in rows for line in _folded(row, limit)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        aligned = [
            f"{c:{'>' if right else '<'}{w}}" for c, w in zip(cells, widths[1:], strict=True)
        ]
        yield "  ".join([f"{first:<{widths[0]}}", *aligned]).rstrip()


def settings(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield the lines of a list of names, values and meanings; long ones go on below."""
    names = max(len(name) for name, _, _ in rows) + 2
    begin = names + VALUE + 2
    for name, value, meaning in rows:
        told = textwrap.wrap(meaning, WIDTH - begin)
        if len(value) <= VALUE:
            head = f"{name:<{names}}{value:<{VALUE + 2}}{told.pop(0)}"
            yield head.rstrip()
        else:
            begun, *more = textwrap.wrap(value, WIDTH - names, break_on_hyphens=False)
            yield f"{name:<{names}}{begun}"
            yield from (" " * names + line for line in more)
        yield from (" " * begin + line for line in told)


def _folded(row: Sequence[str], limit: int) -> list[list[str]]:
    """Return a row as several, none of whose lists of numbers is longer than a cell may be."""
    name, *cells = row
    parts = [
        textwrap.wrap(cell, limit, break_long_words=False) if cell[:1].isdigit() else [cell]
        for cell in cells
    ]
    return [[name, *line] for line in zip_longest(*parts, fillvalue="")]
