"""The legal range of each number: stated once, beside it, and checked wherever it is set.

`gamma: DraftLength = 4`, with `DraftLength = Annotated[int, Range(1, 1024)]`, is all that a
parameter says. Spec strings, flags, slash commands, files and direct construction check by it;
help texts and documents show it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, TypeAlias, TypeGuard, Union, get_args, get_origin, get_type_hints

from foredraft.errors import ConfigError, quoted

Hint: TypeAlias = Any  # a type as a signature declares it; Python has no name for what that is
Parts: TypeAlias = "tuple[Hint, Range | None, bool]"  # bare type, range, whether None is legal


@dataclass(frozen=True)
class Range:
    """Numbers between two finite ends, which belong to it unless they are open; never NaN."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return bool(above and (value < self.high if self.open_high else value <= self.high))

    def __str__(self) -> str:
        """Return it as an interval, `[0, 1)`."""
        begin, end = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{begin}{_end(self.low)}, {_end(self.high)}{end}"

    @property
    def words(self) -> str:
        """It as help texts show it: `0 … < 1`."""
        begin, end = "> " * self.open_low, "< " * self.open_high
        return f"{begin}{_end(self.low)} … {end}{_end(self.high)}"

    def check(self, name: str, value: float) -> None:
        """Raise `ConfigError` unless the value lies in it."""
        if value not in self:
            raise ConfigError(f"{name} must lie in {self}, not {quoted(value)}")


WIDEST = Range(-1e308, 1e308)  # of a number that declares none

Length = Annotated[int, Range(1, 10**9)]  # of a generation, in tokens
LONGEST_DRAFT = 1024  # tokens
DraftLength = Annotated[int, Range(1, LONGEST_DRAFT)]
NgramOrder = Annotated[int, Range(2, 64)]  # tokens
Fillers = Annotated[int, Range(1, 1024)]  # tokens counted at one position
Count = Annotated[int, Range(1, 10**9)]
Share = Annotated[float, Range(0, 1)]
NUM_SEEDS = 2**63
Seed = Annotated[int, Range(0, NUM_SEEDS - 1)]
TokenId = Annotated[int, Range(0, 2**31 - 1)]
Exploration = Annotated[float, Range(0, 1000)]  # of a bandit
Hold = Annotated[int, Range(1, 10**6)]  # steps


class Checked:
    """Base of dataclasses whose parameters are checked when one is made, however it is made.

    A class with rules of its own calls `super().__post_init__()` first.
    """

    def __post_init__(self) -> None:
        """Replace each parameter by its checked value, as `checked` returns it."""
        cls: Hint = type(self)
        for name, parts in _parts_of(cls):
            given = getattr(self, name)
            value = _checked(name, given, *parts)
            if value is not given:
                object.__setattr__(self, name, value)  # it may be frozen


@cache
def _parts_of(cls: Hint) -> list[tuple[str, Parts]]:
    """Return the parameters of a class whose types are known, and what those say."""
    hints = hints_of(cls)
    known = [f.name for f in fields(cls) if f.init and f.name in hints]
    return [(name, _parts(hints[name])) for name in known]


def is_component(kind: object) -> TypeGuard[type[Checked]]:
    """Whether a type is one of components: parameters of it are written as spec strings are."""
    return isinstance(kind, type) and issubclass(kind, Checked)


def element_of(hint: Hint) -> Hint:
    """Return the type of the elements where a type is that of tuples of any length, else None."""
    origin: object = get_origin(hint)
    return get_args(hint)[0] if origin is tuple and get_args(hint)[1:] == (...,) else None


def hints_of(cls: Hint) -> dict[str, Hint]:
    """Return parameter → declared type, ranges included, of a class or a function.

    Of a type that nobody knows, nothing.
    """
    return _hints_of(cls)


@cache
def _hints_of(cls: Hint) -> dict[str, Hint]:
    try:
        return get_type_hints(cls, include_extras=True)
    except NameError:  # a class of somebody else's, made where its types were local
        return {}


def range_of(hint: Hint) -> Range | None:
    """Return the range that a type declares."""
    return _parts(hint)[1]


def checked(name: str, value: object, hint: Hint) -> Any:
    """Return a value as its declared type: an int is a float, a bool is no number.

    Args:
        name: of the parameter, for messages.
        value: whatever was given; a number of numpy's is one, a list of strings is a tuple.
        hint: `int`, `float`, either with its `Range`, `bool`, `str` or a tuple of strings, and any
            of them or None; what is declared as anything else is taken as it is.

    Raises:
        ConfigError: with the value and what is legal.
    """
    return _checked(name, value, *_parts(hint))


def _checked(name: str, value: object, kind: Hint, legal: Range | None, optional: bool) -> object:
    if value is None and optional:
        return None
    if type(value) is kind and kind in (bool, str):
        return value
    if kind is int and type(value) is int and value in (legal or WIDEST):
        return value
    if kind in (int, float):
        return _number(name, value, kind, legal or WIDEST)
    wanted, element = None, element_of(kind)
    if kind in (bool, str) and not isinstance(value, kind):
        wanted = "text" if kind is str else "true or false"
    elif is_component(kind) and not isinstance(value, kind):
        wanted = f"a {kind.__name__} object"
    elif is_component(element) and not _are(value, tuple, element):
        wanted = f"a tuple of {element.__name__} objects"
    elif kind is tuple and not _are(value, list | tuple, str):
        wanted = "a tuple of strings"
    if wanted:
        raise ConfigError(f"{name} must be {wanted}, not {quoted(value)}")
    if isinstance(value, list) and kind is tuple:
        return tuple(value)
    return value


def _are(values: object, holder: Hint, kind: type) -> bool:
    return isinstance(values, holder) and all(isinstance(value, kind) for value in values)


def read(name: str, text: str, hint: Hint) -> Any:
    """Return the number that a flag or a slash command spells; `none` where it may be None."""
    kind, _, optional = _parts(hint)
    if optional and text == "none":
        return None
    try:
        value = kind(text)
    except ValueError:
        value = text  # `checked` says what it should have been
    return checked(name, value, hint)


def _number(name: str, value: Any, kind: type[int | float], legal: Range) -> float:
    if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
        word = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name} must be {word} in {legal}, not {quoted(value)}")
    value = getattr(value, "item", lambda: value)()  # of numpy's: no float32 meets 1e308
    legal.check(name, int(value) if isinstance(value, Integral) else value)
    return kind(value)


@cache
def _parts(hint: Hint) -> Parts:
    """Return the bare type, the range that is declared, and whether None is legal."""
    optional = False
    union: object = get_origin(hint)
    if union in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not NoneType]
        optional = NoneType in get_args(hint)
        hint = members[0] if len(members) == 1 else object
    declared = getattr(hint, "__metadata__", ())
    if declared:
        hint = hint.__origin__
    origin: object = get_origin(hint)
    if origin is tuple and get_args(hint) == (str, ...):
        hint = tuple
    return hint, next((m for m in declared if isinstance(m, Range)), None), optional


def _end(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
