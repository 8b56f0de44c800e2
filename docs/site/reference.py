"""Tables of what exists: public names, components, slash commands, flags. Read from the program."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import foredraft
from foredraft import drafting, gamma, sampling, verification
from foredraft.cli.commands import COMMANDS
from foredraft.cli.main import command_parser, shell_parser
from foredraft.core import StepRecord
from foredraft.drafting import STORAGES
from foredraft.ranges import hints_of, range_of
from foredraft.registry import Registry
from foredraft.tracing import Summary

ROOMS = (sampling, drafting, gamma, verification)
REGISTRIES: list[Registry[Any]] = [
    thing for room in ROOMS for thing in vars(room).values() if isinstance(thing, Registry)
]


def subcommands(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a parser's subcommands, by name."""
    return next(
        (dict(a.choices) for a in top._actions if isinstance(a, argparse._SubParsersAction)), {}
    )


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command a user can type, with its parser."""
    yield "uv run infer.py", shell_parser()
    for name, sub in subcommands(command_parser()).items():
        nested = subcommands(sub)
        for inner, its in nested.items():
            yield f"foredraft {name} {inner}", its
        if not nested:
            yield f"foredraft {name}", sub


def first_line(thing: Any) -> str:
    """Return the first line of a docstring, ready for a table cell."""
    return (inspect.getdoc(thing) or "").split("\n")[0].replace("|", "\\|")


def flags(language: str) -> str:
    """Return a table of flags for every command."""
    parts = []
    for command, its in parsers():
        parts += [f"**`{command}`**", "", "| flag | help |", "|---|---|"]
        for action in its._actions:
            if action.help is argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
                continue
            names = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.dest}`"
            choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
            shown = its._get_formatter()._expand_help(action) if action.help else ""
            parts.append(f"| {names} | {shown.replace('|', chr(92) + '|')}{choices} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def commands(language: str) -> str:
    """Return the table of slash commands."""
    lines = ["| command | meaning |", "|---|---|"]
    lines += [
        f"| `{' '.join([c.name, c.usage]).strip()}` | {c.help} |".replace("[on|off]", "[on/off]")
        for c in COMMANDS.values()
    ]
    return "\n".join(lines)


def components(language: str) -> str:
    """Return every registered component with its parameters and their defaults."""
    lines = [
        "| kind | spec string, with its defaults | what it is | numbers |",
        "|---|---|---|---|",
    ]
    for registry in REGISTRIES:
        for name in registry.names:
            given = registry.parameters(name)
            values = ", ".join(
                f"{key}={'…' if value is ... else repr(value)}" for key, value in given.items()
            )
            spec = f"{name}({values})" if values else name
            cls = registry.get(name)
            legal = {key: range_of(hints_of(cls)[key]) for key in given}
            numbers = "; ".join(f"{key} {its.words}" for key, its in legal.items() if its)
            lines.append(f"| {registry.kind} | `{spec}` | {first_line(cls)} | {numbers} |")
    lines += [f"| storage | `{name}` | {first_line(cls)} | |" for name, cls in STORAGES.items()]
    return "\n".join(lines)


def settings(language: str) -> str:
    """Return the fields of `DecodingConfig`."""
    lines = ["| setting | default | meaning | numbers |", "|---|---|---|---|"]
    hints = hints_of(foredraft.DecodingConfig)
    for field in dataclasses.fields(foredraft.DecodingConfig):
        legal = range_of(hints[field.name])
        words = f"{field.metadata['help']} | {legal.words if legal else ''}"
        lines.append(f"| `{field.name}` | `{field.default!r}` | {words} |")
    return "\n".join(lines)


def documented_attributes(cls: type) -> dict[str, str]:
    """Return attribute → description from a class's docstring."""
    found: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].split("\n"):
        if line.startswith("    ") and not line.startswith("     ") and ": " in line:
            name, _, words = line.strip().partition(": ")
            found[name] = words
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def statistics(language: str) -> str:
    """Return the statistics of a generation, then the fields of a step."""
    lines = ["| object | name | meaning |", "|---|---|---|"]
    for cls in (Summary, StepRecord):
        lines += [
            f"| `{cls.__name__}` | `{name}` | {words} |"
            for name, words in documented_attributes(cls).items()
        ]
    return "\n".join(lines)


def names(language: str) -> str:
    """Return every public name with its first line."""
    lines = ["| name | kind | what it is |", "|---|---|---|"]
    for name in foredraft.__all__:
        thing = getattr(foredraft, name)
        kind = "class" if inspect.isclass(thing) else "function"
        lines.append(f"| `{name}` | {kind} | {first_line(thing)} |")
    return "\n".join(lines)


def details(language: str) -> str:
    """Return one mkdocstrings directive a public name."""
    targets = [getattr(foredraft, name) for name in foredraft.__all__]
    return "\n\n".join(f"::: {thing.__module__}.{thing.__name__}" for thing in targets)


BLOCKS: dict[str, Callable[[str], str]] = {
    "names": names,
    "details": details,
    "components": components,
    "settings": settings,
    "statistics": statistics,
    "commands": commands,
    "flags": flags,
}
