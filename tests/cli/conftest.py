"""The command line in process, with the toy engine in place of every other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from foredraft.cli.main import main
from foredraft.engine import Engine
from foredraft.loading import LoadOptions
from tests.toy_engine import toy_engine

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Put the toy engine in place of every other; return what was asked for."""
    asked: list[tuple[Any, ...]] = []

    def load(*names: str, **options: LoadOptions) -> Engine:
        asked.append((*names, options["options"], options["drafter_options"]))
        return toy_engine()

    monkeypatch.setattr(Engine, "load", load)
    return asked


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line: exit code, output, errors."""

    def call(*argv: str, entry: Callable[[list[str]], None] = main) -> tuple[int, str, str]:
        code = 0
        try:
            entry(list(argv))
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
