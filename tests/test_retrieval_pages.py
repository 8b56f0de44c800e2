"""What the pages about NASD say in words follows from the results files."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from docs.site import retrieval
from docs.site.measured import REAL, results
from tests.documents import monotonous_traces


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return results files that a test may change before it asks for a sentence."""
    found = {name: copy.deepcopy(results(name)) for name in (REAL, retrieval.POLICIES)}
    monkeypatch.setattr(retrieval, "results", found.__getitem__)
    return found


def test_every_table_says_what_its_nasd_does_at_an_unknown_context() -> None:
    rows = retrieval.measured_settings("en").splitlines()[2:]
    does = {row.split("`")[1]: row.split("|")[-2].strip() for row in rows}
    assert does.pop("documented/") == "guesses a random token"
    assert set(does.values()) == {"ends the draft"}


def test_defaults_are_shown_where_they_are_changed() -> None:
    row = next(r for r in retrieval.settings("en").splitlines() if r.startswith("| `stop_if"))
    for said in ("`--no-stop-if-unknown`", "`/stop_if_unknown off`", "`stop_if_unknown=True`"):
        assert said in row


def test_nasd_is_said_to_win_where_it_does(changed: dict[str, Any]) -> None:
    assert "faster on no kind" in retrieval.claim("en")
    rows = {row["method"]: row for row in changed[retrieval.POLICIES]["rows"]["greedy"]}
    rows["NASD"]["long"]["median"] = 2 * rows["model 4"]["long"]["median"]
    assert "at least as fast on long," in retrieval.claim("en")
    assert "它在长文本续写上至少一样快" in retrieval.claim("zh")
    assert "(2.00)" in retrieval.claim("en")


def test_nasd_is_said_to_lose_only_where_it_does(changed: dict[str, Any]) -> None:
    for one in changed[REAL]["samplers"]["greedy"]["ratios"]:
        if one["ours"] == "nasd" and one["kind"] == "chat":
            one["median"] = 0.5
    assert "slower than plain decoding on chat (0.50)" in retrieval.reading("en")
    for one in changed[REAL]["samplers"]["greedy"]["ratios"]:
        one["median"] = 1.01
    assert "hardly any faster" in retrieval.reading("en")


def test_the_price_of_a_place_is_what_was_measured(changed: dict[str, Any]) -> None:
    for row in changed[REAL]["bounds"]:
        if "pass over 5" in row["what"]:
            row["measured"]["median"] = 1.25 if "bundled" in row["what"] else 1.5
    assert "1.25 times" in retrieval.price("en").partition("bundled")[0]
    assert "1.50 times" in retrieval.price("en").partition("bundled")[2]


def test_a_trace_without_drafts_is_noticed() -> None:
    steps = "".join(f"step {n:>3}  target: ' a'  [0/0 kept, stopped: unknown]\n" for n in range(6))
    assert monotonous_traces({"docs/x.md": f"```console\n{steps}```\n"})
    assert not monotonous_traces({"docs/x.md": steps[: len(steps) // 2]})
