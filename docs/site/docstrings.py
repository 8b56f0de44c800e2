"""Google-style docstrings as data: summary, paragraphs, arguments, attributes, returns, raises."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):\n((?:(?:[ ]{4}.*)?\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^(?P<name>\**\w+): (?P<words>.*)$", re.DOTALL)


@dataclass
class Told:
    """What a docstring says, each sentence without its line breaks.

    Attributes:
        summary: the first paragraph.
        more: the paragraphs after it that belong to no section.
        args: parameter → meaning.
        attributes: attribute → meaning.
        returns: what is returned; empty where nothing is said.
        raises: error → when; what names no error of its own stands under "".
    """

    summary: str = ""
    more: list[str] = field(default_factory=list)
    args: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    returns: str = ""
    raises: dict[str, str] = field(default_factory=dict)


def told(thing: Any) -> Told:
    """Return what the docstring of a class, a function or a property says."""
    text = (inspect.getdoc(thing) or "") + "\n"
    found = {name: _entries(body) for name, body in SECTION.findall(text)}
    paragraphs = [_joined(part) for part in SECTION.sub("", text).split("\n\n") if part.strip()]
    summary, *more = paragraphs or [""]
    return Told(
        summary,
        more,
        _named(found.get("Args", [])),
        _named(found.get("Attributes", [])),
        " ".join(found.get("Returns", [])),
        _named(found.get("Raises", [])),
    )


def _entries(body: str) -> list[str]:
    """Return the entries of a section: what is indented deeper goes on with the one before."""
    parts = re.split(r"^ {4}(?! )", body, flags=re.MULTILINE)
    return [_joined(part) for part in parts if part.strip()]


def _named(entries: list[str]) -> dict[str, str]:
    matches = [(ENTRY.match(entry), entry) for entry in entries]
    return {m["name"] if m else "": m["words"] if m else entry for m, entry in matches}


def _joined(part: str) -> str:
    return " ".join(part.split())
