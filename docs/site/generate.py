"""Write what the documents show but nobody types: tables, trees and figures.

A page holds `<!-- begin NAME -->` and `<!-- end NAME -->`; what stands between them is made here.

    uv run python -m docs.site.generate
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from foredraft.files import read_text, write_whole
from tests.house import tree

ROOT = Path(__file__).parents[2]
FIGURES = sorted(
    path.stem for path in (ROOT / "docs" / "figures").glob("*.py") if path.stem != "svg"
)
LANGUAGES = ("zh", "en")
MARKED = re.compile(
    r"(?P<begin><!-- begin (?P<name>[\w-]+) -->\n).*?(?P<end>\n<!-- end (?P=name) -->)", re.DOTALL
)
MAKERS = (  # modules of this folder, each with `BLOCKS`: name → text in a language
    *("adaptive", "conclusions", "front", "measured", "proofs", "reached", "readings"),
    *("real_model", "reference", "retrieval", "rules", "serving", "theory", "usage"),
)
BLOCKS: dict[str, Callable[[str], str]] = {
    name: make
    for maker in MAKERS
    for name, make in import_module(f"docs.site.{maker}").BLOCKS.items()
} | {"tree": lambda language: f"```text\n{tree()}\n```"}


def pages() -> list[tuple[Path, str]]:
    """Return every page with its language, Chinese first."""
    chinese = [ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
    english = [ROOT / "README.md", *sorted((ROOT / "docs" / "en").glob("*.md"))]
    return [(page, "zh") for page in chinese] + [(page, "en") for page in english]


def generated(text: str, language: str) -> str:
    """Return a page's text with every marked block made anew, in zh or en."""

    def make(match: re.Match[str]) -> str:
        return match["begin"] + "\n" + BLOCKS[match["name"]](language) + "\n" + match["end"]

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
    wanted = figures() | {page: generated(read_text(page), language) for page, language in pages()}
    for path, text in wanted.items():
        if not path.exists() or read_text(path) != text:
            write_whole(path, text)
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
