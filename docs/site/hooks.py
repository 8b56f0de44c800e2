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
HAN, FULL_WIDTH = "\u4e00-\u9fff", "，。；：、？！（）《》“”"
TAGS = r"((?:</?(?:a|em|strong|summary)\b[^>]*>)*)"
# A line break in Chinese text is no space, and full-width punctuation brings its own.
GAP = re.compile(
    rf"(?<=[{HAN}]){TAGS}\n{TAGS}(?=[{HAN}])|(?<=[{FULL_WIDTH}]){TAGS}\s+|\s+{TAGS}(?=[{FULL_WIDTH}])"
)
CODE = re.compile(r"(<pre\b.*?</pre>)", re.DOTALL)
LANGUAGE_LINK = re.compile(r"^\[(?:中文|English)\]\([^)]*\)(?:\n|\Z)", re.MULTILINE)
LINK_UP = re.compile(r"\[(?P<words>[^\]]*)\]\((?P<up>(?:\.\./)+)(?P<path>[^)#]+)(?:#[^)]*)?\)")


def mathml(match: re.Match[str]) -> str:
    """Return the MathML of one formula, as arithmatex has marked it."""
    is_block = match["tag"] == "div"
    formula = convert(html.unescape(match["latex"]), display="block" if is_block else "inline")
    return f'<div class="formula">{formula}</div>' if is_block else formula


def on_page_markdown(markdown: str, page: Any, **context: Any) -> str:
    """Drop links that lead out of the site: to the other language, and to files of the repository.

    The site has a switch of languages; of a file it gives the path.
    """
    folders = page.file.src_uri.count("/")

    def within(match: re.Match[str]) -> str:
        if match["up"].count("/") <= folders:
            return match[0]
        is_named = match["path"] in match["words"]
        return match["words"] if is_named else f"{match['words']} (`{match['path']}`)"

    return LINK_UP.sub(within, LANGUAGE_LINK.sub("", markdown, count=1))


def without_gaps(content: str) -> str:
    """Close the gaps that line breaks leave in Chinese text, but not those of code."""
    parts = CODE.split(content)
    parts[::2] = [GAP.sub(r"\1\2\3\4", text) for text in parts[::2]]
    return "".join(parts)


def on_page_content(content: str, page: Any, **context: Any) -> str:
    """Turn every formula of a page into MathML, and close the gaps in Chinese text."""
    content = FORMULA.sub(mathml, content)
    return content if page.file.src_uri.startswith("en/") else without_gaps(content)
