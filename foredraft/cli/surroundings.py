"""What a command line depends on besides its flags: the locale's bytes, and where notes go."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from foredraft.cli.output import complain
from foredraft.text import PromptNote


def words_typed(argv: Sequence[str] | None) -> list[str]:
    """Return the words of the command line as UTF-8, also where the locale is ASCII."""
    return [_as_utf8(word) for word in sys.argv[1:]] if argv is None else list(argv)


def _as_utf8(word: str) -> str:
    with suppress(UnicodeError):  # of no encoding, or a word that no terminal sent
        return os.fsencode(word).decode("utf-8")
    return word


@contextmanager
def notes_on_standard_error() -> Iterator[None]:
    """Show each note on a prompt once, as one line, while the context lasts."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PromptNote)
        shown, seen = warnings.showwarning, set[str]()

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, PromptNote):
                if str(message) not in seen:
                    complain(f"note: {message}")
                seen.add(str(message))
            else:
                shown(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
