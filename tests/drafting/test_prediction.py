"""Predictions: a text that resembles them takes few passes, and is the same whatever they say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from foredraft.config import DecodingConfig
from foredraft.core import Completion, Draft, FinishReason
from foredraft.drafting import PredictionDrafter
from foredraft.drafting.base import Beginning
from foredraft.drafting.retrieval import LONGEST_COPY
from foredraft.engine import Engine
from foredraft.gamma import FixedGamma
from foredraft.loading import LoadedModel
from foredraft.models import DecoderOnlyModel, Feed, Output
from foredraft.sampling import Rng
from foredraft.verification import VERIFIERS
from tests.doubles import step
from tests.test_engine import loaded, script
from tests.tiny import TEXT_VOCAB, build, noisy, tokenizer

PROMPT = "The dog"
SENTENCES = (
    " lives in a small house by the sea.",
    " Each morning it walks down to the water and looks for shells.",
    " The old man who keeps the boats gives it a piece of bread.",
    " In the evening both of them sit at the door and watch the ships.",
)
TEXT = "".join(SENTENCES)
INSERTED = f"{SENTENCES[0]} Nobody knows its name.{''.join(SENTENCES[1:])}"
DELETED = "".join(SENTENCES[:1] + SENTENCES[2:])
SUBSTITUTED = TEXT.replace("shells", "crabs").replace("bread", "cheese")
MOVED = "".join((SENTENCES[2], SENTENCES[0], SENTENCES[1], SENTENCES[3]))
EDITED = {"inserted": INSERTED, "deleted": DELETED, "substituted": SUBSTITUTED, "moved": MOVED}
NONSENSE = "qzx 0193 &&& ~~~ {}{}[] QQQQ ||| ^^^ zzzz"
GREEDY, SAMPLED = "greedy", "nucleus(temperature=1.2, top_p=0.95)"
DRAFTING = ("suffix", "ngram", "model", "hybrid(suffix, model)", "bandit(model, suffix)", "plain")


@cache
def speaker() -> Engine:
    """An engine that says `TEXT` and ends; its draft model errs in every third place."""
    tokens = tokenizer()(TEXT, add_special_tokens=False)["input_ids"]
    ends = (1,)
    return Engine(
        loaded(script([*tokens, *ends]), ends), loaded(script([*tokens, *ends], wrong_every=3))
    )


@cache
def tiny() -> Engine:
    target, drafter = (
        LoadedModel("tiny", DecoderOnlyModel(network), tokenizer(), ())
        for network in (make("llama", vocab_size=TEXT_VOCAB) for make in (build, noisy))
    )
    return Engine(target, drafter)


def told(prediction: str | None, **settings: Any) -> Completion:
    method = settings.pop("method", "speculative")
    config = DecodingConfig(
        **{"length": 400, "seed": 2, "gamma": 16, "prediction": prediction, **settings}
    )
    done = speaker().generate(PROMPT, config, method=method)
    assert done.text == TEXT
    assert done.finish_reason is FinishReason.EOS
    return done


@cache
def num_plain() -> int:
    return len(told(None, method="target").records)


@pytest.mark.parametrize("drafting", DRAFTING)
def test_a_text_that_is_foretold_word_for_word_takes_few_passes(drafting: str) -> None:
    done = told(TEXT, drafting=drafting)
    fewest = -(-num_plain() // 17)
    assert len(done.records) <= fewest + 3
    copied = sum(record.num_predicted_accepted for record in done.records)
    assert copied >= 0.9 * len(done.tokens) - fewest - 3


@pytest.mark.parametrize("edit", EDITED)
@pytest.mark.parametrize("drafting", ["plain", "model", "suffix"])
def test_an_edited_text_is_exact_and_takes_fewer_passes(drafting: str, edit: str) -> None:
    without, done = told(None, drafting=drafting), told(EDITED[edit], drafting=drafting)
    assert len(done.records) < 0.6 * len(without.records), (drafting, edit)
    assert len(done.records) < 0.35 * num_plain()


@pytest.mark.parametrize("method", ["speculative", "ngram"])
def test_every_method_drafts_from_it(method: str) -> None:
    done = told(TEXT, method=method)
    assert sum(record.num_predicted_accepted for record in done.records) > 0.7 * len(done.tokens)


def test_auto_weighs_it_among_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    target = speaker().target.model
    forward = target.forward

    def as_slow_as_a_model(feeds: Sequence[Feed]) -> list[Output]:
        time.sleep(1e-2)  # beside passes that take no time even a look is too dear
        return forward(feeds)

    monkeypatch.setattr(target, "forward", as_slow_as_a_model)
    for _ in range(3):  # what copies are worth is learned
        done = told(TEXT, drafting="auto", gamma=48)
    assert sum(record.num_predicted_accepted for record in done.records) > 0


@pytest.mark.parametrize("drafting", ["plain", "model", "suffix", "auto"])
def test_nonsense_changes_nothing_but_cost(drafting: str) -> None:
    done, without = told(NONSENSE, drafting=drafting), told(None, drafting=drafting)
    assert done.tokens == without.tokens
    if drafting != "auto":  # which measures
        assert len(done.records) <= len(without.records) + 2


@pytest.mark.parametrize("verifier", VERIFIERS.names)
def test_whatever_it_says_the_greedy_text_is_that_of_plain_decoding(verifier: str) -> None:
    config = DecodingConfig(length=24, seed=4, gamma=8, verifier=verifier)
    plain = tiny().generate(PROMPT, config, method="target")
    for prediction in (plain.text, plain.text[10:] + plain.text[:10], TEXT, NONSENSE, "a"):
        for drafting in ("model", "suffix", "hybrid(suffix, model)"):
            given = config.replace(prediction=prediction, drafting=drafting)
            assert tiny().generate(PROMPT, given).tokens == plain.tokens


def test_with_coupled_noise_it_changes_no_sampled_text() -> None:
    config = DecodingConfig(length=40, gamma=8, verifier="coupled", sampler=SAMPLED)
    for seed in range(4):
        plain = tiny().generate(PROMPT, config.replace(seed=seed), method="target")
        for prediction in (plain.text, TEXT, NONSENSE):
            given = config.replace(seed=seed, prediction=prediction)
            assert tiny().generate(PROMPT, given).tokens == plain.tokens


# --- what is counted ------------------------------------------------------------------------------


def begun(prediction: list[int]) -> PredictionDrafter:
    drafter = PredictionDrafter()
    drafter.start(Beginning([90, 91], Rng(0), prediction=prediction))
    return drafter


def test_all_of_a_draft_from_the_prediction_is_counted() -> None:
    drafter = begun(list(range(20)))
    draft = drafter.propose([90, 91], 5, FixedGamma(5))
    assert draft.tokens == [0, 1, 2, 3, 4]
    assert draft.num_predicted == 5
    assert drafter.retrieve([90, 91], 1000).tokens == list(range(20))[:LONGEST_COPY]


def test_what_a_model_drafted_before_is_not_counted() -> None:
    draft = Draft([5, 6]).followed_by([7, 8, 9], None, is_predicted=True)
    assert (draft.tokens, draft.num_predicted) == ([5, 6, 7, 8, 9], 3)
    assert Draft([5, 6]).followed_by([7], None).num_predicted == 0
    drafter = begun([4, 5, 6, 7, 8, 9])
    drafter.observe([90, 91, 4], 1, torch.empty(0, 0))
    assert drafter.retrieve([90, 91, 4], 2, [5, 6]).tokens == [7, 8]
    assert drafter.retrieve([90, 91, 4], 2).tokens == [5, 6], "what is drafted is not learned"


@pytest.mark.parametrize(("num_accepted", "expected"), [(0, 0), (2, 0), (3, 1), (5, 3)])
def test_accepted_ones_are_those_behind_the_models(num_accepted: int, expected: int) -> None:
    record = step([5, 6, 7, 8, 9], num_accepted, [1])
    assert replace(record, num_predicted=3).num_predicted_accepted == expected
    assert replace(record, num_predicted=5).num_predicted_accepted == num_accepted
    assert record.num_predicted_accepted == 0


def check_counts(done: Completion) -> None:
    for record in done.records:
        kept = zip(record.drafted, record.emitted, strict=False)
        assert record.num_predicted_accepted == sum(a == b for a, b in kept)
        assert record.num_predicted == len(record.drafted)
    own = sum(record.extra_token is not None for record in done.records)
    total = sum(record.num_predicted_accepted for record in done.records)
    assert total + own == len(done.tokens)


@pytest.mark.parametrize("stop", [(), (" water",), (" ships",), (" small house",)])
def test_what_an_end_cuts_off_is_not_counted(stop: tuple[str, ...]) -> None:
    config = DecodingConfig(length=400, seed=2, gamma=48, drafting="plain", stop=stop)
    done = speaker().generate(PROMPT, config.replace(prediction=TEXT))
    assert done.finish_reason is (FinishReason.STOP if stop else FinishReason.EOS)
    check_counts(done)
    if stop:
        assert len(done.records[-1].drafted) > len(done.records[-1].emitted)


def test_rejected_ones_are_not_counted() -> None:
    done = told(SUBSTITUTED, drafting="plain")
    assert any(record.is_rejection for record in done.records)
    check_counts(done)
