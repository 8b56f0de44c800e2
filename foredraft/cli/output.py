"""Lines outside of a `View`: what is for people is escaped, what is for programs is data."""

from __future__ import annotations

import io
import json
import sys

from foredraft.escape import for_json, for_line, for_terminal


def say(text: object = "", *, flush: bool = False) -> None:
    """Print a line for a person on standard output."""
    print(for_terminal(str(text)), flush=flush)


def complain(text: object) -> None:
    """Print one line on standard error; where that is full or closed, nobody can be told."""
    try:
        print(for_line(str(text)), file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = io.StringIO()  # else the exit would flush again


def say_json(value: object) -> None:
    """Print one object as one line of JSON."""
    print(json_line(value))


def json_line(value: object) -> str:
    """Return one object as one line of JSON that no terminal obeys and every reader keeps whole."""
    return for_json(json.dumps(value, ensure_ascii=False))


def say_text(text: str) -> None:
    """Print a text as it is into a file or a pipe, where it is data; escaped on a terminal."""
    print(for_terminal(text) if sys.stdout.isatty() else text)
