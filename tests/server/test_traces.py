"""What a step did, as the playground is told: the same text, chances that are chances, sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from foredraft.server.traces import source_of
from tests.server.house import Served, serving

PROMPT = "Once upon a time there was a dog. Once upon a time there was a"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(allows_trace=True) as one:
        yield one


def traces(served: Served, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    asked = {"prompt": PROMPT, "max_tokens": 40, "seed": 3} | body
    answer = served.post("/v1/completions", **asked, trace=True).json()
    without = served.post("/v1/completions", **asked).json()
    # Hybrids weigh times, so that under sampling their drafts and coins differ from run to run.
    if "hybrid" not in body.get("drafting", "") or "coupled" in body.get("verifier", ""):
        assert answer["choices"] == without["choices"], "who looks changes nothing"
    return answer, answer["trace"][0]


@pytest.mark.parametrize("verifier", ["coupled", "rejection", "block", "exact_match"])
@pytest.mark.parametrize("temperature", [0, 0.9])
@pytest.mark.parametrize("drafting", ["model", "suffix", "hybrid(suffix, model)"])
def test_steps_say_what_they_did(
    served: Served, verifier: str, temperature: float, drafting: str
) -> None:
    answer, steps = traces(served, verifier=verifier, temperature=temperature, drafting=drafting)
    told = answer["metrics"]["speculative_decoding"]
    tokens = [token for step in steps for token in step["tokens"]]
    assert len(tokens) == answer["usage"]["completion_tokens"]
    kept = [token for token in tokens if token["kind"] == "accepted"]
    assert len(kept) == told["num_accepted_draft_tokens"]
    position = answer["usage"]["prompt_tokens"]
    for number, step in enumerate(steps, start=1):
        assert step["step"] == number
        assert step["position"] == position
        position += len(step["tokens"])
        assert step["num_written"] - step["num_rolled_back"] == len(step["tokens"])
        for token in (*step["tokens"], *step["rejected"]):
            assert all(0 <= token[key] <= 1 for key in ("p", "q", "coin") if key in token)
        bars = step["bars"]
        assert sum(bar["p"] for bar in bars["tokens"]) <= 1 + 1e-4
        if bars["overlap"] is not None:
            assert -1e-6 <= bars["overlap"] <= 1 + 1e-4
    assert any(step["rejected"] for step in steps) or temperature == 0
    if verifier == "rejection" and temperature:
        for token in [t for step in steps for t in step["tokens"] if t["kind"] == "accepted"]:
            assert token["coin"] < token["p"] / token["q"]
        for first in [step["rejected"][0] for step in steps if step["rejected"]]:
            assert first["coin"] >= first["p"] / first["q"]


def test_plain_steps_have_nothing_drafted(served: Served) -> None:
    _, steps = traces(served, speculative=False)
    assert {token["kind"] for step in steps for token in step["tokens"]} == {"plain"}
    assert all(step["source"] is None and not step["rejected"] for step in steps)


def test_copies_name_their_source(served: Served) -> None:
    ids = served.post("/tokenize", prompt=PROMPT).json()["tokens"]
    answer, steps = traces(served, temperature=0, drafting="suffix")
    said = [token["id"] for step in steps for token in step["tokens"]]
    assert answer["usage"]["prompt_tokens"] == len(ids)
    found = 0
    for step in steps:
        source = step["source"]
        if source is None:
            continue
        found += 1
        whole = [*ids, *said[: step["position"] - len(ids)]]
        drafted = [t["id"] for t in step["tokens"] if t["kind"] == "accepted"]
        drafted += [t["id"] for t in step["rejected"]]
        copied = whole[source["begin"] : source["begin"] + source["length"]]
        assert copied == drafted[: len(copied)]
        matched = source["matched"]
        assert whole[source["begin"] - matched : source["begin"]] == whole[len(whole) - matched :]
    assert found


def test_the_source_is_the_newest_place_with_the_longest_match() -> None:
    assert source_of([1, 2, 3, 9, 2, 3, 8, 1, 2], [3]) == (2, 2)
    assert source_of([5, 6, 7, 6], [7]) == (2, 1)
    assert source_of([1, 2, 1, 2, 1], [2, 1]) == (3, 3)
    assert source_of([1, 2, 1, 2], [1, 2, 1, 2]) == (2, 2), "it goes on in itself"
    assert source_of([1, 2, 3], [9]) is None
    assert source_of([], [1]) is None
