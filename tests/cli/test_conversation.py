"""`foredraft chat` as a conversation: turns, their last lines, its commands, and when it is one."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli.loading import shown_loading
from foredraft.cli.main import infer, main
from foredraft.cli.shell import Shell
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.loading import LoadOptions
from foredraft.phases import begins, listening
from tests.cli.conftest import Run
from tests.cli.transcript import Terminal, printed, without_clock
from tests.folders import write_folder
from tests.talkers import NO_SYSTEM, talkers
from tests.toy_engine import PROMPT, SINGER, STORY, song, tokenizer, toy_engine, toy_target

CHAT = DecodingConfig(seed=42, chat=True, length=12)


def open_talk(
    engine: Engine | None = None, config: DecodingConfig = CHAT, system: str | None = None
) -> Shell:
    """Return a shell that converses, on the toy engine, and prints into memory."""
    view = View(io.StringIO())
    return Shell(engine or toy_engine(), config, view, talks=True, system=system)


def said(*lines: str, shell: Shell | None = None) -> str:
    """Return what a conversation prints, without what the clock decides."""
    shell = shell or open_talk()
    shell.run(lines, echo=True)
    return without_clock(printed(shell))


SESSION = """\
> /undo
taken back: 'Who?'
> /reset
the conversation begins anew
> /undo
error: there is no turn to take back; say something first
> /system Be brief.
system: Be brief.
> /system
system: none
"""


def test_turns_are_answered_by_one_method_with_one_line_of_numbers() -> None:
    shell = open_talk(config=CHAT.replace(length=100))
    lines = (SINGER, "Who?", "/undo", "/reset", "/undo", "/system Be brief.", "/system")
    shown = said(*lines, shell=shell)
    assert "== " not in shown
    assert shown.count(" tokens/s") == 2
    assert f"{STORY}\n16 tokens · # tokens/s · τ " in shown
    assert "· drafting: model · read " in shown
    assert shown.endswith(SESSION)


def test_only_the_new_turn_is_read_and_the_line_says_so() -> None:
    shell = open_talk()
    read = []
    for line in (SINGER, "Who?", "And then?"):
        shell.run([line], echo=False)
        reading = shell.conversation.reading
        read.append(reading.num_read)
        last = printed(shell).splitlines()[-2]
        assert f"read {reading.num_read} of {reading.num_tokens} tokens" in last
    assert max(read) < shell.conversation.reading.num_tokens / 2
    assert len(shell.conversation.messages) == 6


def test_an_answer_that_is_cut_says_by_what() -> None:
    assert "[cut at 12 tokens; /length N allows more]" in said(SINGER)
    full = open_talk(toy_engine(toy_target(14)), CHAT.replace(length=100))
    assert "[cut, since the context of 14 tokens is full; the next turn drops" in said(
        SINGER, shell=full
    )


def test_a_full_context_says_what_it_dropped() -> None:
    shell = open_talk(toy_engine(toy_target(64)))
    shown = said(*[SINGER] * 8, shell=shell)
    assert "[the context of 64 tokens is full: the oldest " in shown
    assert " dropped (" in shown
    assert "error" not in shown


def test_the_first_method_that_is_switched_on_answers() -> None:
    shown = said(SINGER, "/speculative off", SINGER, "/ngram off", SINGER, "/target off", SINGER)
    drafting = [line for line in shown.splitlines() if "drafting: " in line]
    assert ["model" in drafting[0], "ngram(" in drafting[1], "none" in drafting[2]] == [True] * 3
    assert "every method is switched off" in shown.splitlines()[-1]


def test_stats_save_and_compare_work_in_a_conversation(tmp_path: Path) -> None:
    shell = open_talk()
    shown = said(
        SINGER, "/stats", f"/save {tmp_path / 'x.jsonl'}", f"/compare {PROMPT}", shell=shell
    )
    assert "error" not in shown
    assert "num_emitted_tokens" in shown
    assert "== Target AR ==" in shown
    assert len(shell.conversation.messages) == 2  # a comparison is no turn


def test_chat_off_makes_each_line_a_prompt_and_on_goes_on_with_the_conversation() -> None:
    shell = open_talk(config=CHAT.replace(chat=False))
    shown = said(SINGER, "/undo", "/chat on", SINGER, "/chat off", SINGER, shell=shell)
    assert shown.count("== Speculative ==") == 2
    assert f"{song(12)}\n" in shown
    assert "error: each line is a prompt of its own here, not a turn; /chat on begins one" in shown
    shell.run(["/chat on", SINGER], echo=False)
    assert len(shell.conversation.messages) == 4


@pytest.mark.parametrize("when", [0, 2])
def test_an_interrupt_ends_the_answer_and_says_what_becomes_of_it(
    when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy_engine()
    shell = open_talk(engine)
    forward, calls = engine.target.model.forward, iter([False] * when + [True])

    def interrupted(feeds: Any) -> Any:
        if next(calls, False):
            raise KeyboardInterrupt
        return forward(feeds)

    monkeypatch.setattr(engine.target.model, "forward", interrupted)
    shown = said(SINGER, PROMPT, shell=shell)
    words = "what was said stays, /undo takes it back" if when else "nothing was said"
    assert f"[interrupted: {words}" in shown
    assert len(shell.conversation.messages) == (4 if when else 2)


def test_a_traced_answer_shows_its_steps() -> None:
    shown = said("/debug", SINGER)
    assert "step  1  target: ' there'" in shown
    assert "· drafting: model · read " in shown


def test_empty_lines_and_prompts_that_begin_with_a_slash() -> None:
    shell = open_talk()
    said("", "   ", "// what is this?", " /etc is what?", shell=shell)
    assert [m["content"] for m in shell.conversation.messages[::2]] == [
        "// what is this?",
        "/etc is what?",
    ]


def test_a_template_that_takes_no_system_message_is_one_sentence() -> None:
    shell = open_talk(talkers(template=NO_SYSTEM))
    shown = said("/system Be brief.", "The dog", shell=shell)
    assert shown.count("error: ") == 1
    assert "System role not supported' when it was given a system message; leave" in shown
    assert shell.conversation.messages[0] == {"role": "user", "content": "The dog"}


def test_a_template_that_takes_nobody_switches_the_conversation_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizer(), "chat_template", "{{ raise_exception('no') }}")
    shown = said(SINGER, SINGER)
    assert "chat is off now: nothing passes the template" in shown
    assert "== Speculative ==" in shown


def test_other_models_begin_it_anew_with_the_system_message(tmp_path: Path) -> None:
    write_folder(tmp_path)
    shell = open_talk(talkers(alone=True), CHAT.replace(drafting="suffix"), "Be brief.")
    shell.run(["The dog", f"/model target {tmp_path}", "The dog"], echo=False)
    assert "note: the conversation begins anew with these models" in printed(shell)
    assert [m["role"] for m in shell.conversation.messages] == ["system", "user", "assistant"]
    assert shell.conversation.messages[0]["content"] == "Be brief."


# --- when it is one -------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path) -> list[str]:
    """Return the flags that name a target with a chat template."""
    folder = write_folder(tmp_path / "model")
    return ["--target", str(folder), "--drafter", "none", "--device", "cpu"]


Entry = Callable[[list[str]], None]
CASES: dict[str, tuple[Entry, list[str], bool, bool]] = {  # entry, flags, named, converses
    "chat, named": (main, ["chat"], True, True),
    "chat, named, --no-chat": (main, ["chat", "--no-chat"], True, False),
    "chat, bundled": (main, ["chat"], False, False),
    "chat, bundled, --chat": (main, ["chat", "--chat"], False, True),
    "infer, named": (infer, [], True, False),
    "infer, bundled": (infer, [], False, False),
    "infer, bundled, --chat": (infer, ["--chat"], False, False),
}


@pytest.mark.parametrize(("entry", "flags", "is_named", "converses"), CASES.values(), ids=CASES)
def test_chat_converses_where_a_target_was_named_or_it_was_asked_for(
    entry: Entry,
    flags: list[str],
    is_named: bool,
    converses: bool,
    named: list[str],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_named:
        monkeypatch.setattr(Engine, "load", lambda *a, **s: toy_engine())
    monkeypatch.setattr("foredraft.cli.chat.LONGEST_ANSWER", 8)
    stdin = io.TextIOWrapper(io.BytesIO(f"{SINGER}\n{SINGER}\n".encode()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, err = run(*flags, *(named if is_named else []), entry=entry)
    assert (code, err) == (0, "")
    assert out.count(f"> {SINGER}\n") == 2
    assert ("· drafting: " in out) is converses
    assert ("== " in out) is not converses


def test_a_model_without_a_template_is_no_conversation_and_refuses_to_be_one(
    named: list[str], run: Run
) -> None:
    (Path(named[1]) / "chat_template.jinja").unlink()
    code, out, err = run("chat", *named, "--prompt", "The dog")
    assert (code, err) == (0, "")
    assert "== Target AR ==" in out
    code, out, err = run("chat", *named, "--prompt", "The dog", "--chat")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has no chat template" in err
    code, out, err = run("chat", *named, "--prompt", "The dog", "--system", "Be brief.")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--system is for conversations" in err


def test_a_system_message_of_the_command_line_is_heard(named: list[str], run: Run) -> None:
    code, out, err = run("chat", *named, "--system", "Be brief.", "--prompt", "/system\n/help")
    assert (code, err) == (0, "")
    code, out, err = run("chat", *named, "--system", "Be brief.", "--prompt", "/help")
    assert "Be brief." in out
    code, out, err = run("chat", *named, "--system", " ", "--prompt", "x")
    assert (code, err.startswith("error: the system message is empty")) == (2, True)


# --- the bar --------------------------------------------------------------------------------------


def test_a_bar_is_shown_on_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shows in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with shown_loading():
            begins("reading \x1b[2J[bold]")
        assert ("reading \\x1b[2J[bold]" in stream.getvalue()) is shows
        assert bool(stream.getvalue()) is shows


def test_loading_says_what_it_is_at(tmp_path: Path) -> None:
    heard: list[str] = []
    with listening(heard.append):
        Engine.load(str(write_folder(tmp_path)), None, options=LoadOptions(device="cpu"))
    assert heard == [
        "reading the target's tokenizer",
        "reading the target's weights",
        "laying out the target's weights",
    ]
    begins("nobody listens")
