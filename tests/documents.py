"""The documents as data, and what can be wrong with them: each check returns its complaints.

A check takes all pages as texts, so that a test can hand it a page with one deliberate mistake.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docs.site.flags import parsers
from docs.site.generate import generated
from docs.site.generate import pages as page_files
from docs.site.markdown import FENCED, anchor, headings, prose
from foredraft.cli.commands import COMMANDS
from foredraft.cli.main import command_parser, shell_parser
from foredraft.gamma import GAMMA_POLICIES
from foredraft.verification import VERIFIERS

ROOT = Path(__file__).parents[1]
Pages = dict[str, str]  # path below the root → text

MARKED = re.compile(r"<!-- begin ([\w-]+) -->\n.*?\n<!-- end \1 -->", re.DOTALL)
QUOTE = re.compile(r"# (\S+\.py):([\w.]+)\n")  # first line of a block that quotes the source
COMMAND = re.compile(  # what a command line asks of our programs
    r"^(?:\$ )?uv run (?:--extra \w+ )?((?:foredraft|infer\.py)\b.*)", re.MULTILINE
)
# Of other programs: uv, mkdocs, vLLM.
FOREIGN_FLAGS = {"--group", "--extra", "--no-sync", "--torch-backend", "--strict"}
FOREIGN_FLAGS |= {"--speculative-config", "--additional-config"}
FOREIGN_FLAGS |= {"--index-url", "--no-cache-dir", "--no-install-recommends"}  # a container file


def read() -> Pages:
    """Return every page."""
    files = [path for path, _ in page_files()]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files}


def language_of(name: str) -> str:
    return "en" if name == "README.md" or name.startswith("docs/en/") else "zh"


def twin(name: str) -> str:
    """Return the English page of a Chinese one."""
    return "README.md" if name == "README.zh.md" else name.replace("docs/", "docs/en/")


def pairs(pages: Pages) -> Iterator[tuple[str, str]]:
    """Yield (Chinese, English) names; one of the two may be missing."""
    chinese = {n for n in pages if language_of(n) == "zh"}
    yield from ((name, twin(name)) for name in sorted(chinese))
    matched = {twin(name) for name in chinese}
    for name in sorted({n for n in pages if language_of(n) == "en"} - matched):
        yield name.replace("docs/en/", "docs/"), name


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks written in a language."""
    return [code for written_in, code in FENCED.findall(text) if written_in == language]


def figures(text: str) -> list[str]:
    """Return the pictures of a page, whatever their language."""
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    return [re.sub(r"\.(zh|en)\.svg$", "", Path(figure).name) for figure in shown]


def bare(code: str, language: str) -> str:
    """Return code without the comments of its author, which each language has in its own words.

    What a line prints (`# → …`) stays, and so do comments of quoted source.
    """
    if language not in {"python", "bash", "toml"} or QUOTE.match(code):
        return code
    return re.sub(r"[ \t]*# (?!→).*$", "", code, flags=re.MULTILINE)


def code_of(text: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page as both languages share them."""
    return [(language, bare(code, language)) for language, code in FENCED.findall(text)]


def formulas(text: str) -> list[str]:
    """Return the displayed formulas of a page; words in them belong to its language."""
    shown = re.findall(r"^\$\$\n.*?\n\$\$$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\\text\{[^}]*\}", "", formula) for formula in shown]


def one_language_only(pages: Pages) -> list[str]:
    """Complain about whatever the two languages do not share."""
    wrong = []
    for chinese, english in pairs(pages):
        if chinese not in pages or english not in pages:
            wrong.append(f"{chinese} / {english}: one of them is missing")
            continue
        one, other = pages[chinese], pages[english]
        if [level for level, _ in headings(one)] != [level for level, _ in headings(other)]:
            wrong.append(f"{chinese} / {english}: different headings")
        for what in (code_of, figures, formulas):
            if what(one) != what(other):
                wrong.append(f"{chinese} / {english}: different {what.__name__}")
    return wrong


def stale(pages: Pages) -> list[str]:
    """Complain about marked blocks that the generator would write differently, or does not see."""
    wrong = [
        f"{name}: a marked block is not what the generator makes; run python -m docs.site.generate"
        for name, text in pages.items()
        if generated(text, language_of(name)) != text
    ]
    for name, text in pages.items():
        marks = re.findall(r"^<!-- (?:begin|end) ", text, re.MULTILINE)
        if len(marks) != 2 * len(MARKED.findall(text)):
            wrong.append(f"{name}: a mark has no partner, or no line between")
    return wrong


def typed_numbers(pages: Pages) -> list[str]:
    """Complain about tables with decimals that nobody computed."""
    wrong = []
    for name, text in pages.items():
        for line in prose(MARKED.sub("", text)).splitlines():
            cells = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|arXiv:[\d.]+", "", line)
            if line.startswith("|") and re.search(r"\d\.\d", cells):
                wrong.append(f"{name}: numbers typed into a table: {line}")
    return wrong


def broken_links(pages: Pages) -> list[str]:
    """Complain about links to files or headings that do not exist."""
    wrong = []
    for name, text in pages.items():
        for path, mark in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", prose(text)):
            file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
            target = file.relative_to(ROOT).as_posix()
            if not file.exists() and target not in pages:
                wrong.append(f"{name}: no file {path}")
            elif mark and mark not in {anchor(words) for _, words in headings(pages[target])}:
                wrong.append(f"{name}: {path} has no heading #{mark}")
    return wrong


@cache
def defined(file: Path) -> frozenset[str]:
    """Return the functions, classes and methods of a module, methods as `Class.method`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{n.name}" for n in inner if isinstance(n, ast.FunctionDef)}
    return frozenset(found)


def source_file(path: str) -> Path:
    """Return a cited file: below the root, or below the package."""
    return ROOT / path if (ROOT / path).exists() else ROOT / "foredraft" / path


def wrong_citations(pages: Pages) -> list[str]:
    """Complain about cited files and functions that do not exist."""
    wrong = []
    for name, whole in pages.items():
        text = MARKED.sub("", whole)  # a generated list may name files that are still to be made
        for path, function in re.findall(r"`([\w/.]+\.py):([\w.]+)`", text):
            file = source_file(path)
            if not file.exists() or function not in defined(file):
                wrong.append(f"{name}: no {function} in {path}")
        for path in re.findall(
            r"`((?:tests|benchmarks|docs|examples|foredraft)/[\w/.-]+\.\w+)`", text
        ):
            if not (ROOT / path).exists():
                wrong.append(f"{name}: no file {path}")
    return wrong


@cache
def known_flags() -> frozenset[str]:
    """Return every flag of our commands and of the scripts in benchmarks and scripts."""
    found = set(FOREIGN_FLAGS) | {
        f for _, p in parsers() for a in p._actions for f in a.option_strings
    }
    for script in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*")]:
        found |= set(re.findall(r"--[a-z][a-z-]+", script.read_text(encoding="utf-8")))
    return frozenset(found)


def routes() -> set[str]:
    """Return the first words of what the server answers at."""
    source = (ROOT / "foredraft" / "server" / "app.py").read_text(encoding="utf-8")
    return {"/openapi", *re.findall(r"@app\.\w+\(\s*\"(/\w+)", source)}


def unknown_commands(pages: Pages) -> list[str]:
    """Complain about flags and slash commands that do not exist, or that no page explains."""
    wrong = []
    for name, text in pages.items():
        shown = re.sub(r"<!--.*?-->", "", text)
        flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", shown)) - known_flags()
        slashed = set(re.findall(r"`(/[a-z]\w*)", shown)) - set(COMMANDS) - routes()
        wrong += [f"{name}: nothing is called {word}" for word in sorted(flags | slashed)]
    for name in (n for n in pages if Path(n).name == "api-options.md"):
        missing = {"flags", "commands"} - set(re.findall(r"<!-- begin ([\w-]+) -->", pages[name]))
        wrong += [f"{name}: no list of {what}" for what in sorted(missing)]
    return wrong


def unparsable_commands(pages: Pages) -> list[str]:
    """Complain about shown command lines that the program would refuse."""
    wrong = []
    made = {"foredraft": command_parser(), "infer.py": shell_parser()}
    for name, text in pages.items():
        for code in [*blocks(text, "bash"), *blocks(text, "console")]:
            for line in COMMAND.findall(code):
                program, *words = shlex.split(line.split(" > ")[0], comments=True)
                try:
                    with contextlib.redirect_stderr(io.StringIO()):
                        made[program].parse_args(words)
                except SystemExit:
                    wrong.append(f"{name}: {line}")
    return wrong


def unlike_the_source(pages: Pages) -> list[str]:
    """Complain about quoted source that is not in the source."""
    wrong = []
    for name, text in pages.items():
        for code in blocks(text, "python"):
            if quote := QUOTE.match(code):
                path, function = quote.groups()
                source = source_file(path).read_text(encoding="utf-8")
                if function not in defined(source_file(path)) or code[quote.end() :] not in source:
                    wrong.append(f"{name}: not as in {path}: {code}")
    return wrong


def formulas_without_derivation(pages: Pages) -> list[str]:
    """Complain about rules whose module does not say where they are derived, or wrongly."""
    wrong = []
    for registry in (VERIFIERS, GAMMA_POLICIES):
        for name in registry.names:
            doc = inspect.getdoc(sys.modules[registry.get(name).__module__]) or ""
            cited = re.search(r"Derived in `([^#`]+)#([^`]+)`", doc)
            if not cited or cited[1] not in pages:
                wrong.append(f"{registry.kind} {name}: its module cites no page that derives it")
    for file in sorted((ROOT / "foredraft").rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        for page, mark in re.findall(r"Derived in `([^#`]+)#([^`]+)`", source):
            marks = {anchor(words) for _, words in headings(pages.get(page, ""))}
            if mark not in marks:
                wrong.append(f"{file.relative_to(ROOT)}: {page} has no heading #{mark}")
    return wrong


CHAPTER = re.compile(r"docs/(?:en/)?\d\d\w?-[\w-]+\.md")
OPENING = {"zh": ("**前置知识**", "**读完之后**"), "en": ("**Before this**", "**Afterwards**")}
ENDING = {"zh": ["小结", "练习", "下一步"], "en": ["Summary", "Exercises", "Next"]}


def unlike_a_chapter(pages: Pages) -> list[str]:
    """Complain about chapters that do not say what they need, give and end with."""
    wrong = []
    for name, text in pages.items():
        if not CHAPTER.fullmatch(name):
            continue
        language = language_of(name)
        opening = text.partition("\n## ")[0]
        wrong += [f"{name}: no {words}" for words in OPENING[language] if words not in opening]
        if [words for level, words in headings(text) if level == 2][-3:] != ENDING[language]:
            wrong.append(f"{name}: does not end with {ENDING[language]}")
        exercises = text.rpartition(f"\n## {ENDING[language][1]}\n")[2]
        asked = len(re.findall(r"^(?:\*\*\d+\.|\d+\. )", exercises, re.MULTILINE))
        if asked < 3 or exercises.count("<details markdown") != asked:
            wrong.append(f"{name}: fewer than three exercises, or one without its answer in a fold")
    return wrong


SPEED = re.compile(r"\d[\d,.]*(?= ?(?:tokens/s\b|tokens a second))|\d\.\d+(?= ?[x×])")


def speeds_nobody_measured(pages: Pages) -> list[str]:
    """Complain about speeds typed into transcripts: there stands … in their place."""
    wrong = []
    for name, text in pages.items():
        for language, code in FENCED.findall(MARKED.sub("", text)):
            if language in {"text", "console"}:
                wrong += [f"{name}: {speed} is in no results file" for speed in SPEED.findall(code)]
    return wrong


def monotonous_traces(pages: Pages) -> list[str]:
    """Complain about traces of which many steps in a row draft nothing: they show one thing."""
    return [
        f"{name}: many steps without a draft in a row"
        for name, text in pages.items()
        if re.search(r"(?:^step .*\[0/0 kept.*\n){6}", text, re.MULTILINE)
    ]


def pages_nobody_finds(pages: Pages) -> list[str]:
    """Complain about pages to which no line of the documentation's front page leads."""
    wrong = []
    for front in ("docs/README.md", "docs/en/README.md"):
        folder = front.removesuffix("README.md")
        own = {n.removeprefix(folder) for n in pages if n.startswith(folder)}
        own = {n for n in own if "/" not in n and n != "README.md"}
        linked = set(re.findall(r"\]\(([\w-]+\.md)", pages[front]))
        wrong += [f"{front}: nothing leads to {page}" for page in sorted(own - linked)]
    return wrong


CHECKS = (
    formulas_without_derivation,
    one_language_only,
    stale,
    typed_numbers,
    broken_links,
    wrong_citations,
    unknown_commands,
    unparsable_commands,
    unlike_the_source,
    unlike_a_chapter,
    speeds_nobody_measured,
    monotonous_traces,
    pages_nobody_finds,
)
