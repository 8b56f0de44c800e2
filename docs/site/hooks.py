"""What mkdocs is told beside `mkdocs.yml`: formulas become MathML, Chinese text loses its gaps.

A reader's browser renders MathML by itself, so no page fetches a script for its formulas.
"""

from __future__ import annotations

import html
import re
from itertools import pairwise
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
# Brackets, and what stands between the sides of an equation.
BREAK = re.compile(r"(?P<relation>=|<|>|\\(?:le|ge|leq|geq|approx|to|sim|propto)\b)|[(){}\[\]]")
FUNCTION = re.compile(
    r"<m[io]>(?P<name>exp|inf|ln|log|max|min|sup)</m[io]>(?P<bracket>(?:<mrow>)?<mo[^>]*>&#x00028;)?"
)
LONG = 30  # characters of LaTeX that fit in a line of a telephone
HAN, FULL_WIDTH = "\u4e00-\u9fff", "，。；：、？！（）《》“”"
TAGS = r"((?:</?(?:a|em|strong|summary)\b[^>]*>)*)"
# A line break in Chinese text is no space, and full-width punctuation brings its own.
GAP = re.compile(
    rf"(?<=[{HAN}]){TAGS}\n{TAGS}(?=[{HAN}])|(?<=[{FULL_WIDTH}]){TAGS}\s+|\s+{TAGS}(?=[{FULL_WIDTH}])"
)
# A formula and the stop after it: no line begins with a stop.
STOPPED = re.compile(rf"<math(?:(?!<math).)*?</math>[.,;:!?){FULL_WIDTH}]+", re.DOTALL)
CODE = re.compile(r"(<pre\b.*?</pre>)", re.DOTALL)
LANGUAGE_LINK = re.compile(r"^\[(?:中文|English)\]\([^)]*\)(?:\n|\Z)", re.MULTILINE)
LINK_UP = re.compile(r"\[(?P<words>[^\]]*)\]\((?P<up>(?:\.\./)+)(?P<path>[^)#]+)(?:#[^)]*)?\)")


def pieces(latex: str) -> list[str]:
    """Cut a long formula before its relations, where a narrow page may break the line."""
    cuts, depth = [0], 0
    for found in BREAK.finditer(latex) if len(latex) > LONG else ():
        depth += (found[0] in "({[") - (found[0] in ")}]")
        if depth == 0 and found["relation"]:
            cuts.append(found.start())
    return [latex[i:j] for i, j in pairwise([*cuts, len(latex)]) if latex[i:j].strip()]


def tight(formula: str) -> str:
    """Set a function near its bracket and a prime near its letter, as in print."""

    def spaced(match: re.Match[str]) -> str:
        bracket = match["bracket"] or ""
        after = "0" if bracket else "0.17em"
        return f'<mo lspace="0.17em" rspace="{after}">{match["name"]}</mo>{bracket}'

    formula = FUNCTION.sub(spaced, formula)
    return formula.replace("<mi>&#x02032;</mi>", '<mo lspace="0" rspace="0">&#x02032;</mo>')


def mathml(match: re.Match[str]) -> str:
    """Return the MathML of one formula, as arithmatex has marked it."""
    latex = html.unescape(match["latex"])
    if match["tag"] == "div":
        return f'<div class="formula">{tight(convert(latex, display="block"))}</div>'
    return "<wbr>".join(tight(convert(piece)) for piece in pieces(latex))


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
    if not page.file.src_uri.startswith("en/"):
        content = without_gaps(content)
    return STOPPED.sub(r'<span class="together">\g<0></span>', content)
