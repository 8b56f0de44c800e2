"""What mkdocs is told beside `mkdocs.yml`: formulas become MathML, Chinese text loses its gaps.

A reader's browser renders MathML by itself, so no page fetches a script for its formulas.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
FULL_WIDTH = "，。；：、（）“”"
# A line break in Chinese text is no space, and full-width punctuation brings its own.
NO_SPACE = re.compile(
    rf"(?<=[\u4e00-\u9fff{FULL_WIDTH}])\n(?=[\u4e00-\u9fff{FULL_WIDTH}])"
    rf"|(?<=</math>)\s(?=[{FULL_WIDTH}])|(?<=[{FULL_WIDTH}])\s(?=<math)"
)
LANGUAGE_LINK = re.compile(r"^\[(?:中文|English)\]\([^)]*\)\n", re.MULTILINE)


def mathml(match: re.Match[str]) -> str:
    """Return the MathML of one formula, as arithmatex has marked it."""
    is_block = match["tag"] == "div"
    formula = convert(html.unescape(match["latex"]), display="block" if is_block else "inline")
    return f'<div class="formula">{formula}</div>' if is_block else formula


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Drop the link to the other language: the site has a switch, and builds each by itself."""
    return LANGUAGE_LINK.sub("", markdown, count=1)


def on_page_content(content: str, **context: Any) -> str:
    """Turn every formula of a page into MathML, and close the gaps in Chinese text."""
    return NO_SPACE.sub("", FORMULA.sub(mathml, content))
