"""White space of every kind is text, in every locale; ids keep the stop string, text does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foredraft.cli import surroundings
from foredraft.config import DecodingConfig
from foredraft.engine import METHODS
from foredraft.errors import RequestError
from tests.toy_engine import PROMPT, STORY, token, toy_engine

ROOT = Path(__file__).parents[2]
SPACING = [chr(c) for c in range(0x110000) if chr(c).isspace()]
CONTROLS = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0)) if not chr(c).isspace()]


@pytest.mark.parametrize("space", SPACING, ids=lambda c: f"U+{ord(c):04X}")
def test_a_prompt_may_hold_any_white_space(space: str) -> None:
    engine = toy_engine()
    prompt = f"one{space}two{space}"
    assert engine.decode(engine.encode(prompt)).removeprefix("<|bos|>") == prompt


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: f"U+{ord(c):04X}")
def test_other_controls_are_refused_by_their_number(control: str) -> None:
    with pytest.raises(RequestError, match=rf"U\+{ord(control):04X}"):
        toy_engine().encode(f"one{control}two")


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_prompt_typed_in_an_ascii_locale_is_the_prompt(tmp_path: Path) -> None:
    program = tmp_path / "words.py"
    program.write_text(
        "from foredraft.cli.surroundings import words_typed\nprint(ascii(words_typed(None)))\n"
    )
    done = subprocess.run(
        [sys.executable, program, "门前 é", b"\xff"],
        capture_output=True,
        env=os.environ | ASCII | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.decode().strip() == ascii(["门前 é", "\udcff"])


def test_words_that_are_given_stay_as_they_are() -> None:
    assert surroundings.words_typed(["é", "\ud800"]) == ["é", "\ud800"]


@pytest.mark.parametrize("method", METHODS[:3])
def test_ids_keep_the_stop_string_that_the_text_does_not(method: str) -> None:
    done = toy_engine().generate(PROMPT, DecodingConfig(stop=(" fox",)), method=method)
    assert done.text == STORY.split(" fox")[0]
    assert done.tokens[-1] == token(" fox")


@pytest.mark.parametrize("page", ["docs/api-options.md", "docs/en/api-options.md"])
def test_the_documents_say_so(page: str) -> None:
    assert "Completion.tokens" in (ROOT / page).read_text(encoding="utf-8")
