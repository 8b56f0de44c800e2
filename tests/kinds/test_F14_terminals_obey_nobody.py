"""Whatever comes from a model, a file or a user reaches a terminal escaped."""

from __future__ import annotations

import ast
import inspect
import io
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from foredraft.cli.commands import COMMANDS
from foredraft.cli.main import infer, main
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.conversation import Reading
from foredraft.core import Completion, FinishReason, StepRecord
from foredraft.engine import Engine
from foredraft.errors import ModelError
from foredraft.escape import for_terminal
from foredraft.loading import LoadedModel
from foredraft.models import TableModel
from foredraft.results import Result
from foredraft.tracing import print_step, step_text, summarize
from foredraft.zoo.tokenizer import train_tokenizer
from tests.cli.conftest import Run, run
from tests.cli.transcript import Terminal, open_shell, printed
from tests.documents import parsers
from tests.toy_engine import PROMPT, toy_engine

__all__ = ["run"]  # a fixture
CLI = Path(__file__).parents[2] / "foredraft" / "cli"
CODES = ("\x1b[2J", "\x1b]0;t\x07", "\x9b2J", "\x7f", "\r", "\u202e", "\u2028", "\x85", "\x00")
HOSTILE = "".join(CODES) + "[bold]x[/bold] \U000f0000"
SAYABLE = "\x1b[2J\x1b]0;t\x07\x9b2J\u202e [red]"  # by a model, one token each byte or more
LINES_END = "\n\t"


def obeyed(text: str) -> set[str]:
    """Return the characters of a text that a terminal would obey."""
    return {c for c in text if for_terminal(c) != c}


@cache
def engine_that_says(text: str) -> Engine:
    """Return an engine whose two models say a text over and over, and are called by it."""
    words = train_tokenizer([text, PROMPT] * 3, 400)
    said = words(text, add_special_tokens=False)["input_ids"]
    size, turn = len(words), itertools.count()

    def row(tokens: tuple[int, ...]) -> list[float]:
        token = said[next(turn) % len(said)]
        return [float(i == token) for i in range(size)]

    loaded = [
        LoadedModel(text, TableModel(row, max_length=500), words, (size - 1,)) for _ in range(2)
    ]
    return Engine(*loaded)


def results_that_say(text: str) -> list[Result]:
    """Return the results of a prompt with another text in place of theirs."""
    results = toy_engine().compare(PROMPT)
    return [replace(r, completion=replace(r.completion, text=text)) for r in results]


# --- the view -------------------------------------------------------------------------------------

RECORD = StepRecord([1, 2], 1, [1, 3], 0.1, 0.1)
TOLD = {"token": 1, "text": HOSTILE, "logprob": -1.0, "controlled_logprob": None}
CALLS: dict[str, Callable[[View], object]] = {
    "line": lambda view: view.line(HOSTILE, style="red"),
    "error": lambda view: view.error(ModelError(HOSTILE)),
    "echo": lambda view: view.echo(HOSTILE),
    "heading": lambda view: view.heading("target"),
    "text": lambda view: [view.text(piece) for piece in HOSTILE],
    "step": lambda view: view.step(1, RECORD, engine_that_says(HOSTILE)),
    "numbers": lambda view: view.numbers(summarize([RECORD]), HOSTILE),
    "logprobs": lambda view: view.logprobs([TOLD | {"top": [TOLD]}]),
    "unsatisfied": lambda view: view.unsatisfied(
        Completion("target", [1], "", FinishReason.UNSATISFIED, 1)
    ),
    "turn": lambda view: view.turn(summarize([RECORD]), HOSTILE, Reading(9, 3), HOSTILE),
    "dropped": lambda view: view.dropped(Reading(9, 3, 2, 5), 64),
    "cut": lambda view: view.cut(Completion("target", [1], "", FinishReason.LENGTH, 1), 64),
    "numbered": lambda view: view.numbered(3, HOSTILE),
    "total": lambda view: view.total(results_that_say(HOSTILE)),
    "ratios": lambda view: view.ratios(toy_engine().compare(PROMPT)),
    "statistics": lambda view: view.statistics(toy_engine().compare(PROMPT)),
    "columns": lambda view: view.columns([(HOSTILE, HOSTILE), ("a", "b")]),
    "settings": lambda view: view.settings([("/x", HOSTILE, "means"), ("/y", HOSTILE * 9, "so")]),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_method_of_the_view_lets_it_through(name: str) -> None:
    stream = io.StringIO()
    CALLS[name](View(stream))
    assert obeyed(stream.getvalue()) == set()
    assert stream.getvalue()


def test_every_method_of_the_view_is_tried() -> None:
    methods = {n for n, _ in inspect.getmembers(View, inspect.isfunction) if n[0] != "_"}
    assert methods - {"clear"} == set(CALLS)


def test_text_is_never_taken_for_markup_and_nothing_is_lost() -> None:
    stream = io.StringIO()
    for name in ("line", "error", "text"):
        CALLS[name](View(stream))
        assert stream.getvalue().count("[bold]x[/bold]") == 1
        assert "\\x1b[2J" in stream.getvalue()
        stream.truncate(stream.seek(0))


@pytest.mark.parametrize("code", CODES, ids=ascii)
def test_steps_are_escaped_wherever_they_are_printed(code: str) -> None:
    stream = io.StringIO()
    print_step(1, RECORD, lambda tokens: code, Console(file=stream))
    assert obeyed(stream.getvalue() + step_text(1, RECORD, lambda tokens: code).plain) == set()


# --- the shell ------------------------------------------------------------------------------------


def test_what_a_model_says_is_escaped_in_text_traces_names_and_statistics() -> None:
    shell = open_shell(engine_that_says(SAYABLE), DecodingConfig(length=60))
    shell.run([PROMPT, "/debug", PROMPT, "/stats", "/help", f"/compare {PROMPT}"], echo=True)
    assert obeyed(printed(shell)) == set()
    assert "\\x1b[2J" in printed(shell)
    assert any("\x1b[2J" in r.completion.text for r in shell.results)


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("/quit", "/clear")])
def test_a_refusal_of_every_command_is_escaped(name: str) -> None:
    for code in CODES:
        shell = open_shell()
        shell.run([f"{name} {code}", f"{name}{code}", f"{name} x{code}x"], echo=True)
        assert obeyed(printed(shell)) == set()


def test_names_of_files_and_models_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shell = open_shell()
    name = "\x1b]0;t\x07\u202e.jsonl"
    shell.run([PROMPT, f"/save {name}", f"/save {name}"], echo=True)
    assert "saved the settings and 3 results to \\x1b]0;t\\x07\\u202e.jsonl" in printed(shell)
    shell.run([f"/model target {name}", f"/model drafter {tmp_path / name}"], echo=True)
    assert (tmp_path / name).is_file()
    assert obeyed(printed(shell)) == set()


# --- commands -------------------------------------------------------------------------------------


def flags() -> list[tuple[str, str]]:
    return [
        (command, option)
        for command, its in parsers()
        for action in its._actions
        for option in action.option_strings[-1:]
        if not command.endswith("models")
    ]


@pytest.mark.parametrize(("command", "flag"), flags())
def test_errors_about_flags_are_escaped(command: str, flag: str, run: Run) -> None:
    entry = infer if command.endswith("infer.py") else main
    words = [] if entry is infer else command.split()[1:]
    for value in (f"{flag}={HOSTILE[:-1]}", f"--{HOSTILE}"):
        _, out, err = run(*words, value, f"{HOSTILE}", "--nonsense", entry=entry)
        assert obeyed(out + err) == set()
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ("generate", "--prompt", HOSTILE, "--device", "cpu"),
        ("generate", "--prompt", PROMPT, "--target", HOSTILE),
        ("generate", "--prompt", PROMPT, "--drafter", HOSTILE, "--device", "cpu"),
        ("generate", "--prompt", PROMPT, "--sampler", HOSTILE),
        ("generate", "--prompt", PROMPT, "--device", HOSTILE),
        ("replay", HOSTILE),
        ("replay", "--target", HOSTILE, HOSTILE),
        ("advise", "--prompts", HOSTILE),
        ("generate", "--prompts-file", HOSTILE),
        ("train", HOSTILE, "--data", HOSTILE),
        ("ablate", HOSTILE, "--dry-run"),
        (HOSTILE,),
        (),
    ],
    ids=str,
)
def test_every_error_of_a_command_is_one_escaped_line(argv: tuple[str, ...], run: Run) -> None:
    code, out, err = run(*argv)
    assert code == 2
    assert err.count("\n") == 1
    assert obeyed(out + err) == set()


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "load", lambda *a, **s: engine_that_says(SAYABLE))


@pytest.mark.usefixtures("says")
def test_json_is_the_same_data_without_one_character_that_is_obeyed(run: Run) -> None:
    argv = ("generate", "--prompt", f"{PROMPT}\u2028\u202e", "--length", "60", "--json", "--trace")
    code, out, _ = run(*argv)
    assert code == 0
    assert obeyed(out) == set()
    objects = [json.loads(line) for line in out.splitlines()]
    assert objects[0]["prompt"] == f"{PROMPT}\u2028\u202e"
    assert any("\x1b[2J" in one["text"] and "\u202e" in one["text"] for one in objects)


@pytest.mark.usefixtures("says")
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_text_alone_is_data_in_a_file_and_escaped_on_a_terminal(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = kind()
    monkeypatch.setattr(sys, "stdout", stream)
    argv = ["generate", "--prompt", PROMPT, "--method", "target", "--text-only", "--length", "60"]
    main(argv)
    assert ("\x1b[2J" in stream.getvalue()) is (kind is io.StringIO)
    assert bool(obeyed(stream.getvalue())) is (kind is io.StringIO)


def test_all_output_goes_through_the_few_places_that_escape() -> None:
    places = {"output.py", "border.py", "view.py"}
    elsewhere = {"ablate.py"}  # escapes what it prints by itself
    for path in CLI.glob("*.py"):
        calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        printing = [c for c in calls if ast.unparse(c.func).split(".")[-1] in ("print", "write")]
        assert not printing or path.name in places | elsewhere, path.name
        for call in calls:  # progress displays
            if ast.unparse(call.func) == "TextColumn" and "{task" in ast.unparse(call.args[0]):
                fixed = "fields[loss]" in ast.unparse(call.args[0])
                assert fixed or "markup=False" in ast.unparse(call), path.name
