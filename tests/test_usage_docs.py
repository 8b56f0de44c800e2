"""What the pages for users quote: messages that the code says, experiments, symbols and terms."""

from __future__ import annotations

import ast
import re
from functools import cache
from types import SimpleNamespace

import pytest

from docs.site.markdown import FENCED
from docs.site.usage import MEANINGS, NAMES
from foredraft.bench.rows import COLUMNS
from foredraft.bench.shell_runs import ALL_OFF, EXPERIMENTS, SHELL_COLUMNS
from foredraft.cli.commands import find_command
from foredraft.config import DecodingConfig
from foredraft.drafting import DRAFTERS
from foredraft.gamma import GAMMA_POLICIES
from foredraft.native.t5_weights import SEQ2SEQ_FAMILY
from foredraft.native.weights import FAMILY
from foredraft.registry import Registry
from foredraft.verification import VERIFIERS
from tests.documents import ROOT, read

PAGES = read()
OPEN = "\0"  # in a text of the code: what is put in when it runs
GAP = "…"  # the same on a page
SHORTEST = 15  # characters that a quoted message must share with the code
both = pytest.mark.parametrize("folder", ["docs/", "docs/en/"])


@cache
def texts() -> tuple[str, ...]:
    """Return every text in the code of the package."""
    found = []
    for file in (ROOT / "foredraft").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else OPEN for p in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def is_said(message: str) -> bool:
    """Whether a text of the code holds all that is quoted, in this order."""
    parts = [re.escape(part.strip()) for part in message.split(GAP) if part.strip()]
    pattern = re.compile(".*".join(parts), re.DOTALL)
    is_long = sum(map(len, parts)) >= SHORTEST
    return is_long and any(pattern.search(text) for text in texts())


def quoted_messages(page: str) -> list[str]:
    """Return the messages that the tables of the last section quote."""
    section = re.split(r"^## (?:Troubleshooting|按报错).*$", page, flags=re.MULTILINE)[-1]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


@both
def test_every_quoted_message_is_still_said(folder: str) -> None:
    messages = quoted_messages(PAGES[f"{folder}recipes.md"])
    assert len(messages) > 30
    assert [message for message in messages if not is_said(message)] == []


def test_both_languages_explain_the_same_messages() -> None:
    chinese, english = (PAGES[f"docs/{one}recipes.md"] for one in ("", "en/"))
    assert quoted_messages(chinese) == quoted_messages(english)


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert not is_said("the prompt has … words but the model has … positions")
    assert not is_said("…")


def after(lines: list[str]) -> DecodingConfig:
    """Return the settings of a shell, fresh at first, that was told these commands."""
    shell = SimpleNamespace(config=DecodingConfig())
    shell.set = lambda **changes: setattr(shell, "config", shell.config.replace(**changes))
    for line in lines:
        name, _, rest = line.partition(" ")
        find_command(name).run(shell, rest)  # type: ignore[arg-type]
    config: DecodingConfig = shell.config
    return config


@both
def test_the_experiments_to_be_typed_are_those_of_the_script(folder: str) -> None:
    page = PAGES[f"{folder}command-line.md"]
    blocks = [code.splitlines() for _, code in FENCED.findall(page) if code.startswith("/target")]
    assert len(blocks) == len(EXPERIMENTS)
    for (*commands, prompt), experiment in zip(blocks, EXPERIMENTS, strict=True):
        assert not prompt.startswith("/")
        assert all(line.split()[1:] for line in commands), "a bare switch toggles"
        theirs = after([*ALL_OFF, *experiment.commands]).replace(target=True)  # the baseline
        assert after(commands) == theirs


@both
@pytest.mark.parametrize(
    "registry", [DRAFTERS, GAMMA_POLICIES, VERIFIERS], ids=lambda one: one.kind
)
def test_every_component_is_in_a_table(folder: str, registry: Registry[object]) -> None:
    page = PAGES[f"{folder}command-line.md"]
    heads = re.findall(r"^\| (`.*?) \| ", page, re.MULTILINE)
    named = {name for head in heads for name in re.findall(r"`(\w+)", head)}
    assert set(registry.names) <= named


def test_every_column_and_every_family_has_words() -> None:
    assert set(MEANINGS) == {*COLUMNS, *SHELL_COLUMNS}
    assert set(NAMES) == {*FAMILY, *SEQ2SEQ_FAMILY}


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[1:]]


def test_symbols_are_the_same_in_both_languages_and_have_one_meaning() -> None:
    chinese = rows(PAGES["docs/notation.md"], "符号")
    english = rows(PAGES["docs/en/notation.md"], "Symbols")
    symbols = [[re.findall(r"\$[^$]+\$", row[0]) for row in table] for table in (chinese, english)]
    assert symbols[0] == symbols[1]
    every = [symbol for row in symbols[0] for symbol in row]
    assert len(every) == len(set(every)) > 20


def test_terms_are_the_same_pairs_in_both_languages() -> None:
    chinese = rows(PAGES["docs/notation.md"], "术语")
    english = rows(PAGES["docs/en/notation.md"], "Glossary")
    assert [row[:2] for row in chinese] == [row[1::-1] for row in english]
    terms = [row[0].lower().replace("γ", "gamma") for row in english]
    assert terms == sorted(terms)
    for row in (*chinese, *english):
        assert len(row) == 4, row
