"""Request: every rule ends a generation inside a block, and nothing is ever overshot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foredraft.core import FinishReason
from foredraft.decoding import Request
from foredraft.errors import ConfigError
from foredraft.models import TableModel
from foredraft.sampling import Rng
from tests.doubles import repeatable

PROMPT = [7, 8, 9]


def request(max_length: int = 100, **changes: Any) -> Request:
    context = TableModel({(): [0.5, 0.5]}, max_length=max_length).open(PROMPT)
    return Request(context, Rng(0), **{"max_new_tokens": 10} | changes)


def test_a_new_request_is_its_prompt() -> None:
    new = request()
    assert (new.tokens, new.output, new.length, new.context.prompt) == (PROMPT, [], 3, PROMPT)
    assert (new.room, new.finished, new.finish_reason) == (10, False, None)


def test_the_callers_prompt_is_not_edited() -> None:
    prompt = list(PROMPT)
    context = TableModel({(): [0.5, 0.5]}).open(prompt)
    Request(context, Rng(0), max_new_tokens=5).commit([1, 2])
    assert prompt == PROMPT


def test_blocks_are_appended_in_order() -> None:
    growing = request()
    assert growing.commit([1, 2]) == [1, 2]
    assert growing.commit([3]) == [3]
    assert growing.output == [1, 2, 3]
    assert growing.tokens == [*PROMPT, 1, 2, 3]
    assert growing.room == 7
    assert not growing.finished


@pytest.mark.parametrize("position", range(4))
def test_an_end_token_cuts_the_block_after_itself(position: int) -> None:
    block = [1, 2, 3, 4]
    block[position] = 50
    ending = request(eos_token_ids=[50])
    assert ending.commit(block) == block[: position + 1]
    assert ending.output[-1] == 50
    assert ending.finish_reason is FinishReason.EOS


def test_the_first_of_several_end_tokens_counts() -> None:
    ending = request(eos_token_ids=(50, 51, 52))
    assert ending.commit([1, 52, 50, 51]) == [1, 52]
    assert ending.finish_reason is FinishReason.EOS


def test_an_end_token_in_the_prompt_ends_nothing() -> None:
    running = request(eos_token_ids=PROMPT[:1])
    running.commit([1])
    assert not running.finished


def test_without_end_tokens_none_is_special() -> None:
    running = request()
    assert running.commit([0, 1, 2]) == [0, 1, 2]
    assert not running.finished


def stop_after(token: int, seen: list[int]) -> Callable[[int], bool]:
    def check(candidate: int) -> bool:
        seen.append(candidate)
        return candidate == token

    return check


def test_a_stop_check_is_asked_once_a_token_and_cuts_the_block() -> None:
    seen: list[int] = []
    stopping = request(stop_check=stop_after(3, seen))
    assert stopping.commit([1, 2]) == [1, 2]
    assert stopping.commit([3, 4, 5]) == [3]
    assert stopping.finish_reason is FinishReason.STOP
    assert seen == [1, 2, 3]


def test_a_stop_check_never_sees_the_end_token() -> None:
    seen: list[int] = []
    ending = request(eos_token_ids=[50], stop_check=stop_after(3, seen))
    ending.commit([1, 50, 3])
    assert ending.finish_reason is FinishReason.EOS
    assert seen == [1]


@pytest.mark.parametrize("block", [[1, 2], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_the_length_is_never_overshot(block: list[int]) -> None:
    limited = request(max_new_tokens=2)
    assert limited.commit(block) == [1, 2]
    assert limited.finish_reason is FinishReason.LENGTH
    assert limited.room == 0


@pytest.mark.parametrize(
    ("max_new_tokens", "reason", "num_emitted"),
    [
        (1, FinishReason.LENGTH, 1),
        (4, FinishReason.LENGTH, 4),
        (5, FinishReason.LENGTH, 5),  # both limits at once: what was asked for was given
        (6, FinishReason.CONTEXT, 5),
        (99, FinishReason.CONTEXT, 5),
    ],
)
def test_prompt_and_output_stay_within_the_context(
    max_new_tokens: int, reason: FinishReason, num_emitted: int
) -> None:
    limited = request(max_new_tokens=max_new_tokens, max_length=8)
    assert limited.room == num_emitted
    assert limited.commit([1] * 20) == [1] * num_emitted
    assert limited.finish_reason is reason


@pytest.mark.parametrize("rule", ["eos", "stop"])
def test_a_rule_met_at_the_very_limit_is_the_reason(rule: str) -> None:
    limited = request(
        max_new_tokens=2,
        eos_token_ids=[50] if rule == "eos" else (),
        stop_check=(lambda token: token == 50) if rule == "stop" else None,
    )
    assert limited.commit([1, 50, 2]) == [1, 50]
    assert limited.finish_reason == rule


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_below_one_is_refused(length: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"max_new_tokens must lie in \[1, 1000000000\], not {length}"
    ):
        request(max_new_tokens=length)


@pytest.mark.parametrize("length", [2.5, float("inf"), float("nan")])
def test_a_length_that_is_no_whole_number_is_refused(length: float) -> None:
    # Such a limit would never be met exactly, and the output would run on past the context.
    with pytest.raises(ConfigError, match="max_new_tokens"):
        request(max_new_tokens=length)


@repeatable
@given(
    blocks=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=8),
    max_new_tokens=st.integers(1, 12),
    max_length=st.integers(4, 14),
    eos=st.sets(st.integers(0, 5), max_size=2),
)
def test_any_blocks_give_the_output_of_one_token_at_a_time(
    blocks: list[list[int]], max_new_tokens: int, max_length: int, eos: set[int]
) -> None:
    def run(pieces: list[list[int]]) -> Request:
        running = request(max_new_tokens=max_new_tokens, max_length=max_length, eos_token_ids=eos)
        for piece in pieces:
            if not running.finished:
                running.commit(piece)
        return running

    blockwise = run(blocks)
    one_by_one = run([[token] for block in blocks for token in block])
    assert blockwise.output == one_by_one.output
    assert blockwise.finish_reason == one_by_one.finish_reason
    assert len(blockwise.output) <= max_new_tokens
    assert blockwise.length <= max_length
