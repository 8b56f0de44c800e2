"""What the documents show runs, and both languages show the same."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from specdec.cli.commands import COMMANDS
from specdec.cli.main import infer
from specdec.models.loading import BUNDLED
from tests.house import tree

ROOT = Path(__file__).parents[1]
PAIRS = [
    ("README.md", "README.zh.md"),
    ("docs/en/architecture.md", "docs/architecture.md"),
    ("docs/en/02-speculative-theory.md", "docs/02-speculative-theory.md"),
]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)
    return [code for written_in, code in fenced if written_in == language]


EXAMPLES = [(one, code) for one, _ in PAIRS for code in blocks(one, "python")]


def headings(name: str) -> list[int]:
    prose = re.sub(r"^```.*?^```", "", text(name), flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)]


def without_figures(transcript: str) -> str:
    """Speeds and ratios differ from machine to machine; all else must not."""
    return re.sub(r"\d+\.\d+(?= tokens/s\b)|\d+\.\d+(?=x)", "#", transcript)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_both_languages_have_the_same_headings_and_code(one: str, other: str) -> None:
    assert headings(one) == headings(other)
    for language in ("python", "bash", "text", ""):
        assert blocks(one, language) == blocks(other, language)


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_python_of_the_documents_runs(page: str, code: str) -> None:
    expected = re.findall(r"^# → (.*)$", code, re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), {"__name__": "__main__"})
    assert all(line in printed.getvalue() for line in expected)
    assert printed.getvalue().strip()


def test_first_transcript_is_what_the_shell_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = blocks("README.md", "text")[0]
    lines = [line[2:] for line in shown.splitlines() if line.startswith("> ")]
    stdin = io.TextIOWrapper(io.BytesIO("\n".join(lines).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    infer(["--device", "cpu", "--target", BUNDLED])
    assert without_figures(capsys.readouterr().out.strip()) == without_figures(shown.strip())


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_every_slash_command_is_documented_and_exists(name: str) -> None:
    table = [line for line in text(name).splitlines() if line.startswith("| `/")]
    documented = {word for line in table for word in re.findall(r"`(/\w+)", line)}
    assert documented == set(COMMANDS)


def test_the_tree_is_the_package_as_it_stands() -> None:
    shown = next(b for b in blocks("README.md", "text") if b.startswith("specdec/"))
    assert shown.strip() == tree()


@pytest.mark.parametrize("name", [name for pair in PAIRS for name in pair])
def test_internal_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(name)):
        assert ((ROOT / name).parent / target).exists(), target
