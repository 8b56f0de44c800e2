"""The subcommands, in process: what they print, where, and with which exit code."""

from __future__ import annotations

import dataclasses
import io
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foredraft.cli.main import infer, main
from foredraft.config import METHODS
from foredraft.core import StepRecord
from foredraft.tracing import Summary
from foredraft.zoo import HEADS_DIR, ZOO_DIR
from tests.cli.conftest import Run
from tests.cli.transcript import without_clock
from tests.toy_engine import PROMPT, SINGER, STORY, song

GENERATE = ("generate", "--prompt", PROMPT)


# --- generate -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded")
def test_json_prints_one_object_a_line_and_method_with_every_statistic(run: Run) -> None:
    code, out, err = run(*GENERATE, "--json")
    assert (code, err) == (0, "")
    objects = [json.loads(line) for line in out.splitlines()]
    assert [o["method"] for o in objects] == ["speculative", "ngram", "target"]
    statistics = {f.name for f in dataclasses.fields(Summary)}
    for o in objects:
        assert o.keys() >= {"method", "text", "tokens", "finish_reason", "seed"} | statistics
        assert (o["text"], o["finish_reason"], o["seed"]) == (STORY, "eos", 42)
        assert len(o["tokens"]) == o["num_emitted_tokens"] == 16
        assert "steps" not in o
    assert [o["num_accepted_tokens"] for o in objects] == [12, 0, 0]


@pytest.mark.usefixtures("loaded")
def test_trace_with_json_adds_every_step(run: Run) -> None:
    _, out, _ = run(*GENERATE, "--method", "speculative", "--json", "--trace")
    (only,) = map(json.loads, out.splitlines())
    assert [len(s["emitted"]) for s in only["steps"]] == [1, 4, 5, 5, 1]
    assert [s["num_accepted"] for s in only["steps"]] == [0, 3, 4, 4, 1]
    fields = {f.name for f in dataclasses.fields(StepRecord)}
    assert only["steps"][0].keys() == fields - {"logprobs"} | {"gamma"}


@pytest.mark.usefixtures("loaded")
def test_trace_without_json_shows_every_step(run: Run) -> None:
    _, out, _ = run(*GENERATE, "--method", "target", "--trace", "--length", "2")
    assert without_clock(out) == (
        "\n== Target AR ==\nstep  1  target: ' there'  [0/0 kept]\n"
        "step  2  target: ' was'  [0/0 kept]\n there was\n# tokens/s\n"
    )


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("method", METHODS)
def test_method_runs_that_method_alone(run: Run, method: str) -> None:
    code, out, _ = run("generate", "--prompt", SINGER, "--method", method, "--json")
    assert code == 0
    (only,) = map(json.loads, out.splitlines())
    assert only["method"] == method
    assert only["text"] == song(35)
    assert only["finish_reason"] == "length"


@pytest.mark.usefixtures("loaded")
def test_text_only_prints_the_text_and_nothing_else(run: Run) -> None:
    assert run(*GENERATE, "--method", "target", "--text-only") == (0, f"{STORY}\n", "")


@pytest.mark.usefixtures("loaded")
def test_stop_strings_cut_the_text(run: Run) -> None:
    argv = (*GENERATE, "--method", "speculative", "--text-only", "--stop", "no", "--stop", " by")
    assert run(*argv) == (0, " there was one little fox who lived\n", "")


# --- the shell from outside -----------------------------------------------------------------------


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(("entry", "words"), [(infer, []), (main, ["chat"])])
def test_infer_and_chat_run_a_given_prompt_and_leave(
    run: Run, entry: Callable[[list[str]], None], words: list[str]
) -> None:
    code, out, err = run(*words, "--prompt", SINGER, "--seed", "7", entry=entry)
    assert (code, err) == (0, "")
    assert out.startswith(f"\n== Speculative ==\n{song(35)}\nacceptance rate 100.0% · ")
    assert "ratio to Target AR: " in out.splitlines()[-1]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--prompt", ""), "error: the prompt is empty; "),
        (("--seed", "x"), "infer.py: error: argument --seed: the value must be a whole number in "),
    ],
)
def test_infer_refuses_in_one_line(run: Run, argv: tuple[str, ...], message: str) -> None:
    code, out, err = run(*argv, entry=infer)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


PIPED = f"""\
> /speculative
speculative: off
> /ngram off
ngram: off
> /nonsense
error: unknown command '/nonsense'; /help lists all commands
> \ufffd\ufffd
error: the prompt is not text: it holds the character U+DCFF; give valid UTF-8 without control \
characters
> {PROMPT}

== Target AR ==
{STORY}
# tokens/s
"""


@pytest.mark.usefixtures("loaded")
def test_piped_lines_run_to_the_end_of_input_and_exit_0(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"/speculative\r\n/ngram off\n\n/nonsense\n\xff\xfe\n" + PROMPT.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    code, out, err = run(entry=infer)
    assert (code, err) == (0, "")
    assert without_clock(out) == PIPED


# --- models, and the two other doors --------------------------------------------------------------


def test_models_lists_every_recipe(run: Run) -> None:
    code, out, _ = run("models")
    assert code == 0
    bundled = sorted(p.parent.name for p in ZOO_DIR.glob("*/recipe.toml"))
    heads = sorted(f"{p.parent.name}-head" for p in HEADS_DIR.glob("*/recipe.toml"))
    assert [line.split()[0] for line in out.splitlines()] == [*bundled, *heads]


@pytest.mark.parametrize(("module", "words"), [("foredraft", ["models"]), ("infer", ["--help"])])
def test_both_doors_open(
    module: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [module, *words])
    try:
        if module == "infer":
            runpy.run_path(str(Path(__file__).parents[2] / "infer.py"), run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        assert not end.code  # noqa: PT017
    assert capsys.readouterr().out


@pytest.mark.usefixtures("loaded")
def test_continuations_are_compared_seed_by_seed(run: Run) -> None:
    code, out, _ = run(*GENERATE, "--n", "2", "--json")
    assert code == 0
    lines = list(map(json.loads, out.splitlines()))
    assert [line["index"] for line in lines] == [0] * (len(lines) // 2) + [1] * (len(lines) // 2)
    assert all(line["matches_baseline"] is True for line in lines)
