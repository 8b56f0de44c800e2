"""Whatever foreign code raises is one sentence: a shell goes on, a command ends with 2."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.cli.commands import COMMANDS
from foredraft.cli.main import infer
from foredraft.config import METHODS, DecodingConfig
from foredraft.engine import Engine
from foredraft.loading import LoadOptions
from foredraft.zoo import ZOO_DIR
from tests.cli.conftest import Run, loaded, run
from tests.cli.transcript import open_shell, printed
from tests.toy_engine import PROMPT, STORY, tokenizer, toy_engine, toy_target

__all__ = ["loaded", "run"]  # fixtures
CPU = LoadOptions(device="cpu")


class Panic(BaseException):
    """What Rust raises through Python: no Exception."""


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


FOREIGN: list[BaseException] = [
    *(RuntimeError("a\nb"), MemoryError(), RecursionError("x" * 10_000), OverflowError(34, "big")),
    *(
        KeyError("k"),
        AttributeError("a"),
        AssertionError(),
        FileNotFoundError(2, "gone", "f"),
        IndexError(),
    ),
    *(TypeError(), ValueError("\x1b[2J"), ZeroDivisionError(), UnicodeError(), ImportError("i")),
    *(torch.OutOfMemoryError("CUDA out of memory"), EOFError(), TimeoutError(), StopIteration()),
    *(BufferError(), Panic("called `Option::unwrap()`"), Mute()),
]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: object, **settings: object) -> None:
        raise error

    return fail


def one_error(text: str) -> str:
    """Return the only error in an output; it is one line, and no terminal obeys it."""
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in text
    assert "\x1b" not in text
    assert len(line) < 500
    return line


@pytest.mark.parametrize("error", FOREIGN, ids=lambda e: type(e).__name__)
def test_a_model_that_raises_costs_one_prompt(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = toy_target()
    shell = open_shell(toy_engine(target))
    engine, config = shell.engine, shell.config
    with monkeypatch.context() as patch:
        patch.setattr(target, "forward", raising(error))
        shell.run([PROMPT], echo=False)
    one_error(printed(shell))
    shell.run([PROMPT], echo=False)
    assert (shell.engine, shell.config) == (engine, config)
    assert shell.results[0].completion.text == STORY


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_raises_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = dataclasses.replace(COMMANDS[name], run=raising(MemoryError("none left")))
    monkeypatch.setitem(COMMANDS, name, broken)
    shell = open_shell()
    shell.run([name, "/seed 7" if name != "/seed" else "/gamma 7"], echo=False)
    assert "MemoryError" in one_error(printed(shell))
    assert printed(shell).endswith(": 7\n")


@pytest.mark.parametrize("error", FOREIGN, ids=lambda e: type(e).__name__)
@pytest.mark.usefixtures("loaded")
def test_a_command_line_ends_with_one_sentence_and_exit_code_2(
    error: BaseException, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "warm_up", raising(error))
    code, out, err = run("generate", "--prompt", PROMPT)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert type(error).__name__ in one_error(err)


@pytest.mark.usefixtures("loaded")
def test_developers_see_where_it_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "warm_up", raising(RuntimeError("\x1b[2J")))
    monkeypatch.setenv("FOREDRAFT_TRACEBACK", "1")
    code, _, err = run("generate", "--prompt", PROMPT)
    assert code == 2
    assert "Traceback" in err
    assert "in fail" in err
    assert "\x1b" not in err


# --- chat templates -------------------------------------------------------------------------------

RAISES = "{{ raise_exception('this template takes nobody') }}"
RAISES_SOMETIMES = (
    "{% if messages[0]['content'] == 'Hello' %}{{ raise_exception('no greetings') }}{% endif %}"
    "{{ messages[0]['content'] }}"
)
BROKEN = ("{% if %}", "{{ messages[9]['content'] }}", "{{ 1 // 0 }}", RAISES)
LINES = "/chat on\nHello\n// adds two numbers\n/help\n/quit\n"


@cache
def folder_with(template: str, root: Path) -> Path:
    """Return the bundled target with another chat template, as a folder of one's own."""
    folder = root / "model"
    shutil.copytree(ZOO_DIR / "target", folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("template", "chat"), [(RAISES, "off"), (RAISES_SOMETIMES, "on")])
def test_a_piped_session_survives_a_template_that_raises(
    template: str, chat: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(LINES.encode()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    folder = folder_with(template, tmp_path)
    code, out, err = run("--target", str(folder), "--device", "cpu", entry=infer)
    assert (code, err) == (0, "")
    refused, answered = out.split("> Hello\n")[1].split("> // adds two numbers\n")
    assert refused.splitlines() == [one_error(out)]
    assert "== Speculative ==" in answered
    assert f"/chat [on|off]                {chat} " in answered
    assert ("chat is off now" in refused) is (chat == "off")


@pytest.mark.parametrize("template", BROKEN)
def test_a_template_that_takes_no_prompt_costs_one_prompt(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer(), "chat_template", template)
    shell = open_shell()
    shell.run(["/chat on", PROMPT, PROMPT], echo=False)
    one_error(printed(shell))
    assert shell.config == open_shell().config
    assert shell.results[0].completion.text == STORY


@pytest.mark.parametrize("template", BROKEN)
@pytest.mark.usefixtures("loaded")
def test_such_a_template_ends_a_command_with_exit_code_2(
    template: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer(), "chat_template", template)
    code, out, err = run("generate", "--prompt", PROMPT, "--chat")
    assert (code, out, err.count("\n")) == (2, "", 1)
    one_error(err)


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_after_an_interrupt_the_engine_says_the_same(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DecodingConfig(length=12).replace(**{m: m == method for m in METHODS})
    engine = Engine.load(options=CPU)
    shell = open_shell(engine, config)
    shell.run([PROMPT], echo=False)
    (before,) = shell.results
    model = engine.drafter.model if method == "drafter" and engine.drafter else engine.target.model
    calls = iter([False] * 2 + [True])
    forward = model.forward

    def interrupted(*args: Any, **settings: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return forward(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", interrupted)
        shell.run([PROMPT], echo=False)
    assert printed(shell).endswith("\n[interrupted]\n")
    shell.run([PROMPT], echo=False)
    assert shell.results[0].completion.tokens == before.completion.tokens
