"""SuffixAutomaton against a brute-force twin: every substring, looked at one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foredraft.drafting.suffix_automaton import NEWEST_DEPTH, SuffixAutomaton
from tests.doubles import repeatable

texts = st.lists(st.integers(0, 2), max_size=40)


def twin(text: list[int], drafted: list[int]) -> tuple[int, int]:
    """Return the longest end of text and draft that ends earlier in the text, the latest place."""
    whole = [*text, *drafted]
    for length in range(len(whole), 0, -1):
        suffix = whole[-length:]
        for end in range(len(text) - (not drafted), length - 1, -1):
            if text[end - length : end] == suffix:
                return length, end
    return 0, 0


def grown(text: list[int], max_tokens: int = 1000) -> SuffixAutomaton:
    automaton = SuffixAutomaton(max_tokens)
    for token in text:
        automaton.append(token)
    return automaton


@repeatable
@given(texts)
def test_it_finds_the_longest_match_and_its_most_recent_place(text: list[int]) -> None:
    automaton = SuffixAutomaton()
    for end, token in enumerate(text, start=1):
        automaton.append(token)
        length, found = automaton.longest_match()
        assert (length, found if length else 0) == twin(text[:end], [])


@repeatable
@given(texts, st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_supposed_tokens_are_matched_as_if_they_had_been_said(
    text: list[int], drafted: list[int]
) -> None:
    automaton = grown(text)
    length, found = automaton.longest_match(drafted)
    assert (length, found if length else 0) == twin(text, drafted)
    assert automaton.text == text


@repeatable
@given(st.lists(st.integers(0, 1), max_size=60), st.integers(2, 12))
def test_a_bounded_automaton_is_that_of_the_newest_tokens(text: list[int], bound: int) -> None:
    automaton = grown(text, bound)
    assert len(automaton.text) <= bound
    assert automaton.text == text[len(text) - len(automaton.text) :]
    assert len(automaton.text) > min(len(text), bound) // 2 - 1
    length, found = automaton.longest_match()
    assert (length, found if length else 0) == twin(automaton.text, [])


def test_beyond_the_depth_of_renewal_a_match_is_still_a_place_where_it_stood() -> None:
    text = [0] * (3 * NEWEST_DEPTH) + [1] + [0] * 5
    length, end = grown(text).longest_match()
    assert length == 5
    assert text[end - length : end] == text[-length:]


@pytest.mark.parametrize("size", [200, 2000])
def test_states_and_links_grow_with_the_text_and_no_faster(size: int) -> None:
    text = [(i * i) % 7 for i in range(size)]
    automaton = grown(text, 10 * size)
    assert len(automaton._next) <= 2 * size
    assert sum(map(len, automaton._next)) <= 3 * size
