"""Numbers that are none, too large or no use; and what an attempt with one of them must come to."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, get_type_hints

import numpy as np

from foredraft.cli.session import Session
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.core import FinishReason
from foredraft.errors import ForedraftError
from tests.toy_engine import RETOLD, toy_engine

# fmt: off
VALUES: list[Any] = [
    math.nan, math.inf, -math.inf, 0, -0.0, 0.5, 1, -1, -0.5, 1e9, 1e30, 1e308, -1e308, 2**31,
    2**63,    10**40, -(10**40), 10**400, -(10**400), 10**5000,
    np.float32("nan"), Fraction(10**400), np.int64(2**62), np.float64(1e300),
]
WORDS = [
    "nan", "NaN", "inf", "-inf", "infinity", "0", "-0.0", "0.5", "1", "-1", "1e9", "1e30", "1e308",
    "1e309", "-1e308", "9" * 40, "-" + "9" * 40, "9" * 400, "9" * 5000, "0x10", "1_0", "+5", " 5",
    "٣", "1e1", "three", "", "True", "None", "3j",
]
# fmt: on
NO_NUMBERS: list[Any] = [True, False, "3", b"3", 3j, [3], {}, np.True_]
RANGE = re.compile(r"[\[(]-?\d[\d.e+-]*, -?\d[\d.e+-]*[\])]")  # both ends are numbers


def numbers_of(thing: Callable[..., Any]) -> list[str]:
    """Return the parameters of a dataclass or a function that are numbers."""
    hints = get_type_hints(thing.__init__ if inspect.isclass(thing) else thing)
    kinds = (int, float, int | None, float | None)
    return [name for name, hint in hints.items() if hint in kinds]


def attempt(make: Callable[[], Any], *named: str) -> Any:
    """Return what is made, or None where it is refused in one sentence with its finite range."""
    try:
        return make()
    except ForedraftError as refused:
        said = str(refused)
    assert "\n" not in said
    assert len(said) < 400
    assert all(name in said for name in named), said
    assert "∞" not in said
    assert not named or RANGE.search(said), said
    return None


def generate(**settings: Any) -> None:
    """Generate a few tokens with settings that were accepted, by both methods that draft."""
    config = DecodingConfig(**{"length": 6, **settings})
    for method in ("speculative", "ngram"):
        done = toy_engine().generate(RETOLD, config, method=method)
        assert done.text or done.finish_reason is FinishReason.BLOCKED


def session() -> Session:
    """Return a shell's session on the toy engine."""
    return Session(toy_engine(), DecodingConfig(length=6), View())
