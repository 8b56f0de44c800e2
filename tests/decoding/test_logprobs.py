"""Log-probabilities: those of a teacher-forced pass without a cache, whoever drafts and judges."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import pytest
import torch

from foredraft.config import METHODS, DecodingConfig
from foredraft.core import FinishReason, PositionLogprobs
from foredraft.drafting import DRAFTERS
from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.models import DecoderOnlyModel
from foredraft.results import logprob_dicts
from foredraft.sampling import ControlledText
from foredraft.verification import VERIFIERS
from tests.sampling.naive_controls import bent
from tests.tiny import TEXT_VOCAB, build, full_logits, noisy, tokenizer

PROMPT = "The quick brown fox jumps"
LENGTH, TOP = 24, 5
CLOSE = 1e-4
GREEDY, SAMPLED = "greedy", "nucleus(temperature=1.3, top_p=0.95)"
CONTROLLED: dict[str, Any] = {
    "repetition_penalty": 1.3,
    "presence_penalty": 0.4,
    "frequency_penalty": 0.7,
    "logit_bias": ("40=2.5", "41=-3"),
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 6,
}
SETTINGS: dict[str, dict[str, Any]] = {"raw": {}, "controlled": CONTROLLED}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
samplers = pytest.mark.parametrize("sampler", [GREEDY, SAMPLED])


@cache
def engine(*ends: int) -> Engine:
    target, drafter = (
        LoadedModel("tiny", DecoderOnlyModel(network), tokenizer(), ends)
        for network in (make("llama", vocab_size=TEXT_VOCAB) for make in (build, noisy))
    )
    return Engine(target, drafter)


def config_of(**settings: Any) -> DecodingConfig:
    return DecodingConfig(**{"length": LENGTH, "seed": 3, "logprobs": TOP, "gamma": 6, **settings})


def check_positions(
    positions: list[PositionLogprobs],
    tokens: list[int],
    config: DecodingConfig,
    ends: tuple[int, ...] = (),
    network: Any = None,
) -> None:
    """Compare with one pass over prompt and output, bent naively."""
    begin = engine(*ends).encode(PROMPT)
    network = network or build("llama", vocab_size=TEXT_VOCAB)
    rows = full_logits(network, [*begin, *tokens])[len(begin) - 1 : -1].double()
    text = ControlledText(begin, frozenset(ends), TEXT_VOCAB)
    assert [position.chosen.token for position in positions] == tokens
    for i, (position, row) in enumerate(zip(positions, rows, strict=True)):
        raw = row.log_softmax(-1).tolist()
        values = bent(config.controls, text, tokens[:i], row.tolist())
        controlled = torch.tensor(values, dtype=torch.float64).log_softmax(-1).tolist()
        assert config.logprobs is not None
        assert len(position.top) == min(config.logprobs, TEXT_VOCAB)
        told = [other.logprob for other in position.top]
        assert told == sorted(told, reverse=True)
        likeliest = sorted(raw, reverse=True)[: len(told)]
        assert told == pytest.approx(likeliest, abs=CLOSE)
        for one in (position.chosen, *position.top):
            assert one.logprob == pytest.approx(raw[one.token], abs=CLOSE)
            assert one.controlled == pytest.approx(controlled[one.token], abs=CLOSE)
        assert math.isfinite(position.chosen.controlled)


@every_setting
@samplers
@pytest.mark.parametrize("verifier", VERIFIERS.names)
@pytest.mark.parametrize(
    "drafting",
    [
        pytest.param(name, marks=() if name in ("model", "suffix", "hybrid") else pytest.mark.slow)
        for name in DRAFTERS.names
    ],
)
def test_they_are_the_targets_own_after_each_prefix(
    drafting: str, verifier: str, sampler: str, settings: dict[str, Any]
) -> None:
    config = config_of(drafting=drafting, verifier=verifier, sampler=sampler, **settings)
    done = engine().generate(PROMPT, config)
    told = [position for record in done.records for position in record.logprobs]
    check_positions(told, done.tokens, config)
    assert all(len(record.logprobs) == len(record.emitted) for record in done.records)


@every_setting
@pytest.mark.parametrize("cache_on", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_so_they_are_of_every_method(method: str, cache_on: bool, settings: dict[str, Any]) -> None:
    config = config_of(cache=cache_on, logprobs=2, **settings)
    done = engine().generate(PROMPT, config, method=method)
    told = [position for record in done.records for position in record.logprobs]
    of_drafter = noisy("llama", vocab_size=TEXT_VOCAB) if method == "drafter" else None
    check_positions(told, done.tokens, config, network=of_drafter)


@every_setting
@samplers
def test_a_text_that_ends_inside_an_accepted_block_has_one_for_each_token(
    sampler: str, settings: dict[str, Any]
) -> None:
    """The draft model is the target: whole blocks are accepted, and cut by an end or a string."""
    free = engine().generate(PROMPT, config_of(sampler=sampler, **settings), method="target").tokens
    for place in (9, 10, 11, 12):
        end = free[place]
        if end in free[:place]:
            continue
        target = engine(end).target
        cut = Engine(target, target)
        config = config_of(sampler=sampler, verifier="coupled", **settings)
        done = cut.generate(PROMPT, config)
        told = [position for record in done.records for position in record.logprobs]
        check_positions(told, done.tokens, config, (end,))
        assert len(told) == len(done.tokens)
    config = config_of(sampler=sampler, verifier="coupled", **settings)
    whole = Engine(engine().target, engine().target)
    text = whole.generate(PROMPT, config).text
    stopped = whole.generate(PROMPT, config.replace(stop=(text[8:10],)))
    assert stopped.finish_reason is FinishReason.STOP
    told = [position for record in stopped.records for position in record.logprobs]
    check_positions(told, stopped.tokens, config)


@pytest.mark.parametrize("drafting", DRAFTERS.names)
def test_every_drafter_leaves_them_alone(drafting: str) -> None:
    config = config_of(drafting=drafting, verifier="block", sampler=SAMPLED, **CONTROLLED)
    done = engine().generate(PROMPT, config)
    told = [position for record in done.records for position in record.logprobs]
    check_positions(told, done.tokens, config)


@samplers
def test_streamed_chunks_hold_one_for_each_emitted_token(sampler: str) -> None:
    config = config_of(sampler=sampler, **CONTROLLED)
    generation = engine().stream(PROMPT, config)
    told, tokens = list[PositionLogprobs](), list[int]()
    for chunk in generation:
        assert len(chunk.record.logprobs) == len(chunk.record.emitted)
        told += chunk.record.logprobs
        tokens += chunk.record.emitted
    assert tokens == generation.completion.tokens
    check_positions(told, tokens, config)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_as_many_are_told_as_were_asked_for_and_there_are(count: int) -> None:
    done = engine().generate(PROMPT, config_of(logprobs=count))
    for record in done.records:
        for position in record.logprobs:
            assert len(position.top) == min(count, TEXT_VOCAB)
    check_positions(
        [position for record in done.records for position in record.logprobs],
        done.tokens,
        config_of(logprobs=count),
    )


def test_none_are_told_where_none_are_asked_for() -> None:
    done = engine().generate(PROMPT, config_of(logprobs=None))
    assert all(record.logprobs == () for record in done.records)
    assert logprob_dicts(done.records, engine().decode) == []


def test_what_is_forbidden_is_minus_infinity_and_null_in_json() -> None:
    config = config_of(no_repeat_ngram_size=1, logprobs=TEXT_VOCAB)
    done = engine().generate(PROMPT, config)
    first, *_, last = [position for record in done.records for position in record.logprobs]
    came = {*engine().encode(PROMPT), *done.tokens[:-1]}
    forbidden = {one.token for one in last.top if one.controlled == -math.inf}
    assert forbidden == came
    written = json.loads(json.dumps(logprob_dicts(done.records, engine().decode), allow_nan=False))
    nulls = {one["token"] for one in written[-1]["top"] if one["controlled_logprob"] is None}
    assert nulls == came
    assert len(written) == len(done.tokens)
    assert written[0]["logprob"] == first.chosen.logprob
    assert written[0]["text"] == engine().decode([done.tokens[0]])
    assert all(math.isfinite(one["logprob"]) for one in written[-1]["top"])


def test_without_controls_both_are_one() -> None:
    done = engine().generate(PROMPT, config_of(sampler=SAMPLED))
    for record in done.records:
        for position in record.logprobs:
            assert position.chosen.logprob == position.chosen.controlled
