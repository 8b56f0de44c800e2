"""What `benchmarks/egag.py` makes of generations, and what the documents say of it."""

from __future__ import annotations

from typing import Any

import egag
import pytest

from docs.site import adaptive as told
from foredraft.core import StepRecord

PROMPTS = [f"p{i}" for i in range(8)]


def played(speed: float, entropy: float | None = None) -> egag.Played:
    """Return generations of two rounds on every prompt; three of four drafted tokens are kept."""
    one = egag.Played()
    for i, prompt in enumerate(PROMPTS):
        one.speeds[prompt] = speed * (1 + i / 100)
        one.texts.append([1, 2, 3, 4])
        one.records += [
            StepRecord([1, 2, 3, 9], 3, [1, 2, 3, 4], 0.1, 0.2, 4, normalized_entropy=entropy)
        ] * 2
    return one


def found() -> dict[str, Any]:
    """Return a results file: every fixed length twice as quick as plain decoding, EGAG half."""
    plain, baseline = played(10.0), played(20.0)
    speeds = {egag.PLAIN: plain, egag.EGAG: played(5.0, 0.5)}
    methods = {name: speeds.get(name, baseline).figures(plain, baseline) for name in egag.METHODS}
    samplers = {name: {"methods": methods, "unequal": []} for name in egag.SAMPLERS}
    setting = {"target": "t", "drafter": "d", "prompts": len(PROMPTS), "length": 4}
    return {"machine": {"processor": "p"}, "setting": setting, "samplers": samplers}


def test_figures_are_ratios_on_the_same_prompts_and_counts_of_all_rounds() -> None:
    methods = found()["samplers"]["greedy"]["methods"]
    one = methods[egag.EGAG]
    assert one["speed / plain"]["median"] == pytest.approx(0.5)
    assert one[f"speed / {egag.BASELINE}"]["median"] == pytest.approx(0.25)
    assert one["speed / plain"]["word"] == "slower"
    assert (one["tokens a step"], one["mean_gamma"], one["acceptance_rate"]) == (4, 4, 0.75)
    assert one["draft calls a step"] == 4
    assert one["entropy"] == [0.5] * 3
    assert methods[egag.PLAIN]["entropy"] is None


def test_the_table_has_a_row_for_every_method_and_sampler() -> None:
    text = egag.rendered(found())
    assert all(text.count(f" {name} ") >= len(egag.SAMPLERS) for name in egag.METHODS)
    assert "Methods whose greedy texts are not plain decoding's: none" in text


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_documents_call_the_methods_as_the_script_does(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "results", lambda file: found())
    text = told.real(language)
    assert (told.IN_REAL, told.BASELINE) == (egag.EGAG, egag.BASELINE)
    slower = {"zh": "更慢", "en": "slower"}[language]
    assert text.count(slower) == 2 * len(egag.SAMPLERS)
    assert "0.25" in text
    assert "0.50" in text
    assert {"zh": "3 到 3 个 token", "en": "3 to 3 tokens"}[language] in text


def test_a_measurement_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "results", lambda file: None)
    for block in told.BLOCKS.values():
        assert "Not measured yet" in block("en")
