"""`/model` warms up what it loads, `/quit` ends anywhere, `replay` takes what has an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from foredraft.cli.main import infer, main
from foredraft.engine import Engine
from tests.cli.conftest import Run, loaded, run
from tests.cli.test_results import random_model
from tests.cli.transcript import open_shell, printed
from tests.toy_engine import tokenizer, toy_engine

__all__ = ["loaded", "run"]  # fixtures


def test_a_model_is_warmed_up_before_it_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(len(tokenizer())).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    warm: list[Engine] = []
    monkeypatch.setattr(Engine, "warm_up", lambda engine: warm.append(engine))
    shell = open_shell()
    shell.run([f"/model drafter {tmp_path}"], echo=False)
    assert warm == [shell.engine]


def test_a_model_that_cannot_run_does_not_take_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(len(tokenizer())).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)

    def fail(self: Engine) -> None:
        raise RuntimeError("the first pass fails")

    monkeypatch.setattr(Engine, "warm_up", fail)
    engine = toy_engine()
    shell = open_shell(engine)
    shell.run([f"/model drafter {tmp_path}"], echo=False)
    assert printed(shell).startswith("error: ")
    assert shell.engine is engine


@pytest.mark.parametrize(("entry", "words"), [(infer, []), (main, ["chat"])])
@pytest.mark.parametrize("line", ["/quit", "/seed 7\n/quit\n/gamma nonsense"])
@pytest.mark.usefixtures("loaded")
def test_quit_as_the_only_line_ends_with_exit_code_0(
    entry: Any, words: list[str], line: str, run: Run
) -> None:
    code, out, err = run(*words, "--prompt", line, entry=entry)
    assert (code, err) == (0, "")
    assert out in ("", "seed: 7\n")


def test_replay_takes_an_encoder_decoder_and_asks_no_hub(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **settings: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "model_info", refuse)
    file = tmp_path / "run.jsonl"
    file.write_text('{"prompt": "a b a b a b", "response": "a b a b"}\n', encoding="utf-8")
    argv = ("replay", str(file), "--target", "bundled-seq2seq", "--drafter", "bundled")
    code, out, err = run(*argv, "--policy", "fixed(gamma=2)", "--json")
    assert (code, err) == (0, "")
    found = {(one["drafting"], one["policy"]): one for one in map(json.loads, out.splitlines())}
    assert found["model", "fixed(gamma=2)"]["num_drafted_tokens"] > 0
    assert found["suffix", "fixed(gamma=2)"]["num_drafted_tokens"] > 0
    code, out, err = run("replay", str(file), "--target", str(tmp_path))
    assert (code, out) == (2, "")
    assert "holds no model" in err
    assert err.count("\n") == 1
