"""Every control beside the processor of transformers it is named after, on random walks.

After whatever was drafted, given up and committed, a row is bent as the processor bends it by the
whole prefix: to the bit, but for counts. Some logits are −∞, some tokens have no column, and some
prompts are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from foredraft.sampling import Control, ControlledText, Controls
from foredraft.sampling.penalties import (
    BadWords,
    CountPenalty,
    LogitBias,
    MinNewTokens,
    NoRepeatNgrams,
    Repetition,
)
from foredraft.sampling.processors import Processors
from tests.doubles import repeatable
from tests.sampling.naive_controls import NEVER

VOCAB, COLUMNLESS = 6, 2  # tokens with a column, and without one
EVERY = VOCAB + COLUMNLESS
pytestmark = pytest.mark.filterwarnings("ignore:logits processors are called:RuntimeWarning")

tokens = st.integers(0, EVERY - 1)
prefixes = st.lists(tokens, max_size=6)
numbers = st.one_of(st.just(NEVER), st.floats(-30, 30, width=32))
rows_of_logits = st.lists(numbers, min_size=VOCAB, max_size=VOCAB)
# What happens to a text: a draft is asked about, or tokens stand from now on.
moves = st.lists(st.tuples(st.sampled_from(["draft", "commit", "one"]), prefixes), max_size=6)
Twin = Callable[[int, list[int], Tensor], Tensor]  # tokens before the output, prefix, scores


def hugging(make: Callable[[int], Any]) -> Twin:
    """Return what a processor makes of a row, wide enough for every token."""

    def twin(begin: int, prefix: list[int], row: Tensor) -> Tensor:
        wide = torch.cat([row, row.new_zeros(COLUMNLESS)])[None]
        bent: Tensor = make(begin)(torch.tensor([prefix], dtype=torch.long), wide)
        return bent[0, :VOCAB]

    return twin


def counted(presence: float, frequency: float) -> Twin:
    def twin(begin: int, prefix: list[int], row: Tensor) -> Tensor:
        output = prefix[begin:]
        return torch.stack(
            [
                x - (presence + frequency * output.count(i)) if i in output else x
                for i, x in enumerate(row)
            ]
        )

    return twin


TWINS: dict[str, tuple[Control, Twin]] = {
    "bias": (
        LogitBias(((0, 1.25), (3, -7.3))),
        hugging(lambda _: SequenceBiasLogitsProcessor({(0,): 1.25, (3,): -7.3})),
    ),
    "repetition": (Repetition(1.3), hugging(lambda _: RepetitionPenaltyLogitsProcessor(1.3))),
    "encouraged": (Repetition(0.7), hugging(lambda _: RepetitionPenaltyLogitsProcessor(0.7))),
    "once": (NoRepeatNgrams(1), hugging(lambda _: NoRepeatNGramLogitsProcessor(1))),
    "bigrams": (NoRepeatNgrams(2), hugging(lambda _: NoRepeatNGramLogitsProcessor(2))),
    "trigrams": (NoRepeatNgrams(3), hugging(lambda _: NoRepeatNGramLogitsProcessor(3))),
    "bad_words": (
        BadWords(sequences=((1,), (2, 3), (3, 0), (0, 0, 4), (7, 5))),
        hugging(lambda _: NoBadWordsLogitsProcessor([[1], [2, 3], [3, 0], [0, 0, 4], [7, 5]])),
    ),
    "min_new_tokens": (
        MinNewTokens(3),
        hugging(lambda begin: MinNewTokensLengthLogitsProcessor(begin, 3, [0, 4], device="cpu")),
    ),
    "presence": (CountPenalty(0.7), counted(0.7, 0.0)),
    "frequency": (CountPenalty(-0.4, 0.9), counted(-0.4, 0.9)),
}
STACK = ("bias", "repetition", "bigrams", "bad_words", "min_new_tokens")


def stacked(begin: int, prefix: list[int], row: Tensor) -> Tensor:
    for name in STACK:
        row = TWINS[name][1](begin, prefix, row)
    return row


def check_walk(
    controls: Sequence[Control],
    twin: Twin,
    begin: Sequence[int],
    walk: Sequence[tuple[str, list[int]]],
    row: Tensor,
) -> None:
    bending = Controls(controls, ControlledText(begin, frozenset({0, 4}), VOCAB))
    standing = list(begin)
    tolerance = 1e-6 if any(isinstance(one, CountPenalty) for one in controls) else 0.0
    for move, added in [*walk, ("draft", [])]:
        if move == "commit":
            bending.commit(added)
            standing += added
        elif move == "one":
            [bent] = bending.applied(row[None], added, len(added))
            expected = twin(len(begin), [*standing, *added], row)
            torch.testing.assert_close(bent, expected, atol=tolerance, rtol=tolerance)
        else:
            rows = row.repeat(len(added) + 1, 1) + torch.arange(len(added) + 1)[:, None]
            before = rows.clone()
            for i, bent in enumerate(bending.applied(rows, added)):
                expected = twin(len(begin), [*standing, *added[:i]], rows[i])
                torch.testing.assert_close(bent, expected, atol=tolerance, rtol=tolerance)
            assert torch.equal(rows, before), "the target's own rows are needed still"


@pytest.mark.parametrize("name", TWINS)
@repeatable
@given(begin=prefixes, walk=moves, values=rows_of_logits)
def test_a_row_is_bent_as_its_twin_bends_it_by_the_whole_prefix(
    name: str, begin: list[int], walk: list[tuple[str, list[int]]], values: list[float]
) -> None:
    control, twin = TWINS[name]
    check_walk([control], twin, begin, walk, torch.tensor(values))


@repeatable
@given(begin=prefixes, walk=moves, values=rows_of_logits)
def test_a_stack_bends_as_a_list_of_processors_does(
    begin: list[int], walk: list[tuple[str, list[int]]], values: list[float]
) -> None:
    check_walk([TWINS[name][0] for name in STACK], stacked, begin, walk, torch.tensor(values))


@repeatable
@given(begin=prefixes, walk=moves, values=rows_of_logits)
def test_processors_are_called_with_the_whole_prefix(
    begin: list[int], walk: list[tuple[str, list[int]]], values: list[float]
) -> None:
    processors = LogitsProcessorList(
        [NoRepeatNGramLogitsProcessor(2), SequenceBiasLogitsProcessor({(0,): 1.25})]
    )

    def twin(_: int, prefix: list[int], row: Tensor) -> Tensor:
        bent: Tensor = processors(torch.tensor([prefix], dtype=torch.long), row[None].clone())
        return bent[0]

    known = [token % VOCAB for token in begin]
    kept = [(move, [token % VOCAB for token in added]) for move, added in walk]
    check_walk([Processors(processors)], twin, known, kept, torch.tensor(values))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_are_bent_in_float32_or_wider(dtype: torch.dtype) -> None:
    controls = Controls([Repetition(1.3)], ControlledText([1], frozenset(), VOCAB))
    bent = controls.applied(torch.ones(1, VOCAB, dtype=dtype))
    assert bent.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert float(bent[0, 1]) == pytest.approx(1 / 1.3, abs=1e-7)
