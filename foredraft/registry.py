"""Name ↔ component, and the spec strings that write a component down.

A component is a dataclass; its `init` fields are its parameters, so parameter names, defaults and
types exist once. `nucleus(temperature=0.6, top_p=0.9)` → object → the same string. A parameter may
be a component itself, written without quotes: `hybrid(suffix, model)`.
"""

from __future__ import annotations

import ast
import difflib
import functools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, fields
from itertools import accumulate
from typing import Generic, TypeVar

from foredraft.errors import BadSpecString, ConfigError, UnknownComponent, quoted
from foredraft.ranges import checked, element_of, hints_of, is_component

T = TypeVar("T")

# What `ast` raises for text that is no literal: {[]}, thousands of minus signs, huge numbers.
UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
NOT_FINITE = ("nan", "inf", "-inf")  # read, so that the parameter's range refuses them
MOST_CHARACTERS, MOST_DEEP = 4096, 16  # of a spec string
MOST_FROZEN = 256  # components that are kept; a server's requests may bring ever new settings


def nearest(name: str, legal: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)`, or nothing when no legal name is near."""
    close = difflib.get_close_matches(name, list(legal), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


class Registry(Generic[T]):
    """The components of one kind, by name.

    Args:
        kind: what they are, for messages: "sampler", "gamma policy", …
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type[T]] = {}
        self._frozen: dict[str, T] = {}  # made of spec strings that came before

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return a class decorator that registers a dataclass under `name`.

        A class may be defined and registered anew, as in a notebook; another is refused.
        """

        def add(cls: type[T]) -> type[T]:
            known = self._classes.get(name, cls)
            if _place(known) != _place(cls):
                raise ConfigError(
                    f"{_place(cls)} cannot be the {self.kind} {quoted(name)}, which is "
                    f"{_place(known)}; choose another name"
                )
            self._classes[name] = cls
            self._frozen.clear()  # another class may stand for a name in any of them
            return cls

        return add

    @property
    def names(self) -> list[str]:
        """Registered names, in order of registration."""
        return list(self._classes)

    def get(self, name: str) -> type[T]:
        """Return the class of a name.

        Raises:
            UnknownComponent: with the legal names and the nearest one.
        """
        if name not in self._classes:
            raise UnknownComponent(
                f"unknown {self.kind} {quoted(name)}{nearest(name, self.names)}; "
                f"legal: {', '.join(self.names)}"
            )
        return self._classes[name]

    def parameters(self, name: str) -> dict[str, object]:
        """Return parameter names and defaults of a component (`...` where there is no default)."""
        return {f.name: _default(f) for f in fields(self.get(name)) if f.init}  # type: ignore[arg-type]

    def create(self, spec: str, **defaults: object) -> T:
        """Build a component from its spec string.

        Args:
            spec: `name` or `name(key=value, …)` with literal values. Parameters that are components
                are written as such and may stand without their key, in order; a parameter that is
                several of them takes all that follow.
            **defaults: used for parameters of the component that the spec does not give.

        Raises:
            UnknownComponent: no such name.
            BadSpecString: not readable, or a parameter is unknown, missing or out of range.
        """
        if defaults or not isinstance(spec, str):
            return self._made(_syntax(spec, self.kind), spec, defaults)
        known = self._frozen.get(spec)
        if known is None or type(known) not in self._classes.values():
            made = self._made(_syntax(spec, self.kind), spec, {})
            if not _is_frozen(made):
                return made
            if len(self._frozen) >= MOST_FROZEN:
                self._frozen.clear()
            self._frozen[spec] = made
        return self._frozen[spec]

    def _made(self, syntax: ast.expr, spec: str, defaults: dict[str, object]) -> T:
        """Return the component that a piece of syntax writes down; `spec` is all that was given."""
        if isinstance(syntax, ast.Constant) and isinstance(syntax.value, str):
            return self.create(syntax.value)  # inside another, in quotes
        try:
            name, unnamed, named = _call(syntax)
            cls = self.get(name)
            hints = hints_of(cls)
            given = _in_order(unnamed, hints) | named
            legal = self.parameters(name)
            for key in given:
                if key not in legal:
                    guess = f"{nearest(key, legal)}; legal: {', '.join(legal) or 'none'}"
                    raise BadSpecString(
                        f"{self.kind} {name!r} has no parameter {quoted(key)}{guess}"
                    )
            values = {key: self._value(node, hints.get(key), spec) for key, node in given.items()}
        except UNREADABLE:
            raise _unreadable(spec, self.kind) from None
        return self._build(cls, name, {k: v for k, v in defaults.items() if k in legal} | values)

    def _value(self, syntax: ast.expr, hint: object, spec: str) -> object:
        """Return what a parameter's value is: a component, several, or a literal."""
        if is_component(hint):
            return self._made(syntax, spec, {})
        if is_component(element_of(hint)):
            items = syntax.elts if isinstance(syntax, ast.List | ast.Tuple) else [syntax]
            return tuple(self._made(item, spec, {}) for item in items)
        word = ast.unparse(syntax)
        return float(word) if word in NOT_FINITE else ast.literal_eval(syntax)

    def create_positional(self, name: str, words: list[str]) -> T:
        """Build a component from words in the order of its parameters (`nucleus 0.6 0.9`)."""
        legal = self.parameters(name)
        if len(words) > len(legal):
            usage = " ".join([name, *(f"<{p}>" for p in legal)])
            raise BadSpecString(f"too many values for {self.kind} {name!r}; usage: {usage}")
        given = {key: _literal(word) for key, word in zip(legal, words, strict=False)}
        return self._build(self.get(name), name, given)

    def spec(self, component: T) -> str:
        """Return the spec string that rebuilds the component."""
        values = [
            f"{f.name}={self.written(getattr(component, f.name))}"
            for f in fields(component)  # type: ignore[arg-type]
            if f.init
        ]
        return f"{self.name(component)}({', '.join(values)})"

    def name(self, component: T) -> str:
        """Return the name that a component is registered by."""
        return next(n for n, cls in self._classes.items() if cls is type(component))

    def written(self, value: object) -> str:
        """Return a parameter's value as a spec string spells it."""
        if isinstance(value, tuple) and value and is_component(type(value[0])):
            return f"[{', '.join(map(self.spec, value))}]"
        return self.spec(value) if is_component(type(value)) else repr(value)  # type: ignore[arg-type]

    def _build(self, cls: type[T], name: str, values: dict[str, object]) -> T:
        hints = hints_of(cls)
        missing = [k for k, v in self.parameters(name).items() if v is ... and k not in values]
        if missing:
            raise BadSpecString(f"{self.kind} {name!r} needs a value for {missing[0]!r}")
        try:
            return cls(**{k: checked(k, v, hints.get(k)) for k, v in values.items()})
        except ConfigError as error:
            raise BadSpecString(f"{self.kind} {name!r}: {error}") from None


def _is_frozen(component: object) -> bool:
    """Whether nobody can change it, so that one serves all who ask for it."""
    parameters = vars(type(component)).get("__dataclass_params__")
    return bool(parameters and parameters.frozen)


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _default(f: Field[object]) -> object:
    if f.default_factory is not MISSING:
        return f.default_factory()
    return ... if f.default is MISSING else f.default


def _syntax(spec: str, kind: str) -> ast.expr:
    """Return the syntax of a spec string; nobody edits it."""
    if not isinstance(spec, str):
        raise _unreadable(spec, kind)
    return _parsed(spec, kind)


@functools.lru_cache(MOST_FROZEN)
def _parsed(spec: str, kind: str) -> ast.expr:
    try:
        if _is_too_much(spec):
            raise ValueError
        with warnings.catch_warnings(action="ignore"):
            syntax = ast.parse(spec.strip(), mode="eval").body
        _call(syntax)
    except UNREADABLE:
        raise _unreadable(spec, kind) from None
    return syntax


def _call(syntax: ast.expr) -> tuple[str, list[ast.expr], dict[str, ast.expr]]:
    """Return the name, the values without a key, and those with one; else raise `ValueError`."""
    if isinstance(syntax, ast.Name):
        return syntax.id, [], {}
    if not isinstance(syntax, ast.Call) or not isinstance(syntax.func, ast.Name):
        raise ValueError
    values = {k.arg: k.value for k in syntax.keywords if k.arg}
    if len(values) != len(syntax.keywords):
        raise ValueError
    return syntax.func.id, syntax.args, values


def _is_too_much(spec: str) -> bool:
    depths = accumulate((c in "([{") - (c in ")]}") for c in spec)
    return len(spec) > MOST_CHARACTERS or max(depths, default=0) > MOST_DEEP


def _unreadable(spec: object, kind: str) -> BadSpecString:
    remedy = "write name or name(key=value, key=value)"
    if isinstance(spec, str) and _is_too_much(spec):
        remedy += f" in at most {MOST_CHARACTERS} characters, brackets at most {MOST_DEEP} deep"
    return BadSpecString(f"cannot read the {kind} {quoted(spec)}; {remedy}")


def _in_order(unnamed: list[ast.expr], hints: dict[str, object]) -> dict[str, ast.expr]:
    """Give values without a key to the parameters that are components, in order."""
    given: dict[str, ast.expr] = {}
    left = list(unnamed)
    for key, hint in hints.items():
        if left and is_component(element_of(hint)):
            given[key], left = ast.List(left, ast.Load()), []
        elif left and is_component(hint):
            given[key] = left.pop(0)
    if left:
        raise ValueError(left)
    return given


def _literal(word: str) -> object:
    try:
        with warnings.catch_warnings(action="ignore"):  # "1if" is a SyntaxWarning before an error
            return ast.literal_eval(word)
    except UNREADABLE:
        return word
