"""Controls on a real model, where it has been fetched: `pytest -m real`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from foredraft import DecodingConfig, Engine, FinishReason, summarize
from tests.real_files import real_file

pytestmark = pytest.mark.real
SCHEMA = (Path(__file__).parents[2] / "examples" / "recipe.schema.json").read_text("utf-8")
DISHES = ("pancakes", "tomato soup", "lemonade")
CONFIG = DecodingConfig(length=600, chat=True, seed=3, json_schema=SCHEMA)


@cache
def engine() -> Engine:
    real_file("smollm2")  # skips where it is missing
    return Engine.load("smollm2", None)


@pytest.mark.parametrize("dish", DISHES)
@pytest.mark.parametrize("sampler", ["greedy", "nucleus(temperature=0.8, top_p=0.9)"])
def test_recipes_are_valid_from_every_method_and_under_greedy_the_same(
    dish: str, sampler: str
) -> None:
    texts = set()
    for drafting in ("suffix", "ngram", "auto", "hybrid(suffix, plain)", "prompt_lookup"):
        for gamma in (2, 8, 48):
            config = CONFIG.replace(sampler=sampler, drafting=drafting, gamma=gamma)
            done = engine().generate(f"Give me a recipe for {dish}.", config)
            assert done.finish_reason is FinishReason.EOS
            assert json.loads(done.text).keys() == {"title", "servings", "ingredients", "steps"}
            texts.add(done.text)
            free = summarize(done.records).free_token_share
            assert free is not None
            assert free > 0.1
    plain = engine().generate(f"Give me a recipe for {dish}.", CONFIG, method="target")
    if sampler == "greedy":
        assert texts == {plain.text}


def test_a_predicted_answer_costs_few_passes() -> None:
    prompt = "Explain to a ten year old why the sky is blue."
    config = DecodingConfig(length=128, chat=True, gamma=16, drafting="suffix")
    plain = engine().generate(prompt, config, method="target")
    done = engine().generate(prompt, config.replace(prediction=plain.text))
    assert done.text == plain.text
    assert summarize(done.records).num_target_calls < len(plain.tokens) / 6
