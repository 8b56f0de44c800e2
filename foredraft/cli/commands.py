"""The slash commands as a table: name, values, meaning, and the change each makes.

A command either changes the session whole or raises; `/help`, completion and the documentation read
this table.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from foredraft.cli.arguments import text_of
from foredraft.cli.layout import WIDTH
from foredraft.cli.output import json_line
from foredraft.cli.session import Session
from foredraft.config import EGAG_BOUNDS, METHODS, DecodingConfig
from foredraft.drafting import DRAFTERS, STORAGES
from foredraft.errors import ConfigError, RequestError, quoted
from foredraft.files import PATH_LIMIT, reason_of, write_whole
from foredraft.gamma import GAMMA_POLICIES
from foredraft.ranges import hints_of, read
from foredraft.registry import nearest
from foredraft.results import Result, result_dict
from foredraft.sampling import SAMPLERS
from foredraft.verification import VERIFIERS

HINTS = hints_of(DecodingConfig)
PROMPTS = (
    "A line that does not begin with / is a prompt, or a turn of the conversation; so is one that "
    "begins with //, or with a space. A pasted block is one prompt, unless its first line is a "
    "command: then each line of it is run."
)
FILES = [f.name for f in dataclasses.fields(DecodingConfig) if f.metadata.get("reads_file")]
HELP = {f.name: f.metadata["help"] for f in dataclasses.fields(DecodingConfig)}


@dataclass(frozen=True)
class Command:
    """One slash command."""

    name: str  # with the slash
    usage: str  # its values, for messages
    help: str  # one line
    run: Callable[[Session, str], None]  # makes the change; may print
    # the current value, for `/help`; None for commands that set nothing
    value: Callable[[Session], str] | None = None
    choices: Callable[[], Sequence[str]] = tuple  # returns the words that complete the first value


class Quit(SystemExit):
    """Raised by `/quit`; where no shell runs, it ends the program with exit code 0."""


def find_command(name: str) -> Command:
    """Return a command by name.

    Raises:
        RequestError: with the nearest name.
    """
    if name not in COMMANDS:
        shown = repr(name if len(name) <= 40 else name[:37] + "...")
        guess = nearest(name, COMMANDS) if len(name) > 2 else ""
        raise RequestError(f"unknown command {shown}{guess}; /help lists all commands")
    return COMMANDS[name]


# --- kinds of commands ----------------------------------------------------------------------------


def _toggle(setting: str) -> Command:
    def run(session: Session, rest: str) -> None:
        words = {"": not getattr(session.config, setting), "on": True, "off": False}
        if rest not in words:
            raise ConfigError(f"/{setting} takes on, off or nothing (toggles), not {quoted(rest)}")
        session.set(**{setting: words[rest]})

    return Command(
        f"/{setting}", "[on|off]", HELP[setting], run, _shows(setting), lambda: ("on", "off")
    )


def _number(setting: str) -> Command:
    def run(session: Session, rest: str) -> None:
        session.set(**{setting: read(setting, rest, HINTS[setting])})

    return Command(f"/{setting}", "<v>", HELP[setting], run, _shows(setting))


def _spec(name: str, setting: str, names: Callable[[], Sequence[str]]) -> Command:
    def run(session: Session, rest: str) -> None:
        if not rest:
            raise ConfigError(f"{name} needs a name; legal: {', '.join(names())}")
        # Naming a policy switches EGAG off, which would otherwise hide it.
        session.set(**{setting: rest}, **({"egag": False} if setting == "policy" else {}))

    return Command(name, "<spec>", HELP[setting], run, _shows(setting), names)


def _several(setting: str) -> Command:
    """Return the command of a setting that holds several texts: each use adds one."""

    def run(session: Session, rest: str) -> None:
        values = getattr(session.config, setting)
        session.set(**{setting: (*values, rest) if rest else ()})

    return Command(
        f"/{setting}", "[text]", f"{HELP[setting]}; without one: none", run, _shows(setting)
    )


def _text(setting: str, usage: str, read_value: Callable[[str], str] = str) -> Command:
    """Return the command of a setting that holds a text, or none."""

    def run(session: Session, rest: str) -> None:
        session.set(**{setting: read_value(rest) if rest else None})

    return Command(
        f"/{setting}", usage, f"{HELP[setting]}; without one: none", run, _shows(setting)
    )


def _shows(setting: str) -> Callable[[Session], str]:
    def value(session: Session) -> str:
        current = getattr(session.config, setting)
        if isinstance(current, bool):
            return "on" if current else "off"
        if current is None:
            return f"= gamma ({session.config.gamma})" if setting in EGAG_BOUNDS else "none"
        if isinstance(current, tuple):
            return " · ".join(current) or "none"
        return f"{len(current)} letters" if setting in FILES else str(current)

    return value


# --- commands with a shape of their own -----------------------------------------------------------


def _processor(session: Session, rest: str) -> None:
    name, *words = rest.split() or [""]
    if not name:
        raise ConfigError(f"/processor needs a name; legal: {', '.join(SAMPLERS.names)}")
    session.set(sampler=SAMPLERS.spec(SAMPLERS.create_positional(name, words)))


def _ngramstorage(session: Session, rest: str) -> None:
    words = rest.split()
    if len(words) != 2:
        usage = f"usage: /set_ngramstorage {'|'.join(STORAGES)} <n>"
        raise ConfigError(f"/set_ngramstorage needs a name and n, not {quoted(rest)}; {usage}")
    order = read("ngram_order", words[1], HINTS["ngram_order"])
    session.set(ngramstorage=words[0], ngram_order=order)


def _system(session: Session, rest: str) -> None:
    session.conversation.system = rest or None


def _undo(session: Session, rest: str) -> None:
    session.view.line(f"taken back: {quoted(session.conversation.undo())}")


def _reset(session: Session, rest: str) -> None:
    session.conversation.reset()
    session.view.line("the conversation begins anew")


def _stats(session: Session, rest: str) -> None:
    session.view.statistics(_last_results(session))


def _compare(session: Session, rest: str) -> None:
    session.run_prompt(rest, session.config.replace(**dict.fromkeys(METHODS, True)))
    session.view.statistics(session.results)


def _save(session: Session, rest: str, *, over: bool = False) -> None:
    name = "/overwrite" if over else "/save"
    if not rest:
        raise ConfigError(f"{name} needs a file name; usage: {name} FILE")
    results = _last_results(session)
    prompt = {"prompt": session.prompt}
    lines = [{"config": session.config.to_dict()}, *(prompt | result_dict(r) for r in results)]
    try:
        file = Path(rest).expanduser().resolve()
        if file.exists() and not (over and file.is_file()):
            hint = f"/overwrite {rest}" if file.is_file() else "another name"
            raise ConfigError(
                f"{quoted(rest, PATH_LIMIT)} is there already; to write it, give {hint}"
            )
        write_whole(file, "".join(f"{json_line(line)}\n" for line in lines))
    except (OSError, ValueError, RuntimeError) as error:  # ~nobody and NUL are no OSError
        raise ConfigError(f"cannot write {quoted(rest, PATH_LIMIT)}: {reason_of(error)}") from error
    session.view.line(f"saved the settings and {len(results)} results to {rest}")


def _last_results(session: Session) -> list[Result]:
    if not session.results:
        raise RequestError("nothing has been generated yet; type a prompt first")
    return session.results


def _model(session: Session, rest: str) -> None:
    role, _, name = rest.partition(" ")
    if role not in ("target", "drafter") or not name.strip():
        usage = "usage: /model target|drafter NAME"
        raise ConfigError(f"/model needs a role and a name, not {quoted(rest)}; {usage}")
    session.load_model(role, name.strip())


def _help(session: Session, rest: str) -> None:
    session.view.settings(
        (f"{c.name} {c.usage}".strip(), c.value(session) if c.value else "", c.help)
        for c in COMMANDS.values()
    )
    for line in textwrap.wrap(PROMPTS, WIDTH):
        session.view.line(line)


def _quit(session: Session, rest: str) -> None:
    raise Quit


_ALL = [
    *(_toggle(method) for method in ("speculative", "target", "drafter", "ngram")),
    _toggle("egag"),
    *map(_number, ("egag_gamma_min", "egag_gamma_max", "egag_ema", "length", "gamma")),
    Command(
        "/processor",
        "<name> <values>",
        "sampler: greedy t · multinomial t · topk t k · nucleus t p · topknucleus t k p",
        _processor,
        _shows("sampler"),
        lambda: SAMPLERS.names,
    ),
    *(_toggle(setting) for setting in ("debug", "cache", "chat")),
    _number("top_k_filler"),
    _toggle("stop_if_unknown"),
    Command(
        "/set_ngramstorage",
        "<name> <n>",
        "n-gram storage: basic (multi-level) or onelevel, and n",
        _ngramstorage,
        lambda session: f"{session.config.ngramstorage} {session.config.ngram_order}",
        lambda: tuple(STORAGES),
    ),
    _toggle("reset_in_between"),
    _number("seed"),
    *map(_number, ("repetition_penalty", "presence_penalty", "frequency_penalty")),
    *map(_several, ("logit_bias", "bad_words", "stop")),
    *map(_number, ("no_repeat_ngram_size", "min_new_tokens")),
    *(_text(setting, "[file]", text_of) for setting in FILES),
    _text("regex", "[pattern]"),
    *map(_number, ("logprobs", "n")),
    _spec("/verifier", "verifier", lambda: VERIFIERS.names),
    _spec("/policy", "policy", lambda: GAMMA_POLICIES.names),
    _spec("/drafting", "drafting", lambda: DRAFTERS.names),
    Command(
        "/system",
        "[text]",
        "what the conversation begins with; without text: nothing",
        _system,
        lambda session: session.system or "none",
    ),
    Command("/undo", "", "take the newest turn of the conversation back", _undo),
    Command("/reset", "", "take all turns back; the system message stays", _reset),
    Command("/stats", "", "every statistic of the last prompt", _stats),
    Command("/compare", "<prompt>", "run all four methods and show every statistic", _compare),
    Command("/save", "<file>", "write settings and last results as JSON lines", _save),
    Command(
        "/overwrite", "<file>", "the same, over a file that is there", partial(_save, over=True)
    ),
    Command(
        "/model",
        "<role> <name>",
        "load another target or drafter; no drafter: none",
        _model,
        lambda session: f"{session.engine.target.name}, {session.drafter_name}",
        lambda: ("target", "drafter"),
    ),
    Command("/clear", "", "clear the screen", lambda session, rest: session.view.clear()),
    Command("/help", "", "this list", _help),
    Command("/quit", "", "leave", _quit),
]
COMMANDS = {command.name: command for command in _ALL}
