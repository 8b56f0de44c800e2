"""Markdown as the generator and the tests read it: fenced blocks, headings and their anchors."""

from __future__ import annotations

import re

FENCED = re.compile(r"^```([\w-]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return FENCED.sub("", text)


def headings(text: str) -> list[tuple[int, str]]:
    """Return (level, words) of every heading."""
    found = re.findall(r"^(#+) (.*)$", prose(text), re.MULTILINE)
    return [(len(marks), words) for marks, words in found]


def anchor(words: str) -> str:
    """Return what a heading's link ends with, on the site and on the forges alike."""
    return re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
