"""Invariant passes: in bfloat16, greedy and coupled text is the same with and without drafts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from foredraft import DecodingConfig, Engine, LoadOptions
from foredraft.bench.prompt_sets import load_prompts

SENTENCES = Path(__file__).parents[1] / "benchmarks" / "sentences.txt"
GREEDY = DecodingConfig(length=100, seed=42)
COUPLED = GREEDY.replace(verifier="coupled", sampler="multinomial(temperature=0.8)")
SPECULATIVE = (
    {"gamma": 4},
    {"gamma": 7, "first_target": False},
    {"policy": "cost_aware", "drafting": "hybrid(suffix, model)"},
)


@cache
def engine() -> Engine:
    return Engine.load(options=LoadOptions(device="cpu", dtype="bfloat16", invariant=True))


def prompts() -> list[str]:
    """Return two hundred: those of the benchmarks, and French sentences to translate."""
    ours = [item.prompt for item in load_prompts()]
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    return (ours + [f"Translate to English: {s}" for s in sentences])[:200]


def assert_same_text(config: DecodingConfig, texts: list[str]) -> None:
    for i, text in enumerate(texts):
        plain = engine().generate(text, config, method="target").tokens
        settings = SPECULATIVE[i % len(SPECULATIVE)]
        ours = engine().generate(text, config.replace(**settings), method="speculative").tokens
        assert ours == plain, (text, settings)
        assert engine().generate(text, config, method="ngram").tokens == plain, text


@pytest.mark.parametrize("config", [GREEDY, COUPLED], ids=["greedy", "coupled"])
def test_a_few_texts_are_equal_to_the_token(config: DecodingConfig) -> None:
    assert_same_text(config.replace(length=40), prompts()[:60:5])


@pytest.mark.slow
@pytest.mark.parametrize("config", [GREEDY, COUPLED], ids=["greedy", "coupled"])
def test_two_hundred_texts_of_a_hundred_tokens_are_equal_to_the_token(
    config: DecodingConfig,
) -> None:
    assert len(set(prompts())) == 200
    assert_same_text(config, prompts())
