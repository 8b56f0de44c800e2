"""Structures on random walks: whatever was drafted and given up, masks are a fresh automaton's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, pre_tokenizers

from foredraft.sampling import ControlledText, Controls
from foredraft.sampling.structure import SPACING, Structure
from tests.doubles import repeatable
from tests.sampling.naive_controls import END, NEVER, letters
from tests.tiny import tokenizer

PET = (
    '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}, '
    '"legs": {"enum": [0, 2, 4]}}, "required": ["name", "legs"], "additionalProperties": false}'
)
LARK = 'start: greeting " " /[a-z]{1,4}/ "."\ngreeting: "Hello" | "Good day"'


@cache
def spacing() -> Any:
    """Return a tokenizer that puts a space before a text, and takes it away again."""
    made = copy.deepcopy(tokenizer())
    backend = made.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    assert made.decode(made.encode("The dog", add_special_tokens=False)) == "The dog"
    return made


SOURCES = {
    "json": Structure("json_schema", PET, tokenizer()),
    "regex": Structure("regex", "(the|a) (dog|fox)( [0-9]{2})?", tokenizer()),
    "lark": Structure("grammar", LARK, tokenizer()),
    "spaced": Structure("regex", "The( dog){2}( and a fox)?", spacing()),
    "letters": Structure("regex", "a(b|ab)b{0,3}(ab){2}", letters()),
}
every_source = pytest.mark.parametrize("name", SOURCES)
# What happens to a text, and by which numbers its tokens are chosen: mostly legal ones.
moves = st.lists(
    st.tuples(
        st.sampled_from(["draft", "draft", "commit"]),
        st.lists(st.tuples(st.booleans(), st.integers(0, 10**6)), max_size=5),
    ),
    max_size=8,
)


def ends_of(structure: Structure) -> frozenset[int]:
    made: Any = structure.tokenizer
    return frozenset({made.eos_token_id})


@cache
def automaton_of(structure: Structure) -> Any:
    matcher = llguidance.LLMatcher
    grammar = {
        "json_schema": lambda source: matcher.grammar_from_json_schema(source, defaults=SPACING),
        "regex": matcher.grammar_from_regex,
        "grammar": matcher.grammar_from_lark,
    }[structure.kind](structure.source)
    read: Any = copy.deepcopy(structure.tokenizer)
    if structure is SOURCES["spaced"]:
        read.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made = llguidance.hf.from_tokenizer(read, eos_token=[*ends_of(structure)])
    return matcher(made, grammar, log_level=0), made.vocab_size


def fresh_mask(structure: Structure, prefix: Sequence[int], vocab_size: int) -> list[bool] | None:
    """Return which tokens may follow, by an automaton that has never been anywhere else.

    None: the prefix itself may not come.
    """
    first, known = automaton_of(structure)
    matcher = first.deep_copy()
    for token in prefix:
        if token >= known or not matcher.try_consume_tokens([token]):
            return None
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    return [bool(i < len(bits) and bits[i]) for i in range(vocab_size)]


def added_tokens(
    structure: Structure, standing: list[int], numbers: list[tuple[bool, int]], *, is_draft: bool
) -> list[int]:
    """Return tokens chosen by numbers: those that may follow, and in a draft any, some unknown."""
    _, known = automaton_of(structure)
    added: list[int] = []
    for is_legal, number in numbers:
        before = [*standing, *added]
        is_over = before[-1:] in ([end] for end in ends_of(structure))
        mask = None if is_over else fresh_mask(structure, before, known)
        legal = [token for token, may in enumerate(mask or ()) if may]
        if not is_draft:  # a text that has ended is asked nothing more
            legal = [token for token in legal if token not in ends_of(structure)]
        if legal and (is_legal or not is_draft):
            added.append(legal[number % len(legal)])
            taken = fresh_mask(structure, [*before, added[-1]], known)
            assert taken is not None or added[-1] in ends_of(structure)
        elif is_draft:
            added.append(number % (known + 3))
    return added


@every_source
@pytest.mark.parametrize("columns", [-2, 0, 5])
@settings(repeatable, max_examples=30)
@given(walk=moves)
def test_masks_after_any_walk_are_those_of_a_fresh_automaton(
    name: str, columns: int, walk: list[tuple[str, list[tuple[bool, int]]]]
) -> None:
    structure = SOURCES[name]
    _, known = automaton_of(structure)
    vocab_size = known + columns
    controls = Controls([structure], ControlledText([1], ends_of(structure), vocab_size))
    standing: list[int] = []
    for move, numbers in walk:
        added = added_tokens(structure, standing, numbers, is_draft=move == "draft")
        if move == "commit":
            controls.commit(added)
            standing += added
            continue
        rows = controls.applied(torch.zeros(len(added) + 1, vocab_size), added)
        for i, row in enumerate(rows):
            mask = fresh_mask(structure, [*standing, *added[:i]], vocab_size)
            allowed = [x != NEVER for x in row.tolist()]
            assert allowed == (mask or [False] * vocab_size), (standing, added[:i])
        forced = controls.forced(added[: len(added) // 2])
        before = [*standing, *added[: len(added) // 2]]
        for i, token in enumerate(forced):
            mask = fresh_mask(structure, [*before, *forced[:i]], known)
            assert mask is not None
            assert mask[token], (before, forced)
    assert controls.is_unfinished == is_cut_short(structure, standing)


def is_cut_short(structure: Structure, prefix: Sequence[int]) -> bool:
    first, _ = automaton_of(structure)
    matcher = first.deep_copy()
    assert all(matcher.try_consume_tokens([token]) for token in prefix)
    return not matcher.is_accepting()


@every_source
def test_forced_tokens_spell_what_must_come_wherever_they_are_asked_for(name: str) -> None:
    structure = SOURCES[name]
    _, known = automaton_of(structure)
    controls = Controls([structure], ControlledText([1], ends_of(structure), known))
    prefix, num_forced = list[int](), 0
    while True:
        forced = controls.forced(prefix)
        num_forced += len(forced)
        for token in forced:
            [row] = controls.applied(torch.zeros(1, known), prefix, len(prefix))
            assert row[token] == 0
            prefix.append(token)
        mask = fresh_mask(structure, prefix, known)
        assert mask is not None
        legal = [token for token, may in enumerate(mask) if may and token not in ends_of(structure)]
        if not legal:
            break
        prefix.append(legal[-1])
    assert num_forced > 0
    assert mask[next(iter(ends_of(structure)))]


@pytest.mark.parametrize("kind", ["regex", "grammar"])
def test_every_end_token_may_come_where_one_may(kind: str) -> None:
    source = {"regex": "ab?", "grammar": 'start: "a" "b"?'}[kind]
    speaks = copy.deepcopy(letters())
    speaks.add_special_tokens({"additional_special_tokens": ["<turn>", "<other>"]})
    text = ControlledText([], frozenset({END, 4}), 6)  # a turn that ends, ends the text
    controls = Controls([Structure(kind, source, speaks)], text)
    rows = controls.applied(torch.zeros(3, 6), [1, 2])
    assert [[t for t in range(6) if row[t] == 0] for row in rows] == [[1, 3], [0, 2, 4], [0, 4]]
    for end in (END, 4):
        controls.applied(torch.zeros(1, 6), [1, end], 2)  # and back again
        [row] = controls.applied(torch.zeros(1, 6), [1], 1)
        assert torch.equal(row, rows[1])


def test_an_astray_draft_does_no_harm_however_long() -> None:
    structure = SOURCES["letters"]
    controls = Controls([structure], ControlledText([], frozenset({END}), 4))
    before = controls.applied(torch.zeros(1, 4))
    for draft in ([2, 2], [9], [1, 7, 1], [0] * 5, [1, 3, 0, 1], [-1, 1]):
        controls.applied(torch.zeros(len(draft) + 1, 4), draft)
        assert controls.forced([2]) == []
        assert torch.equal(controls.applied(torch.zeros(1, 4)), before), draft
        assert controls.is_unfinished
    controls.commit([1, 2])
    assert not torch.equal(controls.applied(torch.zeros(1, 4)), before)
