"""Tables of what can be set and asked for: components, settings, statistics, slash commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import foredraft
from docs.site import api, flags
from docs.site.docstrings import told
from docs.site.language import Made, Say, cell, in_language, table
from docs.site.signatures import typed
from foredraft import drafting, gamma, sampling, verification
from foredraft.cli.commands import COMMANDS
from foredraft.core import StepRecord
from foredraft.drafting import STORAGES
from foredraft.ranges import hints_of, range_of
from foredraft.registry import Registry
from foredraft.tracing import Summary

ROOMS = (sampling, drafting, gamma, verification)
REGISTRIES: list[Registry[Any]] = [
    thing for room in ROOMS for thing in vars(room).values() if isinstance(thing, Registry)
]
WITHOUT = "; without one: none"  # how the help of a command goes on after that of its setting


def components(say: Say) -> str:
    """Return every registered component with its parameters and their defaults."""
    rows = []
    for registry in REGISTRIES:
        for name in registry.names:
            given, cls = registry.parameters(name), registry.get(name)
            legal = {key: range_of(hints_of(cls)[key]) for key in given}
            numbers = "; ".join(f"{key} {its.words}" for key, its in legal.items() if its)
            words = cell(say(told(cls).summary))
            rows.append([say(registry.kind), f"`{_spec(registry, name)}`", words, numbers])
    for name, storage in STORAGES.items():
        rows.append([say("storage"), f"`{name}`", cell(say(told(storage).summary)), ""])
    heads = ["kind", "spec string, with its defaults", "what it is", "numbers"]
    return "\n".join(table(heads, rows, say))


def _spec(registry: Registry[Any], name: str) -> str:
    """Return the spec string of a component with all its defaults; … where there is none."""
    given = registry.parameters(name)
    if ... not in given.values():
        return registry.spec(registry.get(name)()).replace("()", "")
    return f"{name}({', '.join(f'{key}=…' for key in given)})"


def parameters(say: Say) -> str:
    """Return what the parameters of components mean."""
    rows = []
    for registry in REGISTRIES:
        for name in registry.names:
            its = told(registry.get(name))
            meanings = its.attributes | its.args
            rows += [
                [f"`{name}`", f"`{key}`", cell(say(meanings[key]))]
                for key in registry.parameters(name)
                if key in meanings
            ]
    return "\n".join(table(["component", "parameter", "meaning"], rows, say))


def settings(say: Say) -> str:
    """Return the fields of `DecodingConfig`."""
    hints = hints_of(foredraft.DecodingConfig)
    rows = [
        [
            f"`{field.name}`",
            typed(hints[field.name]),
            f"`{field.default!r}`",
            cell(say(field.metadata["help"])),
        ]
        for field in dataclasses.fields(foredraft.DecodingConfig)
    ]
    return "\n".join(table(["setting", "type", "default", "meaning"], rows, say))


def statistics(say: Say) -> str:
    """Return the statistics of a generation, then the fields of a step."""
    rows = []
    for cls in (Summary, StepRecord):
        hints = hints_of(cls)
        rows += [
            [f"`{cls.__name__}`", f"`{name}`", typed(hints[name]), cell(say(words))]
            for name, words in told(cls).attributes.items()
        ]
    return "\n".join(table(["object", "name", "type", "meaning"], rows, say))


def commands(say: Say) -> str:
    """Return the table of slash commands."""
    rows = []
    for one in COMMANDS.values():
        words = say(one.help.removesuffix(WITHOUT))
        words += say(WITHOUT) if one.help.endswith(WITHOUT) else ""
        usage = " ".join([one.name, one.usage]).strip().replace("[on|off]", "[on/off]")
        rows.append([f"`{usage}`", cell(words)])
    return "\n".join(table(["command", "meaning"], rows, say))


MADE: dict[str, Made] = {
    **api.MADE,
    **flags.MADE,
    "components": components,
    "parameters": parameters,
    "settings": settings,
    "statistics": statistics,
    "commands": commands,
}
BLOCKS: dict[str, Callable[[str], str]] = {name: in_language(make) for name, make in MADE.items()}
