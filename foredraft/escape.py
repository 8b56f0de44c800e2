r"""What a model, a file or a user says, made harmless for where it is shown.

A terminal obeys escape codes, a spreadsheet computes what begins with `=`, and a character that
nobody sees turns the direction of writing. Text that is *kept* (JSON, tokens) stays as it is; text
that is *shown* goes through here.
"""

from __future__ import annotations

import json
import re
import unicodedata

LINE_ENDS = "\n\t"  # the control characters that text consists of
INVISIBLE = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")  # controls, surrogates, what no font has, U+2028
TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four as wide as a kanji
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def for_terminal(text: str) -> str:
    r"""Return the text with every character that a terminal would obey written out: `\x1b`.

    Line ends and tabs stay. A lone carriage return, which lets a line be written over, does not.
    """
    if text.isascii() and text.isprintable():  # nearly always
        return text
    return "".join(map(_visible, text))


def for_line(text: str) -> str:
    r"""Return the text as one line of a terminal: as `for_terminal`, and `\n` written out."""
    return for_terminal(text).replace("\n", "\\n").replace("\t", "\\t")


def for_cell(text: str) -> str:
    """Return the text as a CSV cell that no spreadsheet takes for a formula (OWASP: a leading ').

    Numbers stay numbers, negative ones too.
    """
    text = for_terminal(text)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def for_json(dumped: str) -> str:
    r"""Return JSON with what a terminal would obey as `\u009b`: the same value, on one line.

    JSON itself escapes only what stands before the space; a line separator would end the line for
    some readers.
    """
    if dumped.isascii() and dumped.isprintable():
        return dumped
    return "".join(c if _visible(c) == c else json.dumps(c)[1:-1] for c in dumped)


def _visible(character: str) -> str:
    if character in LINE_ENDS or character.isprintable():
        return character
    if unicodedata.category(character) in INVISIBLE or character in TURNING:
        return character.encode("unicode_escape").decode()
    return character  # spaces of other widths, joiners inside words and emoji
