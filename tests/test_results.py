"""Files of `benchmarks/results`: each has a maker and a machine, and conclusions follow them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
from tables import MOST_PLAIN

from docs.site import conclusions, measured, pass_times, readings
from docs.site.theory import expected_tokens
from tests.documents import ROOT

Results = Callable[[str], Any]
FILES = measured.files()


@pytest.mark.parametrize("file", FILES)
def test_every_results_file_has_a_script_that_makes_it(file: str) -> None:
    command = measured.maker(file)
    assert command, f"{file}: nothing in MADE_BY makes it"
    scripts = [word for word in command.split() if word.endswith(".py")]
    assert all((ROOT / script).is_file() for script in scripts)
    assert scripts or "foredraft ablate" in command


@pytest.mark.parametrize("file", FILES)
def test_every_results_file_names_its_machine(file: str) -> None:
    machine = measured.results(file)["machine"]
    assert machine["processor"]
    assert machine["commit"], "which program was measured"
    assert measured.machine(measured.results(file)) != "–"


def test_a_file_that_nothing_makes_is_noticed() -> None:
    assert measured.maker("invented.json") is None
    assert measured.maker("peers-cuda-float16.json") == measured.MADE_BY["peers-….json"]


def test_large_files_lie_compressed_and_none_lies_twice() -> None:
    plain = list(measured.RESULTS.glob("*.json"))
    assert [file.name for file in plain if file.stat().st_size > MOST_PLAIN] == []
    assert [file.name for file in plain if file.with_name(f"{file.name}.xz").exists()] == []


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Any], None]], None]:
    """Return a function that changes what a results file seems to hold."""
    known = {file: measured.results(file) for file in FILES}

    def change(file: str, edit: Callable[[Any], None]) -> None:
        held = {**known, file: copy.deepcopy(known[file])}
        edit(held[file])
        for module in (conclusions, readings, pass_times):
            monkeypatch.setattr(module, "results", held.__getitem__)

    return change


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_advice_about_draft_lengths_follows_the_figures(
    changed: Callable[[str, Callable[[Any], None]], None], language: str
) -> None:
    """Once `throughput` wins, the page no longer says that no rule is quicker."""
    before = conclusions.answers(language)

    def throughput_wins(found: Any) -> None:
        rows = {row["method"]: row for row in found["rows"]["greedy"]}
        rows["throughput"]["all"] |= {"median": 9.0, "low": 8.0, "high": 10.0}

    changed("policies-bundled.json", throughput_wins)
    after = conclusions.answers(language)
    assert "9.00" in after
    none = "none is quicker" if language == "en" else "没有一个更快"
    assert none not in after or none not in before


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ((1.1, 1.3), "**1.20 [1.10, 1.30]**"),
        ((0.9, 1.3), "1.20 [0.90, 1.30]"),
        ((0.7, 0.9), "*1.20 [0.70, 0.90]*"),
        ((None, None), "1.20"),
    ],
)
def test_only_a_whole_interval_is_a_finding(ends: tuple[Any, Any], shown: str) -> None:
    found = {"median": 1.2, "low": ends[0], "high": ends[1]}
    assert conclusions.marked(found) == shown


def test_the_largest_gain_comes_first() -> None:
    lines = conclusions.which("en").splitlines()[2:]
    gains = [float(line.split(" | ")[2].strip("*").split(" ")[0]) for line in lines]
    assert gains == sorted(gains, reverse=True)


def test_a_step_that_costs_what_it_emits_breaks_even() -> None:
    for cost in (1.2, 2.0, 4.9):
        alpha = pass_times.needed(cost, 4)
        assert alpha is not None
        assert math.isclose(expected_tokens(alpha, 4), cost, rel_tol=1e-6)
    assert pass_times.needed(5.0, 4) is None
    assert pass_times.needed(1.0, 4) == pytest.approx(0, abs=1e-6)


def test_every_sentence_is_there_in_both_languages() -> None:
    for make in (*conclusions.BLOCKS.values(), *readings.BLOCKS.values()):
        zh, en = make("zh"), make("en")
        assert zh != en
        assert "nan" not in zh + en
