"""What a caller gives → the value it stands for, or one sentence that names the parameter."""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

from foredraft.errors import ConfigError, ForedraftError, RequestError, quoted
from foredraft.ranges import checked, hints_of

T = TypeVar("T")
Parameters = ParamSpec("Parameters")


def checks_arguments(function: Callable[Parameters, T]) -> Callable[Parameters, T]:
    """Check numbers, switches and strings by the types that the signature declares.

    The parameters of dataclasses are checked likewise, by `ranges.Checked`; what is declared as
    anything else reaches the function as it is.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def door(*args: Parameters.args, **kwargs: Parameters.kwargs) -> T:
        hints = hints_of(function)  # not before: a method's class does not know its own name yet
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in hints:
                bound.arguments[name] = checked(name, value, hints[name])
        return function(*bound.args, **bound.kwargs)

    return door


def of_type(
    name: str, value: object, kind: type[T], remedy: str, error: type[ForedraftError] = ConfigError
) -> T:
    """Return the value if it is of a type; else raise with what to give instead."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise error(f"{name} must be {article} {kind.__name__}, not {quoted(value)}; {remedy}")
    return value


def one_of(what: str, name: str, legal: Sequence[str]) -> str:
    """Return a name that is legal; else raise with those that are."""
    if name not in legal:
        raise ConfigError(f"unknown {what} {name!r}; legal: {', '.join(legal)}")
    return name


def listed(name: str, values: Sequence[T], remedy: str) -> Sequence[T]:
    """Return what holds values in an order of its own and is no text."""
    if isinstance(values, str | bytes | bytearray) or not isinstance(values, Sequence):
        raise RequestError(f"{name} must be a list, not {quoted(values)}; {remedy}")
    return values


def check_is_text(prompt: str, what: str = "the prompt") -> None:
    """Raise `RequestError` unless something can be tokenized, and says something."""
    if not isinstance(prompt, str):
        raise RequestError(
            f"{what} must be text, not {quoted(prompt)}; token ids are for the functions, e.g. "
            "speculative_generate"
        )
    if not prompt.strip():
        raise RequestError(f"{what} is empty; give at least one character that is not a space")
    # Control characters that are white space (tab, line feed, form feed, …) are text.
    odd = next(
        (c for c in prompt if unicodedata.category(c) in ("Cc", "Cs") and not c.isspace()), None
    )
    if odd is not None:
        raise RequestError(
            f"{what} is not text: it holds the character U+{ord(odd):04X}; give valid UTF-8 "
            "without control characters"
        )
