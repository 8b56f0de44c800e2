"""What the reference says in each language: English from the program, Chinese by what it says.

`chinese/*.toml` hold the English sentence → the Chinese one. So a sentence that changes in the
program loses its translation, which `tests/test_reference.py` notices.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from foredraft.files import read_text

Say = Callable[[str], str]  # an English sentence → the same in the language of a page
Made = Callable[[Say], str]  # a block of a page, in the language that is spoken
CHINESE = re.compile(r"[\u3001-\u9fff，；：（）]")  # characters, and marks of full width
FOLDER = Path(__file__).parent / "chinese"


@cache
def chinese() -> dict[str, str]:
    """Return English → Chinese, of all files.

    Raises:
        ValueError: two files translate one sentence.
    """
    every: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        found = tomllib.loads(read_text(path))
        if twice := every.keys() & found.keys():
            raise ValueError(f"{path.name} translates again: {sorted(twice)}")
        every |= found
    return every


def speaker(language: str) -> Say:
    """Return what says a sentence in a language; one that is not translated stays English."""
    return (lambda english: english) if language == "en" else (lambda e: chinese().get(e, e))


def in_language(make: Made) -> Callable[[str], str]:
    """Return a block's maker as the generator calls it."""
    return lambda language: make(speaker(language))


def spoken(makers: dict[str, Made]) -> set[str]:
    """Return every sentence that some blocks say."""
    said: set[str] = set()

    def noted(english: str) -> str:
        said.add(english)
        return english

    for make in makers.values():
        make(noted)
    return said


def untranslated(said: set[str], known: dict[str, str]) -> list[str]:
    """Complain about sentences without a Chinese one, and about Chinese ones nobody asks for."""
    wrong = [f"no Chinese for {english!r}" for english in sorted(said - known.keys())]
    wrong += [f"nothing says {english!r}" for english in sorted(known.keys() - said)]
    bare = (e for e, c in known.items() if re.search(r"[A-Za-z]", e) and not CHINESE.search(c))
    return wrong + [f"no Chinese character stands for {english!r}" for english in sorted(bare)]


def table(heads: list[str], rows: list[list[str]], say: Say) -> list[str]:
    """Return the lines of a table; columns that no row fills are left out."""
    filled = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    lines = [[say(heads[place]) for place in filled], ["---"] * len(filled)]
    lines += [[row[place] for place in filled] for row in rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def cell(words: str) -> str:
    """Return words fit for a table."""
    return words.replace("|", "\\|")
