"""Translation between two tokenizers, beside a brute-force twin: the whole text, tokenized anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from foredraft.spelling import Spelling
from foredraft.translation import LONGEST_RUN, Reading, Translation, difference
from tests.doubles import repeatable
from tests.tongues import TEXTS, byte_level, letters, sentence_piece, with_added

KINDS = {
    "bytes": byte_level(300),
    "more-bytes": byte_level(420, TEXTS[1:]),
    "added": with_added(),
    "sentence-piece": sentence_piece(),
}
SPELLINGS = {name: Spelling(tokenizer) for name, tokenizer in KINDS.items()}
PAIRS = [(a, b) for a in KINDS for b in KINDS if a != b]
TRANSLATIONS = {pair: Translation(*(KINDS[name] for name in pair)) for pair in PAIRS}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_pair = pytest.mark.parametrize("pair", PAIRS, ids="→".join)

WORDS = st.sampled_from(
    [
        *("the", "dog", " ", "  ", "\n", "\t", "\r\n", "é", "e\u0301", "日本", "😀", "👩\u200d👧"),
        *("\u00a0", "\u3000", "lazydog", "<|im_end|>", "</s>", "<0x41>", "▁", "1", "23", "."),
        *("'s", "\x00", "\x07", "\x7f"),
    ]
)
TEXT = st.lists(WORDS | st.characters(exclude_categories=("Cs",)), max_size=30).map("".join)


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the tokens of a text, in which special tokens that are written out are text."""
    found: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]
    return found


def translated(pair: tuple[str, str], tokens: list[int], *, step: int = 0) -> list[int]:
    """Return the translation of tokens that are written `step` at a time; 0: all at once."""
    reading = Reading(TRANSLATIONS[pair])
    for place in range(0, len(tokens), step or max(1, len(tokens))):
        reading.write(place, tokens[place : place + step] if step else tokens)
    return reading.translated


@every_kind
@repeatable
@given(text=TEXT)
def test_tokens_say_their_text(kind: str, text: str) -> None:
    spelling = SPELLINGS[kind]
    tokens = ids(KINDS[kind], text)
    said = text.replace("▁", " ") if spelling.adds_space else text  # no tokenizer can tell
    space = " " if spelling.adds_space and text else ""
    assert spelling.said(tokens).decode() == space + said
    assert spelling.tokens(text.encode(), begins=True) == tokens


@every_kind
@repeatable
@given(text=TEXT)
def test_what_stands_behind_a_text_is_said_as_it_is(kind: str, text: str) -> None:
    spelling = SPELLINGS[kind]
    said = text.replace("▁", " ") if spelling.adds_space else text
    assert spelling.said(spelling.tokens(text.encode())).decode() == said


@every_kind
@repeatable
@given(data=st.binary(max_size=40))
def test_any_bytes_have_tokens_and_these_say_them(kind: str, data: bytes) -> None:
    spelling = SPELLINGS[kind]
    said = data.replace("▁".encode(), b" ") if spelling.adds_space else data
    assert spelling.said(spelling.tokens(data)) == said


@every_pair
@repeatable
@given(text=TEXT)
def test_a_translation_is_the_whole_text_tokenized_anew(pair: tuple[str, str], text: str) -> None:
    target, drafter = (KINDS[name] for name in pair)
    tokens = ids(target, text)
    text = SPELLINGS[pair[0]].said(tokens).decode()
    text = text.removeprefix(" ") if SPELLINGS[pair[0]].adds_space else text
    # The promise holds for what has a border now and then; longer words are cut somewhere.
    if len(tokens) < LONGEST_RUN:
        expected = SPELLINGS[pair[1]].begin + ids(drafter, text)
        assert translated(pair, tokens) == expected


@every_pair
@repeatable
@given(text=TEXT, step=st.integers(1, 9), places=st.lists(st.integers(0, 60), max_size=4))
def test_a_text_that_grows_and_shrinks_is_translated_as_a_whole_one(
    pair: tuple[str, str], text: str, step: int, places: list[int]
) -> None:
    tokens = ids(KINDS[pair[0]], text * 3)
    whole = translated(pair, tokens)
    assert translated(pair, tokens, step=step) == whole
    reading = Reading(TRANSLATIONS[pair])
    reading.write(0, tokens)
    for place in places:
        place = min(place, len(tokens))
        reading.write(place, tokens[place // 2 : place])  # another text
        reading.write(place, tokens[place:])
        assert reading.translated == whole
        fork = reading.copy()
        fork.write(0, tokens[::-1])
        assert reading.translated == whole
        assert fork.translated == translated(pair, tokens[::-1])


@every_pair
@repeatable
@given(text=TEXT, more=TEXT, end=st.integers(0, 60))
def test_what_follows_a_text_is_cut_as_the_target_would_cut_it(
    pair: tuple[str, str], text: str, more: str, end: int
) -> None:
    target, spelling = KINDS[pair[0]], SPELLINGS[pair[0]]
    tokens = ids(target, text + more)
    tokens = tokens[: min(end, len(tokens))]
    rest = spelling.said(ids(target, text + more))[len(spelling.said(tokens)) :]
    reading = Reading(TRANSLATIONS[pair])
    reading.write(0, tokens)
    assert spelling.said(tokens + reading.following(rest)) == spelling.said(tokens) + rest
    if tokens and len(tokens) < LONGEST_RUN:
        assert reading.following(rest) == ids(target, text + more)[len(tokens) :]


@every_pair
def test_tokens_that_both_spell_alike_are_paired_once(pair: tuple[str, str]) -> None:
    translation = TRANSLATIONS[pair]
    shared = translation.shared
    assert len({*shared.values()}) == len(shared)
    for ours, theirs in shared.items():
        assert translation.target.piece(ours) == translation.drafter.piece(theirs)
    assert len(shared) > 256
    ends = [KINDS[name].eos_token_id for name in pair]
    assert shared[ends[0]] == ends[1]  # one of them ends a text as the other does


def test_special_tokens_are_translated_by_name_and_the_others_say_nothing() -> None:
    target, drafter = KINDS["added"], KINDS["sentence-piece"]
    tokens = target("<|user|>the dog<|im_end|><|eos|>", add_special_tokens=False)["input_ids"]
    reading = Reading(TRANSLATIONS["added", "sentence-piece"])
    reading.write(0, tokens)
    begun = SPELLINGS["sentence-piece"].tokens(b"the dog", begins=True)
    assert reading.translated == [*begun, drafter.eos_token_id]
    back = Reading(TRANSLATIONS["added", "bytes"])
    back.write(0, tokens)
    assert back.translated == KINDS["bytes"]("<|user|>the dog<|eos|>")["input_ids"]


def test_only_the_end_of_a_text_is_translated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ids(KINDS["bytes"], "The dog and the fox have a house by the sea. " * 200)
    reading = Reading(TRANSLATIONS["bytes", "more-bytes"])
    reading.write(0, tokens)
    assert reading.changed() == 0
    read = list[int]()
    original = Spelling.tokens

    def counted(spelling: Spelling, data: bytes, *, begins: bool = False) -> list[int]:
        read.append(len(data))
        return original(spelling, data, begins=begins)

    monkeypatch.setattr(Spelling, "tokens", counted)
    reading.write(len(tokens), tokens[:5])
    reading.write(len(tokens), tokens[:3])
    assert max(read) < 60
    assert len(reading.translated) - reading.changed() < 20


@pytest.mark.parametrize("text", ["日本語" * 90, "x" * 900, "😀" * 200, "\n" * 300])
def test_where_no_word_ends_a_border_is_made(text: str) -> None:
    for pair in PAIRS:
        tokens = ids(KINDS[pair[0]], text)
        assert translated(pair, tokens, step=1) == translated(pair, tokens)
        said = SPELLINGS[pair[1]].said(translated(pair, tokens)).decode()
        assert said.removeprefix(" ") == text


def test_tokenizers_are_compared_by_what_ids_mean() -> None:
    one, other = KINDS["bytes"], KINDS["more-bytes"]
    assert difference(one, one, ("a", "b")) is None
    found = difference(one, other, ("a", "b"))
    assert found is not None
    assert found.startswith("the tokenizers of target 'a' and drafter 'b' differ: id ")
    small, large = byte_level(280), byte_level(290)
    assert difference(small, large, ("a", "b")) is None  # more of the same


def test_letters_are_spelled() -> None:
    translation = letters(("a", "b", "ab"), ("b", "a", "ba"), end=True)
    assert translation.shared == {0: 1, 1: 0}
    reading = Reading(translation)
    reading.write(0, [2, 2, 0])  # ab ab a
    assert reading.translated == [1, 2, 2]  # a ba ba
    assert reading.following(b"b") == [1]  # "a" is there already
    assert reading.following(b"ab") == [2]
