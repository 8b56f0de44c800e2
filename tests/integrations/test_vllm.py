"""Drafts inside vLLM, without vLLM: against a recorded session and a stand-in."""

from __future__ import annotations

import gc
import json
import logging
import random
import weakref

import pytest

from foredraft.errors import ConfigError
from foredraft.integrations.batch import PATIENCE
from foredraft.integrations.vllm import LOG_SECONDS, Proposer
from tests.integrations.engine import Clock, Engine, config_of
from tests.integrations.session import DRAFTER, FILE, MAX_LENGTH, PROMPTS, calls, handed

LOOP = [11, 12, 13, 14, 15, 16]


def proposer(clock: Clock | None = None, **settings: object) -> Proposer:
    return Proposer(config_of(**settings), clock or Clock())  # type: ignore[arg-type]


@pytest.fixture
def recorded() -> Proposer:
    return proposer(foredraft={"drafter": DRAFTER})


def test_a_recorded_session_is_drafted_for_as_it_was(recorded: Proposer) -> None:
    for call in calls():
        drafts = recorded.propose(call.sampled, call.lengths, call.tokens, slot_mappings={})
        assert drafts == call.drafts
        assert [len(d) for d, s in zip(drafts, call.sampled, strict=True) if not s].count(0) == sum(
            not said for said in call.sampled
        )


def test_the_stand_in_hands_over_what_vllm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[list[list[object]]]()
    made = proposer()

    def propose(*given: object, slot_mappings: object) -> list[list[int]]:
        told.append([handed(value) for value in (*given, slot_mappings)])
        return [[]]

    monkeypatch.setattr(made, "propose", propose)
    engine = Engine(made)
    engine.add(LOOP, LOOP)
    engine.step()
    assert told == [json.loads(FILE.read_text(encoding="utf-8"))["handed"]]


def test_a_text_is_read_once_wherever_its_row_moves(
    recorded: Proposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, made = list[int](), recorded._texts._made
    monkeypatch.setattr(recorded._texts, "_made", lambda t: (read.append(len(t)), made(t))[1])
    for call in calls():
        recorded.propose(call.sampled, call.lengths, call.tokens)
    assert len(PROMPTS) <= len(read) <= len(PROMPTS) + 2  # two were stopped and taken up again


def test_texts_that_begin_alike_are_told_apart_as_soon_as_they_differ() -> None:
    engine = Engine(proposer(foredraft={"drafter": "suffix"}))
    engine.add(LOOP * 2, [11, 12, 99] * 9)
    engine.add(LOOP * 2, LOOP * 5)
    for _ in range(2):
        engine.step()
    for held in (engine.tokens, engine.lengths):
        held[[0, 1]] = held[[1, 0]]
    for held in (engine.said, engine.drafts):
        held.reverse()
    for _ in range(2):
        engine.step()
    texts = engine.proposer._texts
    assert len(texts) == 2
    rows = {tuple(engine.tokens[i, : engine.lengths[i]].tolist()) for i in range(2)}
    assert {tuple(text.tokens) for found in texts._waiting.values() for text in found} == rows


def test_texts_that_end_alike_keep_their_own_beginnings() -> None:
    engine = Engine(proposer(foredraft={"drafter": "suffix"}))
    for begin in ([31, 32, 33], [33, 32, 31]):  # of one length, one sum and one end
        engine.add([*begin, *LOOP * 12], [*LOOP, *begin, *LOOP])
    for _ in range(2):
        engine.step()
        found = [t for kept in engine.proposer._texts._waiting.values() for t in kept]
        assert [text.tokens[0] for text in found] == [31, 33]


def test_rows_that_read_their_prompt_get_no_draft() -> None:
    engine = Engine(proposer(foredraft={"drafter": "suffix"}))
    engine.add(LOOP * 2, LOOP)
    engine.add(LOOP * 2, LOOP)
    drafts = engine.step(reading=[1])
    assert drafts[0]
    assert drafts[1] == []


def test_what_belongs_to_a_request_is_freed_soon_after_it() -> None:
    engine = Engine(proposer(), rows=2)
    engine.add(LOOP * 2, LOOP)
    engine.step()
    (text,) = engine.proposer._texts._waiting.popitem()[1]
    engine.proposer._texts.keep([text], [engine.tokens[0, : engine.lengths[0]]])
    gone = weakref.ref(text)
    engine.remove(0)
    del text
    engine.add([1, 2, 3], list(range(20, 60)))
    for _ in range(PATIENCE + 2):
        engine.step()
    gc.collect()
    assert gone() is None
    assert len(engine.proposer._texts) == 1


def test_no_more_texts_are_kept_than_there_are_requests_and_as_many_that_wait() -> None:
    made, rows = proposer(rows=3), 3
    for turn in range(20):
        engine = Engine(made, rows=rows)
        for row in range(rows):
            engine.add([turn + 1, row + 1, 5], LOOP)
        engine.step()
        assert len(made._texts) <= 2 * rows


def test_a_text_that_comes_back_within_patience_goes_on() -> None:
    engine = Engine(proposer(foredraft={"drafter": "suffix"}), rows=2)
    engine.add(LOOP * 3, LOOP * 9)
    engine.add([1, 2, 3, 4], list(range(20, 60)))
    for _ in range(2):
        engine.step()
    before = engine.proposer._texts._waiting[
        next(place for place in engine.proposer._texts._waiting if place[0] == engine.lengths[0])
    ][0]
    said, left = engine.remove(0)
    for _ in range(PATIENCE - 1):
        engine.step()
    engine.add(said, left)
    engine.step()
    assert before.missed == 0
    assert before.tokens == [*said, left[0]]


def test_drafts_leave_the_last_place_of_the_context_to_the_target() -> None:
    engine = Engine(proposer(length=24, foredraft={"drafter": "suffix"}), length=24)
    engine.add(LOOP * 3, LOOP)
    engine.step()
    assert len(engine.drafts[0]) == 24 - 19 - 1
    engine.step()
    assert engine.lengths[0] == 24
    assert engine.drafts[0] == []


def test_a_token_without_logits_is_not_drafted() -> None:
    engine = Engine(proposer(vocab=14, foredraft={"drafter": "suffix"}))
    engine.add(LOOP * 2, LOOP)
    engine.step()
    assert engine.drafts == [[12, 13]]  # 14 would be the first without


@pytest.mark.parametrize(("rows", "longest"), [(1, 5), (2, 3), (3, 3), (4, 0)])
def test_the_table_of_batch_sizes_is_obeyed(rows: int, longest: int) -> None:
    table = [(1, 1, 9), (2, 2, 3), (4, 8, 0)]
    engine = Engine(proposer(table=table, foredraft={"drafter": "suffix"}))
    for row in range(rows):
        engine.add([row, *LOOP, *LOOP], LOOP)
    assert {len(draft) for draft in engine.step()} == {longest}


def tokens_fed(slope: float) -> float:
    """Return the mean length of the later drafts where a token more takes so much of a pass."""
    clock, source = Clock(), random.Random(0)
    engine = Engine(
        proposer(clock, length=4096), clock, length=4096, seconds=lambda n: 1 + slope * n
    )
    for _ in range(3):
        # Copies that hold for some tokens.
        engine.add(LOOP * 4, [t for _ in range(150) for t in [*LOOP[: source.randrange(7)], 7]])
    lengths = list[int]()
    for _ in range(150):
        lengths += [len(draft) for draft in engine.step()]
    return sum(lengths[150:]) / len(lengths[150:])


def test_drafts_are_as_long_as_their_measured_cost_allows() -> None:
    free, dear, worthless = tokens_fed(0.0), tokens_fed(0.15), tokens_fed(50.0)
    assert free > dear > worthless
    assert worthless < 0.3


def test_a_pass_that_reads_a_prompt_is_no_measure() -> None:
    engine = Engine(proposer())
    engine.add(LOOP * 2, LOOP * 4)
    engine.step()
    engine.add([1, 2, 3], list(range(20, 60)))
    engine.step()
    engine.step(reading=[1])
    assert engine.proposer._meter.steps == 0
    engine.step()
    assert engine.proposer._meter.steps == 2


def test_a_line_now_and_then_tells_of_acceptance(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level(logging.INFO, logger="vllm.foredraft"):
        made = proposer(clock, foredraft={"drafter": "suffix"})
        engine = Engine(made, clock, seconds=lambda fed: LOG_SECONDS / 4)
        engine.add(LOOP * 2, LOOP * 8)
        for _ in range(4):
            engine.step()
    first, second = [record.getMessage() for record in caplog.records]
    assert first == "foredraft drafts with suffix, 5 tokens at most"
    assert second == (
        "foredraft: mean_acceptance_length 4.750, acceptance_rate 1.000, "
        "conditional_acceptance_rate 1.000, mean_gamma 5.000, undrafted_step_share 0.250, "
        "num_emitted_tokens 19"
    )


def test_on_a_cpu_it_says_what_is_wrong_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vllm.foredraft"):
        proposer(device="cpu")
    assert "send greedy requests alone" in caplog.text


def test_vllm_finds_no_network_in_it() -> None:
    made = proposer()
    assert not hasattr(made, "model")  # it would be wrapped as one
    made.load_model(object())


def test_options_come_from_the_configuration_and_the_environment_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FOREDRAFT_VLLM_POLICY", "fixed(gamma=2)")
    monkeypatch.setenv("FOREDRAFT_VLLM_DRAFTER", "prompt_lookup")
    engine = Engine(proposer(foredraft={"drafter": "suffix"}))
    engine.add(LOOP * 2, LOOP)
    assert engine.step() == [[12, 13]]


@pytest.mark.parametrize("drafter", ["auto", "suffix", "ngram", "prompt_lookup", "plain"])
def test_every_drafter_without_a_model_drafts(drafter: str) -> None:
    engine = Engine(proposer(foredraft={"drafter": drafter}))
    engine.add(LOOP * 3, LOOP * 20)
    for _ in range(16):  # the first of which `auto` needs to see what plain decoding takes
        engine.step()
    assert (engine.lengths[0] > 18 + 16) == (drafter != "plain")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"draftr": "suffix"},
            "unknown option 'draftr' of foredraft in vLLM (did you mean 'drafter'?)",
        ),
        ({"drafter": "sufix"}, "unknown drafter 'sufix'"),
        ({"drafter": "model"}, "drafting with a model needs a draft model"),
        ({"drafter": "auto(sources=[ngram(keep=True)])"}, "leave keep out"),
        ({"policy": "fixed(gamma=0)"}, "gamma must lie in"),
        ("suffix", "unknown option"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(options: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proposer(foredraft=options)
    assert sentence in str(caught.value)


def test_nothing_is_drafted_beyond_what_the_session_had_room_for(recorded: Proposer) -> None:
    for call in calls():
        for text, draft in zip(call.texts, call.drafts, strict=True):
            assert len(text) + len(draft) < MAX_LENGTH
