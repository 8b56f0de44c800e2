"""Continuations of one prompt: the texts of successive seeds, and the prompt is read once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from torch import Tensor

from foredraft.config import METHODS, DecodingConfig
from foredraft.core import Completion
from foredraft.engine import MOST_TEXTS, Engine
from foredraft.loading import LoadedModel, fit_target
from foredraft.models import Context, DecoderOnlyModel, Network
from foredraft.models.wrapper import Wrapper
from foredraft.ranges import NUM_SEEDS
from foredraft.verification import VERIFIERS
from tests.tiny import TEXT_VOCAB, build, noisy, tokenizer

PROMPT = "The quick brown fox jumps over the lazy dog."
GREEDY, SAMPLED = "greedy", "nucleus(temperature=1.3, top_p=0.95)"
samplers = pytest.mark.parametrize("sampler", [GREEDY, SAMPLED])


class Counted(Wrapper):
    """A network that remembers how many tokens each of its passes was fed."""

    fed: list[int]

    def open(self, prompt: Any) -> Context:
        self.fed = []
        return super().open(prompt)

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        self.fed.append(len(tokens))
        return super().logits(context, tokens, keep)


def loaded(network: Network) -> LoadedModel:
    return LoadedModel("tiny", network, tokenizer(), ())


@cache
def engine(kind: str = "llama") -> Engine:
    target, drafter = build(kind, vocab_size=TEXT_VOCAB), noisy(kind, vocab_size=TEXT_VOCAB)
    return Engine(loaded(fit_target(target)), loaded(fit_target(drafter)))


def config_of(**settings: Any) -> DecodingConfig:
    return DecodingConfig(**{"length": 14, "seed": 11, "n": 4, **settings})


def said(done: Completion) -> tuple[list[int], str, object, int]:
    return done.tokens, done.text, done.finish_reason, done.seed


def check(kind: str, config: DecodingConfig, method: str) -> list[Completion]:
    """Compare with what `generate` gives for each seed."""
    together = engine(kind).continuations(PROMPT, config, method=method)
    assert len(together) == config.n
    for i, done in enumerate(together):
        assert config.seed is not None
        alone = config.replace(seed=config.seed + i, n=1)
        assert said(done) == said(engine(kind).generate(PROMPT, alone, method=method)), i
    return together


@samplers
@pytest.mark.parametrize("verifier", VERIFIERS.names)
@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_each_is_the_text_of_its_own_seed(kind: str, verifier: str, sampler: str) -> None:
    for method in METHODS:
        together = check(kind, config_of(verifier=verifier, sampler=sampler), method)
        texts = {tuple(done.tokens) for done in together}
        assert len(texts) == (1 if sampler == GREEDY else 4)


@samplers
@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_so_it_is_without_a_cache_and_under_controls(kind: str, sampler: str) -> None:
    penalties = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "frequency_penalty": 0.3}
    for settings in ({"cache": False}, penalties, {"regex": "[a-z ]{9}[a-z ]*"}):
        for method in ("target", "speculative", "ngram"):
            check(kind, config_of(sampler=sampler, **settings), method)


def test_there_may_be_more_than_a_pass_takes() -> None:
    check("llama", config_of(sampler=SAMPLED, n=MOST_TEXTS + 2, length=4), "speculative")


@pytest.mark.parametrize("method", ["target", "speculative", "ngram"])
def test_the_target_reads_the_prompt_once(method: str) -> None:
    target = Counted(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB)))
    counted = Engine(loaded(target), engine().drafter)
    length = len(counted.encode(PROMPT))
    config = config_of(sampler=SAMPLED, gamma=3)
    counted.continuations(PROMPT, config, method=method)
    assert max(target.fed[1:]) <= 4, "a draft and a token"
    assert target.fed[0] == length - 1
    assert target.fed[1:5] == [1] * 4, "each of the four begins behind the prompt"


def test_a_single_one_reads_the_prompt_in_its_first_step() -> None:
    target = Counted(DecoderOnlyModel(build("llama", vocab_size=TEXT_VOCAB)))
    counted = Engine(loaded(target))
    counted.continuations(PROMPT, config_of(n=1), method="target")
    assert target.fed[0] == len(counted.encode(PROMPT))


def test_behind_the_last_seed_comes_the_first() -> None:
    config = config_of(sampler=SAMPLED, seed=NUM_SEEDS - 2, length=6)
    together = engine().continuations(PROMPT, config)
    assert [done.seed for done in together] == [NUM_SEEDS - 2, NUM_SEEDS - 1, 0, 1]
    for done in together:
        alone = engine().generate(PROMPT, config.replace(seed=done.seed, n=1))
        assert alone.tokens == done.tokens
