"""A session with the toy engine, as the text that a reader of its output sees."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import BytesIO, StringIO, TextIOWrapper

from foredraft.cli.shell import Shell
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from tests.toy_engine import toy_engine

TIMED = (
    "tokens_per_second",
    "total_seconds",
    "time_to_first_token_seconds",
    "seconds_per_token",
    "draft_cost_ratio",
    "mean_threads",
    "speedup",
)


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def open_shell(
    engine: Engine | None = None,
    config: DecodingConfig | None = None,
    stream: StringIO | None = None,
) -> Shell:
    """Return a shell on the toy engine that prints into memory."""
    return Shell(
        engine or toy_engine(), config or DecodingConfig(seed=42), View(stream or StringIO())
    )


def printed(shell: Shell) -> str:
    """Return everything a shell made by `open_shell` has printed."""
    assert isinstance(shell.view.stream, StringIO)
    return shell.view.stream.getvalue()


def converse(
    *lines: str, engine: Engine | None = None, config: DecodingConfig | None = None
) -> str:
    """Return the whole transcript of a session, without what the clock decides."""
    shell = open_shell(engine, config)
    shell.run(lines, echo=True)
    return without_clock(printed(shell))


def as_bytes(lines: Iterable[str], config: DecodingConfig | None = None) -> bytes:
    """Return what a session writes into a UTF-8 stream, which refuses what is not text."""
    raw = BytesIO()
    stream = TextIOWrapper(raw, encoding="utf-8", write_through=True)
    Shell(toy_engine(), config or DecodingConfig(seed=42), View(stream)).run(lines, echo=True)
    return raw.getvalue()


def without_clock(text: str) -> str:
    """Replace speeds and ratios by `#`, and aligned columns by two spaces."""
    text = re.sub(r"[\d.]+ tokens/s\b", "# tokens/s", text)
    text = re.sub(r"\b[\d.]+x", "#x", text)
    rows = [line.split(maxsplit=1) for line in text.split("\n")]
    lines = [
        f"{row[0]}  {re.sub(NUMBER, '#', row[1])}" if len(row) == 2 and row[0] in TIMED else line
        for row, line in zip(rows, text.split("\n"), strict=True)
    ]
    return "\n".join(re.sub(r"(?<=\S)   *", "  ", line).rstrip() for line in lines)


NUMBER = r"\d[\d.]*(e[+-]\d+)?"
