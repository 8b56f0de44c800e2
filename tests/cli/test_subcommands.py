"""The table of subcommands: help waits for none of their modules, and each of them has its own."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from docs.site.flags import subcommands
from foredraft.cli.main import SUBCOMMANDS, command_parser
from foredraft.cli.parser import Parser
from foredraft.cli.view import HEADINGS
from foredraft.config import METHODS
from tests.cli.conftest import Run

SLOW = {"torch", "transformers", "tokenizers", "numpy", "rich", "prompt_toolkit"}  # to load


def loaded_by(*words: str) -> set[str]:
    """Return the packages that a fresh Python loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.split("|")[-1].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("words", ["--help", "--version", "models", "models --help"])
def test_help_and_version_load_no_library_that_computes(words: str) -> None:
    loaded = loaded_by("-m", "foredraft", *words.split())
    assert "foredraft" in loaded
    assert loaded.isdisjoint(SLOW)


def test_errors_load_no_library_at_all() -> None:
    assert loaded_by("-c", "import foredraft.errors").isdisjoint(SLOW)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_is_a_module_that_adds_its_flags_and_runs(name: str) -> None:
    parser = Parser(prog="foredraft")
    import_module(f"foredraft.cli.{name}").add_flags(parser)
    assert callable(parser.get_default("run"))
    assert SUBCOMMANDS[name] in command_parser(()).format_help()


def test_only_what_is_named_knows_its_flags() -> None:
    parsers = subcommands(command_parser(["models"]))
    assert list(parsers) == list(SUBCOMMANDS)
    assert [name for name, its in parsers.items() if its.get_default("run")] == ["models"]
    assert all(find_spec(f"foredraft.cli.{name}") for name in parsers)


def test_an_unknown_subcommand_is_refused_with_the_legal_ones(run: Run) -> None:
    code, out, err = run("generat", "--prompt", "x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "invalid choice: 'generat'" in err
    assert all(name in err for name in SUBCOMMANDS)


def test_every_method_has_a_heading() -> None:
    assert set(HEADINGS) == set(METHODS)
