"""Copying and counting in C against the readable forms: the same answers, however a text grows."""

from __future__ import annotations

import copy
import pickle
import random

import pytest

from foredraft.drafting import STORAGES, DraftParts, ngram_storage
from foredraft.drafting.ngram_storage import INgramStorage, ReadableCounts
from foredraft.drafting.suffix import Suffix
from foredraft.drafting.suffix_automaton import SuffixAutomaton
from foredraft.native.retrieval import Automaton, Counts, calls
from tests.native.test_fused import needs_a_compiler

pytestmark = needs_a_compiler
BORDER = -3  # a token that stands between texts


def automaton(max_tokens: int) -> Automaton:
    compiled = calls()
    assert compiled is not None
    return Automaton(compiled, max_tokens)


@pytest.mark.parametrize("letters", [1, 2, 3, 7, 200])
def test_an_automaton_finds_and_copies_what_its_readable_form_does(letters: int) -> None:
    source = random.Random(letters)
    for _ in range(120):
        bound = source.choice([2, 3, 9, 40, 1000])
        ours, theirs = automaton(bound), SuffixAutomaton(bound)
        for _ in range(source.randrange(12)):
            piece = [source.randrange(letters) for _ in range(source.choice([0, 1, 1, 4, 30]))]
            piece += [BORDER] * (source.random() < 0.1)
            ours.extend(piece)
            theirs.extend(piece)
            drafted = [source.randrange(letters + 1) for _ in range(source.choice([0, 0, 1, 5]))]
            length, end = ours.longest_match(drafted)
            assert (length, end) == theirs.longest_match(drafted)
            most = source.choice([0, 1, 6, 64])
            if length:
                assert ours.copy_from(end, drafted, most) == theirs.copy_from(end, drafted, most)
        assert ours.text == theirs.text
        assert len(ours) == len(theirs)
        for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            assert other.longest_match([0]) == ours.longest_match([0])


def storage(kind: str, n: int, bound: int, *, compiled: bool) -> INgramStorage:
    made = STORAGES[kind](n, 9, max_contexts=bound)
    if not compiled:
        made._counts = ReadableCounts(made._lengths, 9, bound)
    assert isinstance(made._counts, Counts) == compiled
    return made


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("n", [2, 3, 5, 64])
def test_counts_answer_as_their_readable_form_does(kind: str, n: int) -> None:
    source = random.Random(n)
    for _ in range(60):
        bound = source.choice([1, 2, 7, 60, 10_000])
        every = [storage(kind, n, bound, compiled=compiled) for compiled in (True, False)]
        text = [source.randrange(4) for _ in range(source.randrange(30))]
        for one in every:
            one.initialize(text)
        for _ in range(source.randrange(40)):
            new = source.randrange(1, 5)
            # Beyond the vocabulary of 9: what an encoder alone can read.
            text = [*text, *[source.choice([0, 1, 2, 3, 3, 11]) for _ in range(new)]]
            few = source.choice([0, 2])
            fillers = [
                [source.randrange(10) for _ in range(source.randint(0, few))] for _ in range(new)
            ]
            for one in every:
                one.learn(text, new, fillers if few else ())
            assert_equal(*every, source, text)
        assert_equal(copy.deepcopy(every[0]), every[1], source, text)


def assert_equal(
    ours: INgramStorage, theirs: INgramStorage, source: random.Random, text: list[int]
) -> None:
    assert len(ours) == len(theirs)  # type: ignore[arg-type]
    context = text[-source.randrange(1, 8) :]
    assert ours.has_gram(context) == theirs.has_gram(context)
    assert ours.confidence(context) == theirs.confidence(context)
    asked = {
        "min_confidence": source.choice([0.0, 0.01, 0.3]),
        "stop_if_unknown": source.random() < 0.5,
    }
    for one in (ours, theirs):
        one._random.seed(len(text))  # type: ignore[attr-defined]
    most = source.choice([0, 1, 5, 30])
    assert ours.retrieve(context, most, **asked) == theirs.retrieve(context, most, **asked)
    if ours.has_gram(context):  # guesses are as many as were asked for
        assert ours.next_token(context) == theirs.next_token(context)


def test_much_is_forgotten_in_bounded_memory_and_nothing_else() -> None:
    source = random.Random(0)
    every = [storage("basic", 4, 500, compiled=compiled) for compiled in (True, False)]
    text = [0, 0, 0]
    for _ in range(6000):
        text.append(source.randrange(9))
        for one in every:
            one.learn(text, 1)
    assert len(every[0]) == len(every[1]) == 500  # type: ignore[arg-type]
    for _ in range(300):
        assert_equal(*every, source, [source.randrange(9) for _ in range(8)])


def test_without_a_compiler_the_readable_forms_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_storage, "calls", lambda: None)
    assert isinstance(STORAGES["basic"](3, 9)._counts, ReadableCounts)
    monkeypatch.setattr("foredraft.drafting.suffix.calls", lambda: None)
    assert isinstance(Suffix().build(DraftParts(9)).automaton, SuffixAutomaton)
