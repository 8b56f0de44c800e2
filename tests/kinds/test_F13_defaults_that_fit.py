"""A default that cannot fit is not used, and `none` is no draft model wherever one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli import session as sessions
from foredraft.cli.main import infer
from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.errors import ConfigError, ModelError
from foredraft.loading import LoadOptions
from foredraft.zoo.tokenizer import train_tokenizer
from tests.cli.conftest import Run, run
from tests.cli.test_results import random_model
from tests.cli.transcript import open_shell, printed
from tests.documents import parsers
from tests.toy_engine import PROMPT, STORY

__all__ = ["run"]  # a fixture
CPU = LoadOptions(device="cpu")
FEW = ("--device", "cpu", "--length", "6")
DRAFTED = [name for name, its in parsers() if "--drafter" in its._option_string_actions]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a model whose tokenizer is nobody else's."""
    path: Path = tmp_path_factory.mktemp("stranger")
    words = train_tokenizer(["quite another text, with words of its own"], 300)
    random_model(len(words)).save_pretrained(path)
    words.save_pretrained(path)
    return str(path)


def methods(out: str) -> list[str]:
    return [json.loads(line)["method"] for line in out.splitlines()]


def test_generate_drafts_without_a_model_and_says_so(run: Run, stranger: str) -> None:
    code, out, err = run("generate", "--prompt", "words", "--target", stranger, *FEW, "--json")
    assert code == 0
    assert methods(out) == ["speculative", "ngram", "target"]
    assert err.startswith(f"note: the bundled draft model does not fit {stranger!r}")
    assert err.endswith("--drafter NAME\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("method", ["speculative", "ngram", "target"])
def test_each_method_runs_alone_with_the_default(run: Run, stranger: str, method: str) -> None:
    argv = ("--prompt", "words", "--target", stranger, *FEW, "--method", method, "--json")
    code, out, err = run("generate", *argv)
    assert code == 0
    assert methods(out) == [method]
    assert ("--drafter" in err) is (method == "speculative")


def test_what_needs_a_draft_model_says_so_by_name(run: Run, stranger: str) -> None:
    argv = ("generate", "--prompt", "words", "--target", stranger, *FEW, "--method", "drafter")
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert "error: method 'drafter' needs a draft model; load one" in err
    few = ("--length", "12", "--repeats", "1")
    code, out, err = run(
        "advise", "--prompt", "words", "--device", "cpu", *few, "--target", stranger
    )
    assert code == 0
    assert "drafter none" in out
    assert "--drafter NAME" in err


def test_a_drafter_asked_for_by_name_must_fit_and_none_is_the_remedy(
    run: Run, stranger: str
) -> None:
    argv = ("--prompt", "words", "--target", stranger, "--device", "cpu")
    code, out, err = run("generate", *argv, "--drafter", "bundled-seq2seq")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(", or none: --drafter none\n")
    with pytest.raises(ModelError, match="or none: --drafter none"):
        Engine.load(stranger, "bundled-seq2seq", options=CPU)


def test_a_drafter_asked_for_by_name_may_have_another_tokenizer(run: Run, stranger: str) -> None:
    argv = ("--prompt", "words", "--target", stranger, "--drafter", "bundled", *FEW)
    code, out, err = run("generate", *argv, "--json")
    assert (code, err) == (0, "")
    assert methods(out) == ["speculative", "ngram", "target"]
    records = [json.loads(line) for line in out.splitlines()]
    assert records[0]["matches_baseline"] is True
    assert records[0]["num_drafted_tokens"] > 0
    code, out, err = run("generate", *argv, "--method", "drafter")
    assert (code, out) == (2, "")
    assert "method 'drafter' cannot read the prompt's tokens" in err
    assert err.endswith("load it as the target: --target bundled\n")


def test_the_shell_opens_on_a_stranger(run: Run, stranger: str) -> None:
    code, out, err = run("--target", stranger, "--device", "cpu", "--prompt", "words", entry=infer)
    assert code == 0
    assert "== Speculative ==" in out
    assert "--drafter NAME" in err


def test_verify_checks_what_needs_no_draft_model(run: Run, stranger: str) -> None:
    argv = ("--target", stranger, "--device", "cpu", "--samples", "50", "--length", "4", "--json")
    code, out, err = run("verify", *argv, "--prompt", "words", "--verifier", "rejection")
    report = json.loads(out)
    assert report["plan"]["methods"] == ["ngram"]
    assert report["drafter"] is None
    assert "--drafter NAME" in err
    assert code in (0, 1)
    code, _, err = run("verify", *argv, "--method", "egag")
    assert code == 2
    assert "methods egag need a draft model" in err


# --- none -----------------------------------------------------------------------------------------


def test_every_command_that_takes_a_drafter_is_tried() -> None:
    assert {name.split()[-1] for name in DRAFTED} == {
        *("generate", "chat", "infer.py", "advise", "verify", "ablate", "replay"),
        "serve",  # tests/server
    }


@pytest.mark.parametrize(
    "argv",
    [
        ("generate", "--prompt", PROMPT, *FEW),
        ("chat", "--prompt", PROMPT, "--device", "cpu"),
        ("verify", "--method", "ngram", "--prompt", PROMPT, "--samples", "20", *FEW),
        ("advise", "--prompt", PROMPT, "--device", "cpu", "--length", "12", "--repeats", "1"),
        ("replay", "FILE"),
    ],
    ids=lambda argv: argv[0],
)
def test_none_loads_no_draft_model(
    argv: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **settings: Any) -> None:
        raise AssertionError(args)

    for place in ("loading.drafter.load_drafter", "cli.replay.load_drafter"):
        monkeypatch.setattr(f"foredraft.{place}", refuse)
    for place in ("loading.drafter.find_drafter", "cli.loading.find_drafter"):
        monkeypatch.setattr(f"foredraft.{place}", refuse)
    (tmp_path / "f").write_text('{"prompt": "a b a b", "response": " a b a b"}', encoding="utf-8")
    words = [str(tmp_path / "f") if word == "FILE" else word for word in argv]
    code, _, err = run(*words, "--drafter", "none")
    assert "AssertionError" not in err
    assert code != 2


def test_none_is_none_in_python_and_in_the_shell() -> None:
    assert Engine.load(drafter="none", options=CPU).drafter is None
    assert Engine.load(drafter=None, options=CPU).drafter is None
    shell = open_shell(config=DecodingConfig(drafter=True))
    shell.run(["/model drafter none", PROMPT], echo=False)
    first = printed(shell).splitlines()[:3]
    assert first[0] == "speculative: off, since there is no draft model"
    assert first[1] == "drafter: off, since there is no draft model"
    assert first[2] == "model: toy-target, no drafter"
    assert [r.completion.method for r in shell.results] == ["ngram", "target"]
    assert shell.results[0].completion.text == STORY


def test_none_leaves_speculative_on_where_it_needs_no_model() -> None:
    shell = open_shell(config=DecodingConfig(drafting="suffix"))
    shell.run(["/model drafter none", PROMPT], echo=False)
    assert shell.config == DecodingConfig(drafting="suffix")
    assert shell.results[0].completion.text == STORY


def test_with_another_target_a_bundled_drafter_that_does_not_fit_is_left_out(
    stranger: str,
) -> None:
    engine = Engine.load(options=CPU)
    shell = open_shell(engine)
    shell.run([f"/model target {stranger}", "words"], echo=False)
    told = printed(shell).splitlines()
    assert told[0].startswith("note: the bundled draft model does not fit ")
    assert told[1] == "drafting: suffix, since there is no draft model"
    assert shell.engine.drafter is None
    assert [r.completion.method for r in shell.results] == ["speculative", "ngram", "target"]


def test_a_drafter_named_by_the_user_keeps_its_target(
    stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = open_shell()  # its drafter is no bundled one
    engine = shell.engine

    def refuse(*args: Any) -> None:
        raise ConfigError("it does not fit")

    monkeypatch.setattr(sessions, "load_drafter", refuse)
    shell.run([f"/model target {stranger}", PROMPT], echo=False)
    assert printed(shell).startswith("error: it does not fit\n")
    assert shell.engine is engine
