"""Name ↔ component, and the spec strings that write a component down.

A component is a dataclass; its `init` fields are its parameters, so parameter names, defaults and
types exist once. `nucleus(temperature=0.6, top_p=0.9)` → object → the same string. A parameter may
be a component itself, written without quotes: `hybrid(suffix, model)`.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from itertools import accumulate
from typing import Any, Generic, NewType, TypeVar, get_type_hints

from foredraft.errors import BadSpecString, ConfigError, UnknownComponent, quoted
from foredraft.ranges import checked, hints_of

T = TypeVar("T")
Spec = NewType("Spec", str)  # the type of a parameter that is the spec string of a component
NESTED = (Spec, tuple[Spec, ...])

# What `ast` raises for text that is no literal: {[]}, thousands of minus signs, huge numbers.
UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
NOT_FINITE = ("nan", "inf", "-inf")  # read, so that the parameter's range refuses them
MOST_CHARACTERS, MOST_DEEP = 4096, 16  # of a spec string; components in it are read again each


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

    def parameters(self, name: str) -> dict[str, Any]:
        """Return parameter names and defaults of a component (`...` where there is no default)."""
        return {f.name: _default(f) for f in fields(self.get(name)) if f.init}  # type: ignore[arg-type]

    def create(self, spec: str, **defaults: Any) -> T:
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
        name, components, values_of = _parse(spec, self.kind)
        cls = self.get(name)
        legal = self.parameters(name)
        try:
            given = _in_order(components, cls) | _values(values_of, cls)
        except UNREADABLE:
            raise _unreadable(spec, self.kind) from None
        for key in given:
            if key not in legal:
                raise BadSpecString(
                    f"{self.kind} {name!r} has no parameter {quoted(key)}{nearest(key, legal)}; "
                    f"legal: {', '.join(legal) or 'none'}"
                )
        values = {k: v for k, v in defaults.items() if k in legal} | given
        return self._build(cls, name, values)

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
        name = next(n for n, cls in self._classes.items() if cls is type(component))
        hints = get_type_hints(type(component))
        values = [
            f"{f.name}={_written(getattr(component, f.name), hints[f.name])}"
            for f in fields(component)  # type: ignore[arg-type]
            if f.init
        ]
        return f"{name}({', '.join(values)})"

    def _build(self, cls: type[T], name: str, values: dict[str, Any]) -> T:
        hints = hints_of(cls)
        missing = [k for k, v in self.parameters(name).items() if v is ... and k not in values]
        if missing:
            raise BadSpecString(f"{self.kind} {name!r} needs a value for {missing[0]!r}")
        try:
            return cls(**{k: checked(k, v, hints.get(k, Any)) for k, v in values.items()})
        except ConfigError as error:
            raise BadSpecString(f"{self.kind} {name!r}: {error}") from None


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _default(f: Field[Any]) -> Any:
    return ... if f.default is f.default_factory else f.default  # both MISSING


def _parse(spec: str, kind: str) -> tuple[str, list[ast.expr], dict[str, ast.expr]]:
    """Return the name, the components without a key, and the values with one, as syntax."""
    try:
        if not isinstance(spec, str) or _is_too_much(spec):
            raise ValueError
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(spec.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, [], {}
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise ValueError
        values = {k.arg: k.value for k in tree.keywords if k.arg}
        if len(values) != len(tree.keywords):
            raise ValueError
        return tree.func.id, tree.args, values
    except UNREADABLE:
        raise _unreadable(spec, kind) from None


def _is_too_much(spec: str) -> bool:
    depths = accumulate((c in "([{") - (c in ")]}") for c in spec)
    return len(spec) > MOST_CHARACTERS or max(depths, default=0) > MOST_DEEP


def _unreadable(spec: Any, kind: str) -> BadSpecString:
    remedy = "write name or name(key=value, key=value)"
    if isinstance(spec, str) and _is_too_much(spec):
        remedy += f" in at most {MOST_CHARACTERS} characters, brackets at most {MOST_DEEP} deep"
    return BadSpecString(f"cannot read the {kind} {quoted(spec)}; {remedy}")


def _in_order(components: list[ast.expr], cls: type) -> dict[str, Any]:
    """Give components without a key to the parameters that are components, in order."""
    if not components:
        return {}
    given: dict[str, Any] = {}
    left = [_component(node) for node in components]
    for key, hint in get_type_hints(cls).items():
        if left and hint == NESTED[1]:
            given[key], left = tuple(left), []
        elif left and hint == NESTED[0]:
            given[key] = left.pop(0)
    if left:
        raise ValueError(left)
    return given


def _values(nodes: dict[str, ast.expr], cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls) if nodes else {}
    return {key: _value(node, hints.get(key)) for key, node in nodes.items()}


def _value(node: ast.expr, hint: Any) -> Any:
    if hint == NESTED[0]:
        return _component(node)
    if hint == NESTED[1]:
        items = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
        return tuple(_component(item) for item in items)
    word = ast.unparse(node)
    return float(word) if word in NOT_FINITE else ast.literal_eval(node)


def _component(node: ast.expr) -> str:
    """Return the spec string of a component that stands inside another, quoted or not."""
    if isinstance(node, ast.Name | ast.Call):
        return ast.unparse(node)
    value = ast.literal_eval(node)
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def _written(value: Any, hint: Any) -> str:
    if hint == NESTED[0]:
        return str(value)
    return f"[{', '.join(value)}]" if hint == NESTED[1] else repr(value)


def _literal(word: str) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # "1if" is a SyntaxWarning before an error
            return ast.literal_eval(word)
    except UNREADABLE:
        return word
