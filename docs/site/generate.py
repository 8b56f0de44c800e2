"""Write what the documents show but nobody types: tables, trees and figures.

A page holds `<!-- begin NAME -->` and `<!-- end NAME -->`; what stands between them is made here.

    uv run python -m docs.site.generate
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from docs.site import measured, reference, rules, serving, theory
from docs.site.markdown import anchor, headings
from foredraft.files import read_text, write_whole
from tests.house import tree

ROOT = Path(__file__).parents[2]
FIGURES = ("round", "rollback", "backoff", "speedup", "acceptance")
LANGUAGES = ("zh", "en")
MARKED = re.compile(
    r"(?P<begin><!-- begin (?P<name>[\w-]+) -->\n).*?(?P<end>\n<!-- end (?P=name) -->)", re.DOTALL
)

BLOCKS: dict[str, Callable[[str], str]] = {
    "best-gamma": lambda language: theory.best_gamma_table(),
    "oracle": lambda language: theory.oracle_table(),
    "entropy": lambda language: theory.entropy_table(),
    "verifiers": measured.verifiers,
    "real": measured.real,
    "real-ratios": measured.real_ratios,
    "real-bounds": measured.real_bounds,
    "rounding": measured.rounding,
    "quick": measured.quick,
    "seq2seq": measured.seq2seq,
    "policies": rules.policies,
    "claims": rules.claims,
    "step-parts": rules.step_parts,
    "serve": serving.serve,
    "peers": measured.peers,
    "ablation": measured.ablation,
    "results": measured.index,
    "names": reference.names,
    "details": reference.details,
    "components": reference.components,
    "settings": reference.settings,
    "statistics": reference.statistics,
    "commands": reference.commands,
    "flags": reference.flags,
    "tree": lambda language: f"```text\n{tree()}\n```",
}


def pages() -> list[tuple[Path, str]]:
    """Return every page with its language, Chinese first."""
    chinese = [ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
    english = [ROOT / "README.md", *sorted((ROOT / "docs" / "en").glob("*.md"))]
    return [(page, "zh") for page in chinese] + [(page, "en") for page in english]


def contents(language: str, texts: dict[str, str]) -> str:
    """Return the pages of a language with their sections, as nested lists of links."""
    folder = "docs/en" if language == "en" else "docs"
    lines = []
    for name in sorted(texts):
        page = Path(name)
        if page.parent.as_posix() != folder or page.stem == "README":
            continue
        (_, title), *sections = headings(texts[name])
        lines.append(f"- [{title}]({page.name})")
        for level, words in sections:
            if level == 2:
                lines.append(f"    - [{words}]({page.name}#{anchor(words)})")
    return "\n".join(lines)


def generated(text: str, language: str, texts: dict[str, str]) -> str:
    """Return a page's text with every marked block made anew.

    Args:
        text: the page.
        language: zh or en.
        texts: every page by its path, for the table of contents.
    """

    def make(match: re.Match[str]) -> str:
        name = match["name"]
        body = contents(language, texts) if name == "contents" else BLOCKS[name](language)
        return match["begin"] + "\n" + body + "\n" + match["end"]

    return MARKED.sub(make, text)


def figures() -> dict[Path, str]:
    """Return file → SVG of every figure in both languages."""
    drawn = {}
    for name in FIGURES:
        draw = import_module(f"docs.figures.{name}").draw
        for language in LANGUAGES:
            drawn[ROOT / "docs" / "figures" / f"{name}.{language}.svg"] = draw(language)
    return drawn


def main() -> None:
    """Bring every page and figure up to date; say which have changed."""
    found = pages()
    texts = {p.relative_to(ROOT).as_posix(): read_text(p) for p, _ in found}
    wanted = figures() | {
        page: generated(texts[page.relative_to(ROOT).as_posix()], language, texts)
        for page, language in found
    }
    for path, text in wanted.items():
        if not path.exists() or read_text(path) != text:
            write_whole(path, text)
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
