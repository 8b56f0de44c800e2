"""Every text can be sent: `//` begins a prompt, and so does a space before a `/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from foredraft.cli.commands import COMMANDS
from foredraft.cli.main import infer
from foredraft.config import DecodingConfig
from tests.cli.conftest import Run, loaded, run
from tests.cli.transcript import open_shell, printed

__all__ = ["loaded", "run"]  # fixtures
ROOT = Path(__file__).parents[2]
ONE = DecodingConfig(speculative=False, ngram=False, length=1)
SENT = {  # what is typed → the prompt that is sent
    "// adds two numbers": "// adds two numbers",
    "//": "//",
    "///": "///",
    "//help": "//help",
    "  // indented": "// indented",
    " /usr/bin/env": "/usr/bin/env",
    "\t/help": "/help",
    " /": "/",
    "a /help": "a /help",
    "\\/help": "\\/help",
}


@pytest.mark.parametrize("typed", SENT, ids=ascii)
def test_it_is_sent_as_it_is(typed: str) -> None:
    shell = open_shell(config=ONE)
    shell.run([typed], echo=False)
    assert "error" not in printed(shell)
    assert shell.prompt == SENT[typed]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_sent_as_a_prompt(name: str) -> None:
    for typed in (f" {name}", f"/{name}"):
        shell = open_shell(config=ONE)
        shell.run([typed], echo=False)
        assert shell.prompt == typed.strip()


@pytest.mark.parametrize("typed", ["// adds two numbers", " /help"])
@pytest.mark.usefixtures("loaded")
def test_the_flag_sends_it_as_well(typed: str, run: Run) -> None:
    code, out, err = run("--prompt", typed, entry=infer)
    assert (code, err) == (0, "")
    assert "== Target AR ==" in out


def test_a_single_slash_is_a_command_and_an_unknown_one_is_refused() -> None:
    shell = open_shell(config=ONE)
    shell.run(["/usr/bin/env python", "/"], echo=False)
    assert printed(shell).count("error: unknown command '/") == 2
    assert shell.prompt == ""


@pytest.mark.parametrize("page", ["docs/command-line.md", "docs/en/command-line.md"])
def test_help_and_both_languages_say_so(page: str) -> None:
    shell = open_shell()
    shell.run(["/help"], echo=False)
    assert "so\nis one that begins with //, or with a space." in printed(shell)
    assert "`//`" in (ROOT / page).read_text(encoding="utf-8")
