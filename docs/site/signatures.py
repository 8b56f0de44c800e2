"""Signatures and types, in words: read with `inspect`, ranges shown as help texts show them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from torch import nn

from foredraft.ranges import hints_of, range_of
from foredraft.sampling.processors import GivenControls

WIDTH = 96  # of a line of a signature
SPELLED = {
    **{type(None): "None", Any: "Any", ...: "…", nn.Module: "nn.Module"},
    GivenControls: "Control | Sequence[Control] | LogitsProcessorList",
}


def type_words(hint: Any) -> str:
    """Return a type as one writes it, without modules and ranges."""
    if hint in SPELLED:
        return SPELLED[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_words(args[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(type_words(one) for one in args))
    if origin is Callable or getattr(origin, "__name__", "") == "Callable":
        taken = ", ".join(type_words(one) for one in args[0])
        return f"Callable[[{taken}], {type_words(args[1])}]"
    if origin is not None:
        inner = ", ".join(type_words(one) for one in args)
        return f"{getattr(origin, '__name__', str(origin))}[{inner}]"
    return str(getattr(hint, "__name__", hint))


def typed(hint: Any) -> str:
    """Return a type with the range that it declares, as a cell of a table."""
    legal = range_of(hint)
    words = f"`{type_words(hint)}`".replace("|", "\\|")
    return f"{words}, {legal.words}" if legal else words


def default_words(value: Any) -> str:
    """Return a default as one writes it."""
    return "…" if value is ... else repr(value)


def parameters(called: Any) -> list[tuple[str, str, str]]:
    """Return name, type and default of each parameter; no default: empty."""
    hints = hints_of(called.__init__ if inspect.isclass(called) else called)
    if inspect.isclass(called):
        hints = hints_of(called) | hints
    rows = []
    for name, one in _signature(called).parameters.items():
        default = "" if one.default is one.empty else f"`{default_words(one.default)}`"
        rows.append((name, typed(hints[name]) if name in hints else "", default))
    return rows


def returned(called: Any) -> str:
    """Return the type that a function returns; empty where it says none."""
    hint = hints_of(called).get("return")
    return "" if hint is None else type_words(hint)


def signature(name: str, called: Any, *, with_types: bool = False) -> str:
    """Return a call with its defaults, over several lines where it is long."""
    hints = hints_of(called) if with_types else {}
    parts, stars = [], False
    for one in _signature(called).parameters.values():
        if one.kind is one.KEYWORD_ONLY and not stars:
            stars = True
            parts.append("*")
        mark = "*" * (one.kind is one.VAR_POSITIONAL) + "**" * (one.kind is one.VAR_KEYWORD)
        kind = f": {type_words(hints[one.name])}" if one.name in hints else ""
        equals = " = " if kind else "="
        default = "" if one.default is one.empty else f"{equals}{default_words(one.default)}"
        parts.append(f"{mark}{one.name}{kind}{default}")
    is_class = inspect.isclass(called)
    end = ")" if is_class else f") -> {returned(called)}"
    line = f"{'class ' * is_class}{name}({', '.join(parts)}{end}"
    begin = line.partition("(")[0]
    return line if len(line) <= WIDTH else f"{begin}(\n{_filled(parts)}\n{end}"


def _signature(called: Any) -> inspect.Signature:
    """Return a signature without the object or class that it is called on."""
    found = inspect.signature(called)
    rest = [one for one in found.parameters.values() if one.name not in ("self", "cls")]
    return found.replace(parameters=rest)


def _filled(parts: list[str]) -> str:
    lines = ["   "]
    for part in parts:
        if len(lines[-1]) + len(part) + 2 > WIDTH:
            lines.append("   ")
        lines[-1] += f" {part},"
    return "\n".join(lines)
