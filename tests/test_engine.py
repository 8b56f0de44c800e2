"""Engine: the same text from every method, streamed whole, stopped in time, compared honestly."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from foredraft.cli.session import check_request
from foredraft.config import METHODS, DecodingConfig
from foredraft.core import FinishReason
from foredraft.decoding import Difference
from foredraft.engine import Engine
from foredraft.errors import ConfigError, ContextOverflow, ForedraftError, RequestError
from foredraft.loading import LoadedModel
from foredraft.models import DecoderOnlyModel, Network, TableModel
from foredraft.results import result_dict
from tests.tiny import MAX_LENGTH, TEXT_VOCAB, build, full_logits, tokenizer

PROMPT = "The dog"
SENTENCE = " does not mind; the fox jumps over the wide garden wall and naïve ☃ too."
CONFIG = DecodingConfig(seed=42, length=30)
LOSSLESS = ("speculative", "ngram", "target")
every_method = pytest.mark.parametrize("method", METHODS)
lossless_methods = pytest.mark.parametrize("method", LOSSLESS)


def loaded(model: Network, eos: tuple[int, ...] = ()) -> LoadedModel:
    return LoadedModel("tiny", model, tokenizer(), eos)


def network(seed: int) -> LoadedModel:
    return loaded(DecoderOnlyModel(build("llama", seed, vocab_size=TEXT_VOCAB)))


@pytest.fixture
def engine() -> Engine:
    """Two random networks: their texts are garbage bytes, their drafts mostly wrong."""
    return Engine(network(0), network(1))


def script(tokens: list[int], wrong_every: int = 0) -> TableModel:
    """A model that says `tokens` after `PROMPT`, with a mistake in every n-th place."""
    begin = len(tokenizer()(PROMPT)["input_ids"])

    def row(held: tuple[int, ...]) -> list[float]:
        place = max(len(held) - begin, 0)
        token = tokens[place % len(tokens)]
        if wrong_every and place % wrong_every == wrong_every - 1:
            token = 7
        return [float(t == token) for t in range(TEXT_VOCAB)]

    return TableModel(row)


def speaker(text: str = SENTENCE, eos: tuple[int, ...] = ()) -> Engine:
    """An engine whose target says a known text, and whose drafter errs in every fourth place."""
    tokens = tokenizer()(text, add_special_tokens=False)["input_ids"]
    return Engine(loaded(script([*tokens, *eos]), eos), loaded(script([*tokens, *eos], 4)))


@every_method
@pytest.mark.parametrize("cache", [True, False])
def test_the_streamed_pieces_are_the_text(engine: Engine, method: str, cache: bool) -> None:
    for prompt in (PROMPT, "naïve ☃", "1 2 3"):
        generation = engine.stream(prompt, CONFIG.replace(cache=cache), method=method)
        chunks = list(generation)
        done = generation.completion
        assert "".join(chunk.text for chunk in chunks) == done.text
        assert [chunk.record for chunk in chunks] == list(done.records)
        assert [t for chunk in chunks for t in chunk.record.emitted] == done.tokens
        assert generation.tokens == done.tokens
        assert (done.method, done.seed) == (method, CONFIG.seed)
        assert (len(done.tokens), done.finish_reason) == (30, FinishReason.LENGTH)


@lossless_methods
@pytest.mark.parametrize("end", ["<|eos|>", "!"])
def test_a_known_text_is_said_without_its_end_token(end: str, method: str) -> None:
    eos = tokenizer().get_vocab()[end]
    done = speaker(eos=(eos,)).generate(PROMPT, CONFIG.replace(length=200), method=method)
    assert done.text == SENTENCE
    assert done.finish_reason is FinishReason.EOS
    assert done.tokens[-1] == eos


@pytest.mark.parametrize("changes", [{}, {"cache": False}, {"egag": True}, {"first_target": False}])
def test_every_lossless_method_gives_the_same_tokens(
    engine: Engine, changes: dict[str, Any]
) -> None:
    config = CONFIG.replace(**changes)
    texts = [engine.generate(PROMPT, config, method=m).tokens for m in LOSSLESS]
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("sampler", ["multinomial", "nucleus(temperature=1.3, top_p=0.9)"])
@pytest.mark.parametrize("changes", [{}, {"cache": False}, {"egag": True}, {"gamma": 7}])
def test_coupled_every_method_gives_the_same_sampled_tokens(
    engine: Engine, changes: dict[str, Any], sampler: str
) -> None:
    for seed in (7, 8):
        config = CONFIG.replace(verifier="coupled", sampler=sampler, seed=seed)
        plain = engine.generate(PROMPT, config, method="target").tokens
        for method in LOSSLESS:
            config = config.replace(**changes)
            assert engine.generate(PROMPT, config, method=method).tokens == plain


def test_drafter_is_the_draft_model_alone(engine: Engine) -> None:
    alone = Engine(network(1)).generate(PROMPT, CONFIG, method="target")
    assert engine.generate(PROMPT, CONFIG, method="drafter").tokens == alone.tokens


STOPS = [("fox",), (" over the wide",), ("zebra", "ï"), ("garden", "the"), ("☃",), ("mind; t",)]


@pytest.mark.parametrize("stop", STOPS, ids=" or ".join)
def test_a_stop_string_cuts_the_text_alike_in_every_method(stop: tuple[str, ...]) -> None:
    config = CONFIG.replace(length=200, stop=stop)
    expected = SENTENCE[: min(SENTENCE.find(s) for s in stop if s in SENTENCE)]
    ends = []
    for method in LOSSLESS:
        generation = speaker().stream(PROMPT, config, method=method)
        pieces = [chunk.text for chunk in generation]
        done = generation.completion
        assert done.text == expected == "".join(pieces)
        assert done.finish_reason is FinishReason.STOP
        ends.append(done.tokens)
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("changes", [{}, {"stop": ("garden",)}, {"length": 7}])
def test_trap_all_methods_count_the_same_tokens(changes: dict[str, Any]) -> None:
    # End token, stop string and limit included or not, but alike on both sides of a ratio.
    config = CONFIG.replace(**{"length": 200} | changes)
    for result in speaker(eos=(1,)).compare(PROMPT, config, LOSSLESS):
        assert result.summary.num_emitted_tokens == len(result.completion.tokens)
        plain = speaker(eos=(1,)).generate(PROMPT, config, method="target")
        assert result.completion.tokens == plain.tokens


@lossless_methods
def test_a_stop_string_that_never_comes_changes_nothing(method: str) -> None:
    config = CONFIG.replace(length=200)
    plain = speaker(eos=(1,)).generate(PROMPT, config, method=method)
    stopped = speaker(eos=(1,)).generate(
        PROMPT, config.replace(stop=("zebra", "garden walls")), method=method
    )
    assert (stopped.text, stopped.tokens) == (plain.text, plain.tokens)
    assert stopped.finish_reason is FinishReason.EOS


@lossless_methods
def test_an_abandoned_generation_does_no_harm(engine: Engine, method: str) -> None:
    expected = Engine(network(0), network(1)).generate(PROMPT, CONFIG, method=method)
    abandoned = engine.stream("A house by the sea", CONFIG.replace(gamma=6))
    for _ in zip(range(3), abandoned, strict=False):
        pass
    assert 3 <= len(abandoned.tokens) < 30
    assert engine.generate(PROMPT, CONFIG, method=method).tokens == expected.tokens


def test_a_newer_generation_leaves_the_older_one_alone(engine: Engine) -> None:
    expected = engine.generate(PROMPT, CONFIG).tokens
    older = engine.stream(PROMPT, CONFIG)
    next(iter(older))
    newer = engine.stream("A house", CONFIG)
    assert len(newer.completion.tokens) == 30
    assert older.completion.tokens == expected


def test_sampling_depends_on_the_seed_alone(engine: Engine) -> None:
    config = CONFIG.replace(sampler="multinomial(temperature=1.0)", seed=42)
    for method in METHODS:
        first = engine.generate(PROMPT, config, method=method).tokens
        assert engine.generate(PROMPT, config, method=method).tokens == first
        assert engine.generate(PROMPT, config.replace(seed=7), method=method).tokens != first


def test_compare_finds_the_methods_equal_and_measures_them(engine: Engine) -> None:
    results = engine.compare(PROMPT, CONFIG.replace(drafter=True))
    assert [r.completion.method for r in results] == list(METHODS)
    matches = {r.completion.method: r.matches_baseline for r in results}
    assert matches == {"speculative": True, "ngram": True, "target": True, "drafter": None}
    assert all(r.speedup is not None and r.speedup > 0 for r in results)
    assert next(r.speedup for r in results if r.completion.method == "target") == 1.0


def test_compare_runs_the_methods_asked_for(engine: Engine) -> None:
    (result,) = engine.compare(PROMPT, CONFIG, ["ngram"])
    assert result.completion.method == "ngram"
    assert (result.speedup, result.matches_baseline) == (None, None)


def test_compare_claims_no_equality_under_sampling(engine: Engine) -> None:
    results = engine.compare(PROMPT, CONFIG.replace(sampler="multinomial"))
    assert [r.matches_baseline for r in results] == [None, None, None]


def test_a_differing_token_is_reported_with_its_place_and_margin(engine: Engine) -> None:
    baseline = engine.generate(PROMPT, CONFIG, method="target")
    wrong = (baseline.tokens[3] + 1) % TEXT_VOCAB
    tokens = [*baseline.tokens[:3], wrong, *baseline.tokens[4:]]
    broken = replace(baseline, method="speculative", tokens=tokens)
    found = engine.results([broken, baseline], PROMPT, CONFIG)[0].matches_baseline
    prompt = tokenizer()(PROMPT)["input_ids"]
    row = full_logits(build("llama", vocab_size=TEXT_VOCAB), prompt + baseline.tokens[:3])[-1]
    assert isinstance(found, Difference)
    assert found.position == 3
    assert found.logit_margin == pytest.approx(
        float(row[baseline.tokens[3]] - row[wrong]), abs=1e-4
    )


@pytest.mark.parametrize("kept", [0, 5])
def test_a_missing_token_is_reported_without_a_margin(engine: Engine, kept: int) -> None:
    baseline = engine.generate(PROMPT, CONFIG, method="target")
    short = replace(baseline, method="ngram", tokens=baseline.tokens[:kept])
    found = engine.results([short, baseline], PROMPT, CONFIG)[0].matches_baseline
    assert found == Difference(kept, None, 0.0)


def test_results_are_json(engine: Engine) -> None:
    results = engine.compare(PROMPT, CONFIG)
    results.append(replace(results[0], matches_baseline=Difference(2, 0.5, 0.1)))
    objects = json.loads(json.dumps([result_dict(r) for r in results]))
    assert [o["matches_baseline"] for o in objects[:3]] == [True, True, True]
    assert objects[3]["matches_baseline"] == {
        "position": 2,
        "logit_margin": 0.5,
        "near_tie_below": 0.1,
        "is_near_tie": False,
    }
    assert objects[0]["tokens"] == results[0].completion.tokens
    assert objects[0]["finish_reason"] == "length"


def test_the_chat_template_wraps_the_prompt() -> None:
    heard: list[tuple[int, ...]] = []

    def row(held: tuple[int, ...]) -> list[float]:
        heard.append(held)
        return [1.0] + [0.0] * (TEXT_VOCAB - 1)

    engine = Engine(loaded(TableModel(row)))
    engine.generate(PROMPT, CONFIG.replace(chat=True, length=1), method="target")
    assert tokenizer().decode(heard[-1]) == f"<|bos|><|user|>{PROMPT}<|assistant|>"


def test_chat_without_a_template_is_refused(engine: Engine) -> None:
    mute = copy.deepcopy(tokenizer())
    mute.chat_template = None
    quiet = Engine(replace(engine.target, tokenizer=mute))
    with pytest.raises(ConfigError, match="no chat template"):
        quiet.stream(PROMPT, CONFIG.replace(chat=True), method="target")


def accepted_by_ngram(engine: Engine, **changes: Any) -> int:
    config = CONFIG.replace(stop_if_unknown=True, top_k_filler=1, **changes)
    done = engine.generate(PROMPT, config, method="ngram")
    return sum(record.num_accepted for record in done.records)


def test_the_ngram_storage_is_kept_only_when_it_is_not_reset_in_between(engine: Engine) -> None:
    fresh = accepted_by_ngram(engine, reset_in_between=True)
    assert accepted_by_ngram(engine, reset_in_between=True) == fresh
    kept = Engine(engine.target)
    assert accepted_by_ngram(kept, reset_in_between=False) == fresh
    assert accepted_by_ngram(kept, reset_in_between=False) > fresh


@pytest.mark.parametrize("changes", [{"ngram_order": 2}, {"ngramstorage": "onelevel"}])
def test_another_kind_of_storage_begins_empty(engine: Engine, changes: dict[str, Any]) -> None:
    fresh = accepted_by_ngram(engine, reset_in_between=False)
    other = accepted_by_ngram(engine, reset_in_between=False, **changes)
    assert other == accepted_by_ngram(Engine(engine.target), reset_in_between=True, **changes)
    assert accepted_by_ngram(engine, reset_in_between=False) == fresh


REFUSED: dict[str, tuple[Callable[[Engine], Any], type[ForedraftError], str]] = {
    "method": (lambda e: e.stream(PROMPT, method="ngrams"), ConfigError, "did you mean 'ngram'"),
    "empty": (lambda e: e.stream(" \n"), RequestError, "empty"),
    "control": (lambda e: e.stream("a\x00b"), RequestError, r"U\+0000"),
    "surrogate": (lambda e: e.stream("a\ud800"), RequestError, r"U\+D800"),
    "long": (lambda e: e.stream("9" * MAX_LENGTH), ContextOverflow, f"{MAX_LENGTH} positions"),
    "no_drafter": (lambda e: Engine(e.target).stream(PROMPT), ConfigError, "needs a draft model"),
    "drafter": (
        lambda e: Engine(e.target).stream(PROMPT, method="drafter"),
        ConfigError,
        "needs a draft model",
    ),
}


@pytest.mark.parametrize(("ask", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused_before_anything_is_computed(
    engine: Engine, ask: Callable[[Engine], Any], kind: type[ForedraftError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        ask(engine)


def test_a_request_is_checked_for_every_method_that_is_switched_on(engine: Engine) -> None:
    check_request(engine, PROMPT, CONFIG)
    alone = Engine(engine.target)
    check_request(alone, PROMPT, CONFIG.replace(speculative=False))
    with pytest.raises(ConfigError, match="draft model"):
        check_request(alone, PROMPT, CONFIG)
    with pytest.raises(RequestError, match="every method is switched off"):
        check_request(engine, PROMPT, CONFIG.replace(speculative=False, ngram=False, target=False))


def test_a_prompt_too_long_for_the_drafter_is_decoded_plainly(engine: Engine) -> None:
    short = DecoderOnlyModel(build("llama", 1, vocab_size=TEXT_VOCAB, max_position_embeddings=8))
    pair, prompt = Engine(engine.target, loaded(short)), "1 2 3 4 5 6 7 8 9"
    check_request(pair, prompt, CONFIG)
    done = pair.generate(prompt, CONFIG)
    assert all(record.drafted == [] for record in done.records)
    assert done.tokens == engine.generate(prompt, CONFIG, method="target").tokens
    with pytest.raises(ContextOverflow, match="8 positions"):
        check_request(pair, prompt, CONFIG.replace(drafter=True))


def test_a_warmed_up_engine_gives_the_same_text(engine: Engine) -> None:
    cold = engine.generate(PROMPT, CONFIG).tokens
    engine.warm_up()
    assert engine.generate(PROMPT, CONFIG).tokens == cold
