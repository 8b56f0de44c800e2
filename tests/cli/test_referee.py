"""`foredraft referee`: verdicts, exit codes and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

EXAMPLES = str(Path(__file__).parents[2] / "examples" / "verifiers.py")


def test_that_of_transformers_passes(run: Run) -> None:
    code, out, err = run("referee", "transformers.generation.utils:_speculative_sampling")
    assert code == 0
    assert out.splitlines()[0].endswith("called as: transformers' _speculative_sampling")
    assert "total variation: at most " in out
    assert out.splitlines()[-1] == "passed"
    assert err.startswith("checking enumerating transformers.generation.utils")


def test_the_wrong_example_fails_and_says_where(run: Run) -> None:
    code, out, _ = run("referee", f"{EXAMPLES}:no_residual")
    assert code == 1
    assert out.splitlines()[-1] == "FAILED"
    wrong = [line for line in out.splitlines() if line.startswith("FAIL ")]
    assert wrong
    assert all(" comes with 0." in line for line in wrong)


def test_counted_verdicts_say_what_they_could_see(run: Run) -> None:
    asked = ("referee", f"{EXAMPLES}:rejection", "--count", "--samples", "500")
    code, out, _ = run(*asked)
    assert code == 0
    assert "texts counted (asked for)" in out
    assert "would have been found with probability 0.99" in out
    code, out, _ = run(*asked, "--json")
    found = json.loads(out)
    assert (code, found["passed"], found["enumerated"]) == (0, True, False)


@pytest.mark.slow
def test_whole_generations_are_judged(run: Run) -> None:
    asked = ("referee", "--generate", f"{EXAMPLES}:impatient", "--samples", "900")
    code, out, _ = run(*asked)
    assert code == 1
    assert "times instead of" in out
    assert out.splitlines()[-1] == "FAILED"
    code, out, _ = run(*asked, "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name one function"),
        (("a:b", "--generate", "a:b"), "name one function"),
        (("nonsense",), "is no MODULE:FUNCTION"),
        ((":name",), "is no MODULE:FUNCTION"),
        (("json:",), "is no MODULE:FUNCTION"),
        (("no_such_module:f",), "importing 'no_such_module' failed"),
        (("json:dumbs",), "did you mean 'dumps'?"),
        (("json:__name__",), "is of type str, no function"),
        (("json:dumps",), "is no verifier that is known"),
        (("--generate", "json:dumps"), "it is called as generate"),
        (("--generate", "json:dumps", "--count"), "generations are always counted"),
        (("missing.py:f",), "importing 'missing.py' failed"),
    ],
)
def test_refusals(run: Run, words: tuple[str, ...], told: str) -> None:
    code, out, err = run("referee", *words)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1
