"""A method that fell back to plain decoding says why in its last line."""

from __future__ import annotations

import pytest

from foredraft.config import DecodingConfig
from foredraft.core import DraftStop, StepRecord
from foredraft.tracing import undrafted
from foredraft.tracing.render import REASONS
from tests.cli.transcript import converse
from tests.toy_engine import PROMPT, RETOLD, SINGER, tokenizer, toy_drafter, toy_engine

SPECULATIVE = DecodingConfig(ngram=False, target=False)


def step(stopped: DraftStop | None, *drafted: int) -> StepRecord:
    return StepRecord(list(drafted), 0, [1], 0.1, 0.1, stopped=stopped)


def last_line(prompt: str, config: DecodingConfig, positions: int = 200) -> str:
    engine = toy_engine(drafter=toy_drafter(positions))
    return converse(prompt, engine=engine, config=config).splitlines()[-1]


def test_a_draft_model_without_positions_is_named_with_its_number() -> None:
    short = len(tokenizer()(PROMPT)["input_ids"])
    told = last_line(PROMPT, SPECULATIVE, short)
    assert told == f"# tokens/s · nothing was drafted: the draft model has {short} positions"


def test_a_draft_model_that_runs_out_of_positions_says_how_often() -> None:
    told = last_line(PROMPT, SPECULATIVE, 12)
    assert told.startswith("acceptance rate ")
    assert told.endswith(" drafts were cut short: the draft model has 12 positions")


@pytest.mark.parametrize(
    ("prompt", "config", "why"),
    [
        (SINGER, SPECULATIVE.replace(length=1), "the text ended with its first token"),
        (SINGER, SPECULATIVE.replace(first_target=False, length=1), "the length leaves no room"),
        (PROMPT, SPECULATIVE.replace(drafting="suffix"), "no match was found to copy from"),
        (
            PROMPT,
            SPECULATIVE.replace(drafting="suffix", policy="confidence(threshold=1.0)"),
            "no match was found to copy from",
        ),
        (RETOLD, SPECULATIVE.replace(policy="svip(threshold=0.0)"), ""),
    ],
)
def test_other_reasons_are_said_too(prompt: str, config: DecodingConfig, why: str) -> None:
    told = last_line(prompt, config)
    assert ("nothing was drafted" in told) is bool(why)
    assert why in told


@pytest.mark.parametrize("stopped", DraftStop)
def test_there_are_words_for_every_reason(stopped: DraftStop) -> None:
    assert set(REASONS) == set(DraftStop)
    told = undrafted([step(DraftStop.FIRST_TARGET), step(stopped), step(stopped)], 64)
    assert told == f"nothing was drafted: {REASONS[stopped].format(positions='64 positions')}"


def test_where_something_was_drafted_or_nothing_was_to_be_nothing_is_said() -> None:
    assert undrafted([step(None), step(None)], 64) == ""
    assert undrafted([step(DraftStop.FIRST_TARGET), step(DraftStop.GAMMA, 1, 2)], 64) == ""
    assert undrafted([step(DraftStop.POLICY), step(DraftStop.GAMMA, 1)], 64) == ""
    assert undrafted([], 64) == ""


def test_the_first_reason_of_several_is_the_most_frequent() -> None:
    records = [step(DraftStop.UNKNOWN), step(DraftStop.CONTEXT), step(DraftStop.CONTEXT)]
    assert "has 64 positions" in undrafted(records, 64)
