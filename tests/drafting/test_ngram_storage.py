"""N-gram storages against a naive twin that keeps every k-gram in a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foredraft.drafting import STORAGES, INgramStorage, NGramStorage, OneLevelNGramStorage
from foredraft.errors import ConfigError
from tests.doubles import repeatable

VOCAB = 4
tokens = st.lists(st.integers(0, VOCAB - 1), max_size=14)
updates = st.lists(st.tuples(tokens, st.integers(0, VOCAB - 1)), max_size=6)


class NaiveStorage:
    """Every k-gram ever seen, in order; a look-up reads all of them."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.grams: list[tuple[list[int], int]] = []

    def initialize(self, prompt: list[int]) -> None:
        for k in self.lengths:
            self.grams += [(prompt[i : i + k], prompt[i + k]) for i in range(len(prompt) - k)]

    def update(self, context: list[int], token: int) -> None:
        known = [k for k in self.lengths if k <= len(context)]
        self.grams += [(context[len(context) - k :], token) for k in known]

    def next_token(self, context: list[int]) -> int | None:
        for k in sorted(self.lengths, reverse=True):
            end = context[-k:]
            followers = [token for gram, token in self.grams if gram == end and len(end) == k]
            running: Counter[int] = Counter()
            for token in followers:
                running[token] += 1
                if running[token] == max(Counter(followers).values()):
                    return token
        return None


def assert_twins(
    storage: INgramStorage,
    naive: NaiveStorage,
    prompt: list[int],
    learned: list[tuple[list[int], int]],
    contexts: list[list[int]],
) -> None:
    storage.initialize(prompt)
    naive.initialize(prompt)
    for context, token in learned:
        storage.update(context, token)
        naive.update(context, token)
    for context in contexts:
        token, known = storage.next_token(context)
        expected = naive.next_token(context)
        assert known == (expected is not None)
        if known:
            assert token == expected
        assert 0 <= token < VOCAB
        seen = any(gram == context for gram, _ in naive.grams)
        assert storage.has_gram(context) == seen


@repeatable
@given(st.integers(2, 5), tokens, updates, st.lists(tokens, max_size=8))
def test_the_multi_level_storage_equals_its_naive_twin(
    n: int, prompt: list[int], learned: list[tuple[list[int], int]], contexts: list[list[int]]
) -> None:
    naive = NaiveStorage(range(1, n))  # down to one token
    assert_twins(NGramStorage(n, VOCAB), naive, prompt, learned, [*contexts, prompt])


@repeatable
@given(st.integers(2, 5), tokens, updates, st.lists(tokens, max_size=8))
def test_the_one_level_storage_equals_its_naive_twin(
    n: int, prompt: list[int], learned: list[tuple[list[int], int]], contexts: list[list[int]]
) -> None:
    storage = OneLevelNGramStorage(n, VOCAB)
    assert_twins(storage, NaiveStorage([n - 1]), prompt, learned, [*contexts, prompt])


def test_the_longest_known_context_answers() -> None:
    storage = NGramStorage(3, VOCAB)
    storage.initialize([1, 2, 3, 0, 2, 0, 1, 0, 2, 0])
    assert storage.next_token([1, 2]) == (3, True)  # (1, 2) → 3, though 2 → 0 is more frequent
    assert storage.next_token([3, 2]) == (0, True)  # (3, 2) is unknown, so 2 answers


def test_one_level_does_not_fall_back_to_shorter_contexts() -> None:
    storage = OneLevelNGramStorage(3, VOCAB)
    storage.initialize([1, 2, 3])
    assert storage.next_token([1, 2]) == (3, True)
    assert not storage.next_token([3, 2])[1]
    assert not storage.next_token([2])[1]


@pytest.mark.parametrize("kind", STORAGES)
def test_bigrams_work(kind: str) -> None:
    storage = STORAGES[kind](2, VOCAB)
    storage.initialize([0, 1, 0, 1, 2])
    assert storage.next_token([3, 3, 0]) == (1, True)
    assert storage.next_token([1]) == (0, True)
    assert not storage.next_token([2])[1]


@pytest.mark.parametrize("kind", STORAGES)
def test_of_equals_the_token_that_reached_the_count_first_leads(kind: str) -> None:
    storage = STORAGES[kind](2, VOCAB)
    for token in (3, 1, 1, 3):
        storage.update([0], token)
    assert storage.next_token([0]) == (1, True)  # 1 was the first to be counted twice
    storage.update([0], 3)
    assert storage.next_token([0]) == (3, True)


@pytest.mark.parametrize("kind", STORAGES)
def test_an_unknown_context_gives_some_token_of_the_vocabulary(kind: str) -> None:
    storage = STORAGES[kind](3, VOCAB)
    guesses = [storage.next_token([1, 2]) for _ in range(100)]
    assert {token for token, _ in guesses} == set(range(VOCAB))
    assert not any(known for _, known in guesses)


@pytest.mark.parametrize("kind", STORAGES)
def test_guesses_are_seeded_and_each_prompt_starts_them_anew(kind: str) -> None:
    def guesses(storage: INgramStorage) -> list[int]:
        storage.initialize([])
        return [storage.next_token([1, 2])[0] for _ in range(30)]

    make = STORAGES[kind]
    storage = make(3, VOCAB, seed=1)
    first = guesses(storage)
    assert guesses(storage) == first
    assert guesses(make(3, VOCAB, seed=1)) == first
    assert guesses(make(3, VOCAB, seed=2)) != first


@pytest.mark.parametrize("kind", STORAGES)
def test_initialize_adds_to_what_is_there(kind: str) -> None:
    storage = STORAGES[kind](2, VOCAB)
    storage.update([0], 3)
    storage.initialize([0, 1])
    assert storage.next_token([0]) == (3, True)
    storage.initialize([0, 1])
    assert storage.next_token([0]) == (1, True)


@pytest.mark.parametrize("kind", STORAGES)
def test_reset_forgets_everything(kind: str) -> None:
    storage = STORAGES[kind](3, VOCAB)
    storage.initialize([0, 1, 2, 3])
    assert len(storage) > 0
    storage.reset()
    assert len(storage) == 0
    assert not storage.has_gram([0, 1])
    assert not storage.next_token([0, 1])[1]


@pytest.mark.parametrize("kind", STORAGES)
def test_an_empty_context_is_never_known(kind: str) -> None:
    storage = STORAGES[kind](3, VOCAB)
    storage.update([], 1)
    assert not storage.has_gram([])
    assert not storage.next_token([])[1]


@pytest.mark.parametrize("kind", STORAGES)
def test_memory_is_bounded_and_the_oldest_context_goes_first(kind: str) -> None:
    storage = STORAGES[kind](2, 100, max_contexts=3)
    storage.initialize(list(range(10)))
    assert len(storage) == 3
    assert [t for t in range(10) if storage.has_gram([t])] == [6, 7, 8]


def test_a_bound_below_the_number_of_levels_still_holds() -> None:
    storage = NGramStorage(5, VOCAB, max_contexts=2)
    for token in range(VOCAB):
        storage.update([0, 1, 2, 3, token], token)
        assert len(storage) <= 2


def test_contexts_longer_than_the_storage_needs_are_read_at_their_end() -> None:
    storage = NGramStorage(3, VOCAB)
    storage.update([3, 3, 3, 1, 2], 0)
    assert storage.has_gram([1, 2])
    assert storage.has_gram([2])
    assert not storage.has_gram([3, 1, 2])
    assert storage.next_token([0, 0, 1, 2]) == (0, True)


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("n", [1, 0, -2, 65])
def test_an_order_outside_its_range_is_refused(kind: str, n: int) -> None:
    with pytest.raises(ConfigError, match=rf"n must lie in \[2, 64\], not {n}"):
        STORAGES[kind](n, VOCAB)


@pytest.mark.parametrize("kind", STORAGES)
def test_an_empty_vocabulary_and_an_empty_memory_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size must lie in \[1, 1000000000\], not 0"):
        STORAGES[kind](3, 0)
    with pytest.raises(ConfigError, match=r"max_contexts must lie in \[1, 1000000000\], not 0"):
        STORAGES[kind](3, VOCAB, max_contexts=0)
