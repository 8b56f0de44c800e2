"""A text's memory is its own: engines and functions may share networks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from foredraft import functional
from foredraft.drafting import STORAGES, NGramStorage
from foredraft.engine import Engine
from foredraft.models import Network
from foredraft.native.network import NativeModel
from foredraft.seq2seq import autoregressive_generate_encoder_decoder
from tests.kinds.test_F1_one_owner import CONFIG, PROMPTS, in_threads, pair, runtimes
from tests.tiny import TEXT_VOCAB, build, fit_target


@runtimes
def test_engines_that_share_models_crosswise_neither_err_nor_wait_for_ever(runtime: str) -> None:
    one, other = pair(runtime)
    engines = [Engine(one, other), Engine(other, one), Engine(one, one), Engine(other)]
    expected = [
        Engine(*pair(runtime)).generate(PROMPTS[0], CONFIG, method="target").tokens,
        Engine(*pair(runtime)[::-1]).generate(PROMPTS[0], CONFIG, method="target").tokens,
    ]

    def work(number: int) -> None:
        which = number % len(engines)
        method = "ngram" if which > 1 else "speculative"
        for _ in range(3):
            tokens = engines[which].generate(PROMPTS[0], CONFIG, method=method).tokens
            assert tokens == expected[which % 2]

    in_threads(work)


USES: dict[str, Callable[[Engine], object]] = {
    "generate": lambda engine: engine.generate(PROMPTS[1], CONFIG),
    "another engine": lambda engine: Engine(engine.target).generate(
        PROMPTS[1], CONFIG, method="target"
    ),
    "function": lambda engine: functional.autoregressive_generate([3, 4], engine.target.model),
    "beams": lambda engine: functional.beam_search_generate([3, 4], engine.target.model),
    "drafter": lambda engine: functional.autoregressive_generate([3], engine.networks[1]),
    "by hand": lambda engine: engine.target.model.open([3, 4]).extend([3, 4]),
}


@runtimes
@pytest.mark.parametrize("use", USES)
def test_whatever_uses_a_network_leaves_its_streams_alone(use: str, runtime: str) -> None:
    engine = Engine(*pair(runtime))
    stream = engine.stream(PROMPTS[0], CONFIG)
    chunks = iter(stream)
    next(chunks)
    USES[use](engine)
    assert stream.completion.tokens == Engine(*pair(runtime)).generate(PROMPTS[0], CONFIG).tokens


def test_a_network_may_draft_for_itself() -> None:
    model = pair("torch")[0].model
    plain = functional.autoregressive_generate([5, 6, 7], model, max_gen_len=12)
    said, rate = functional.speculative_generate([5, 6, 7], model, model, max_gen_len=12)
    assert (said, rate) == (plain, 1.0)


FUNCTIONS: dict[str, Callable[[Network, Network, list[int]], object]] = {
    "plain": lambda x, y, ids: functional.autoregressive_generate(ids, x, max_gen_len=8),
    "speculative": lambda x, y, ids: functional.speculative_generate(ids, y, x, max_gen_len=8)[0],
    "crosswise": lambda x, y, ids: functional.speculative_generate(ids, x, y, max_gen_len=8)[0],
    "by name": lambda x, y, ids: functional.speculative_generate(
        inputs=ids, drafter=y, target=x, max_gen_len=8, use_cache=False
    )[0],
    "ngram": lambda x, y, ids: functional.ngram_assisted_speculative_generate(
        ids, NGramStorage(3, TEXT_VOCAB), x, max_gen_len=8
    )[0],
    "beams": lambda x, y, ids: functional.beam_search_generate(ids, x, max_gen_len=8),
}


@runtimes
def test_the_functions_on_shared_adapters(runtime: str) -> None:
    one, other = (part.model for part in pair(runtime))
    prompts = [[5, 6, 7], [8, 9], [20, 3, 4, 5, 6]]
    expected = {
        (name, i): call(one, other, prompt)
        for name, call in FUNCTIONS.items()
        for i, prompt in enumerate(prompts)
    }

    def work(number: int) -> None:
        source = random.Random(number)
        for _ in range(4):
            key = (source.choice(list(FUNCTIONS)), source.randrange(len(prompts)))
            assert FUNCTIONS[key[0]](one, other, prompts[key[1]]) == expected[key], key

    in_threads(work)


def test_an_adapter_with_an_encoder_is_shared_too() -> None:
    model = fit_target(build("t5"))
    prompts = [[5, 6, 7], [8, 9], [20, 3, 4, 5, 6]]
    expected = [autoregressive_generate_encoder_decoder(p, model, max_gen_len=6) for p in prompts]

    def work(number: int) -> None:
        for i in range(3):
            which = (number + i) % len(prompts)
            tokens = autoregressive_generate_encoder_decoder(prompts[which], model, max_gen_len=6)
            assert tokens == expected[which]

    in_threads(work)


@pytest.mark.parametrize("storage", list(STORAGES))
def test_a_storage_is_counted_into_by_one_thread_at_a_time(storage: str) -> None:
    shared = STORAGES[storage](3, TEXT_VOCAB)
    inside, met = [0], [0]
    counted = shared.update

    def update(context: Any, token: int) -> None:
        inside[0] += 1
        met[0] = max(met[0], inside[0])
        counted(context, token)
        inside[0] -= 1

    shared.update = update  # type: ignore[method-assign]

    def work(number: int) -> None:
        target = NativeModel(build("llama", vocab_size=TEXT_VOCAB))  # of its own
        functional.ngram_assisted_speculative_generate([3, 4, 5], shared, target, max_gen_len=12)

    in_threads(work)
    assert met == [1]
