"""`foredraft generate --prompts-file`: every line gets its text, or one sentence names the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foredraft.config import METHODS
from foredraft.engine import Engine
from tests.cli.conftest import Run
from tests.cli.transcript import without_clock
from tests.toy_engine import PROMPT, SINGER, STORY, song, toy_engine

pytestmark = pytest.mark.usefixtures("loaded")

LINES = f"{PROMPT}\n\n \t\n{SINGER}\n"
SHOWN = f"""
== Speculative ==

1:
{STORY}

4:
{song(35)}

2 texts · 51 tokens · # s · # tokens/s
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text(LINES, encoding="utf-8")
    return file


def objects_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


# --- what is printed ------------------------------------------------------------------------------


def test_each_text_stands_under_the_number_of_its_line(run: Run, file: Path) -> None:
    code, out, err = run("generate", "--prompts-file", str(file))
    assert (code, err) == (0, "")
    head, seconds, tail = out.rpartition(" s · ")
    assert without_clock(head.rpartition(" · ")[0] + " · #" + seconds + tail) == SHOWN


@pytest.mark.parametrize("method", METHODS)
def test_json_is_that_of_one_prompt_with_its_line(run: Run, file: Path, method: str) -> None:
    words = ("--method", method, "--json", "--length", "9")
    code, out, err = run("generate", "--prompts-file", str(file), *words)
    assert (code, err) == (0, "")
    together = sorted(objects_of(out), key=lambda one: one["line"])  # printed as they end
    assert [one.pop("line") for one in together] == [1, 4]
    for ours, prompt in zip(together, (PROMPT, SINGER), strict=True):
        [alone] = objects_of(run("generate", "--prompt", prompt, *words)[1])
        assert ours.keys() == alone.keys()
        assert all(ours[k] == alone[k] for k in ("prompt", "method", "text", "tokens", "seed"))
        assert ours["num_accepted_tokens"] == alone["num_accepted_tokens"]


def test_what_is_printed_as_json_can_be_replayed(run: Run, file: Path, tmp_path: Path) -> None:
    _, out, _ = run("generate", "--prompts-file", str(file), "--json", "--method", "target")
    recorded = tmp_path / "run.jsonl"
    recorded.write_text(out, encoding="utf-8")
    code, out, err = run("replay", str(recorded), "--drafting", "suffix", "--json")
    assert err == ""
    assert (code, objects_of(out)[0]["num_emitted_tokens"]) == (0, 51)


def test_lines_of_objects_are_read_for_their_prompt(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [{"id": "a", "prompt": SINGER, "length": 60}, {"prompt": f"{PROMPT}\n{PROMPT}"}]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    _, out, _ = run("generate", "--prompts-file", str(file), "--json", "--length", "3")
    assert [o["prompt"] for o in objects_of(out)] == [line["prompt"] for line in lines]
    assert objects_of(out)[0]["text"] == song(3)


def test_a_line_of_text_may_look_like_an_object(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "code.txt"
    file.write_text("{ int i;\n", encoding="utf-8")
    _, out, _ = run("generate", "--prompts-file", str(file), "--json", "--length", "3")
    assert objects_of(out)[0]["prompt"] == "{ int i;"


@pytest.mark.parametrize(
    ("words", "method"), [((), "speculative"), (("--drafter", "none"), "ngram")]
)
def test_without_a_method_it_is_the_first_that_can_run(
    run: Run, file: Path, words: tuple[str, ...], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words:
        monkeypatch.setattr(Engine, "load", lambda *names, **_: toy_engine(alone=True))
    _, out, _ = run("generate", "--prompts-file", str(file), "--json", *words)
    assert {one["method"] for one in objects_of(out)} == {method}


# --- what is refused ------------------------------------------------------------------------------

WRITE = 'is no prompt; write {"prompt": "Once upon a time"}, or name the file otherwise'
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "a.txt", "a.txt' holds no prompts; write one a line"),
    "blank": (b"\n \n\t\n", "a.jsonl", "a.jsonl' holds no prompts; write one a line"),
    "bytes": (b"Sing\n\xff\n", "a.txt", "a.txt' is not UTF-8 (byte 5); save it as UTF-8"),
    "control": (b"Sing\n\n\0\n", "a.txt", "line 3 of "),
    "long": (b"Sing\n" + b"la " * 300, "a.txt", "a.txt': the prompt has "),
    "spaces": (b'{"prompt": " "}', "a.jsonl", "a.jsonl': the prompt is empty; "),
    "no json": (b'{"prompt": "Sing"}\nSing\n', "a.jsonl", f"a.jsonl' {WRITE}"),
    "no prompt": (b'{"text": "Sing"}', "a.jsonl", f"a.jsonl' {WRITE}"),
    "no object": (b'["Sing"]', "a.jsonl", f"a.jsonl' {WRITE}"),
    "no text": (b'{"prompt": 3}', "a.jsonl", f"a.jsonl' {WRITE}"),
}


@pytest.mark.parametrize(("content", "name", "words"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused_in_one_sentence(
    run: Run, tmp_path: Path, content: bytes, name: str, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    code, out, err = run("generate", "--prompts-file", str(tmp_path / name))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_the_line_of_a_prompt_that_is_too_long_is_named(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text(f"{SINGER}\n\n{'la ' * 300}\n", encoding="utf-8")
    _, _, err = run("generate", "--prompts-file", str(file))
    assert f"error: line 3 of '{file}': the prompt has " in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--prompt Sing", "not allowed with argument"),
        ("--trace", "--trace shows the steps of one text; leave it out, or give one prompt with"),
        ("--trace --json", "--trace shows the steps of one text"),
        ("--text-only", "--text-only does not tell several texts apart, as --json does"),
        ("--method all", "--prompts-file runs one method, not --method all; legal: speculative, "),
    ],
)
def test_what_is_of_one_prompt_is_refused(run: Run, file: Path, words: str, reason: str) -> None:
    code, out, err = run("generate", "--prompts-file", str(file), *words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert reason in err


def test_a_missing_draft_model_is_no_lines_fault(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "load", lambda *names, **_: toy_engine(alone=True))
    words = ("--method", "speculative", "--drafter", "none")
    code, _, err = run("generate", "--prompts-file", str(file), *words)
    assert code == 2
    assert "line" not in err


def test_what_had_ended_before_an_interrupt_is_printed(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Engine.stream_many

    def interrupted(*given: Any, **more: Any) -> Any:
        yield next(whole(*given, **more))
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "stream_many", interrupted)
    code, out, err = run("generate", "--prompts-file", str(file), "--json")
    assert (code, err) == (130, "")
    assert [one["text"] for one in objects_of(out)] == [STORY]
