"""The flags of every command, read from its parser; those that many share are shown once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from docs.site.language import Made, Say, cell, table
from foredraft.cli.arguments import add_model_flags
from foredraft.cli.main import SUBCOMMANDS, command_parser, shell_parser
from foredraft.cli.parser import Parser

HELP = re.compile(  # meaning, default in brackets, legal numbers in parentheses
    r"(?P<words>.*?)(?: ?\[(?P<default>.+)\])?(?: \((?P<legal>[^()]* … [^()]*)\))?", re.DOTALL
)
IN_WORDS = re.compile(
    r"^[^<]*([a-z] [a-z]|: )"
)  # what a default in words has, and a list of names has not


def subcommands(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a parser's subcommands, by name."""
    return next(
        (dict(a.choices) for a in top._actions if isinstance(a, argparse._SubParsersAction)), {}
    )


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command a user can type, with its parser."""
    yield "uv run infer.py", shell_parser()
    for name, sub in subcommands(command_parser()).items():
        yield f"foredraft {name}", sub
        for inner, its in subcommands(sub).items():
            yield f"foredraft {name} {inner}", its


def shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the flags that a parser's help shows, but for `--help` itself."""
    return [
        action
        for action in parser._actions
        if action.help is not argparse.SUPPRESS
        and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]


def explained(its: argparse.ArgumentParser, action: argparse.Action) -> dict[str, str]:
    """Return meaning (`words`), `default` and `legal` values of a flag; empty: it has none."""
    expanded = its._get_formatter()._expand_help(action) if action.help else ""
    found = HELP.fullmatch(expanded)
    assert found is not None, expanded
    parts = {name: value or "" for name, value in found.groupdict().items()}
    if action.choices:
        parts["legal"] = ", ".join(map(str, action.choices))
    return parts


def flags(say: Say) -> str:
    """Return a table of flags for every command."""
    loads, told = _shared(), dict(_descriptions())
    heads = ["flag", "meaning", "default", "values"]
    lines = [f"**{say('Flags that load models')}**", ""]
    lines += [*table(heads, [_row(loads, one, say) for one in shown(loads)], say), ""]
    usual = {_key(loads, one) for one in shown(loads)}
    for command, its in parsers():
        own = [one for one in shown(its) if _key(its, one) not in usual]
        lines += [f"**`{command}`**{say(': ')}{say(told[command])}", ""]
        if own:
            lines += [*table(heads, [_row(its, one, say) for one in own], say), ""]
        if len(own) < len(shown(its)):
            rest = [one for one in shown(its) if one not in own]
            if len(rest) == len(usual):
                lines += [say("It also takes the flags that load models."), ""]
            else:
                names = ", ".join(f"`{one.option_strings[0]}`" for one in rest)
                lines += [f"{say('As above:')} {names}", ""]
        elif not own:
            lines += [say("It takes no flags."), ""]
    return "\n".join(lines).rstrip()


def _shared() -> argparse.ArgumentParser:
    parser = Parser(prog="foredraft")
    add_model_flags(parser)
    return parser


def _descriptions() -> Iterator[tuple[str, str]]:
    """Yield every command with what it is for."""
    yield "uv run infer.py", SUBCOMMANDS["chat"]
    for name, sub in subcommands(command_parser()).items():
        yield f"foredraft {name}", SUBCOMMANDS[name]
        for action in sub._actions:
            if isinstance(action, argparse._SubParsersAction):
                for inner in action._choices_actions:
                    yield f"foredraft {name} {inner.dest}", inner.help or ""


def _key(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[object, ...]:
    return (*action.option_strings, *explained(parser, action).values())


def _row(parser: argparse.ArgumentParser, action: argparse.Action, say: Say) -> list[str]:
    names = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.dest}`"
    parts = explained(parser, action)
    default = parts["default"]
    if default:
        default = say(default) if IN_WORDS.search(default) else f"`{default}`"
    return [names, cell(say(parts["words"])), cell(default), cell(parts["legal"])]


MADE: dict[str, Made] = {"flags": flags}
