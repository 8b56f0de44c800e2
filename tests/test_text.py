"""Text: prompts in; readable text out as early as it is certain, and never taken back."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foredraft.errors import ConfigError, RequestError
from foredraft.loading.loader import load_tokenizer
from foredraft.text import TextStream, bytes_of, encode_prompt
from foredraft.zoo.tokenizer import train_tokenizer
from tests.doubles import repeatable

LINES = [
    "A lamp in the hall, a lamp in the yard; the hall is warm and the yard is cold.",
    "门前有一盏灯,院子里也有一盏灯。灯亮着,夜很静。",
    "Party 🎉🎉 at 7, tea 🍵 at 10 — 三十个人 🎉.",
]
TEXTS = [
    *LINES,
    "unseen words: zebra, quartz",
    "汉字没有见过:龘鱻",
    "👩‍👩‍👧 family, flag 🇨🇳, é and é",
    "  two  spaces\n\nand lines\n",
]


@functools.cache
def tokenizer() -> Any:
    """Return a byte-level tokenizer small enough to split most characters into bytes."""
    return train_tokenizer(LINES, 330)


class ByteChunks:
    """A tokenizer whose tokens are arbitrary pieces of a byte string."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.chunks = chunks

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return b"".join(self.chunks[t] for t in tokens).decode("utf-8", errors="replace")


def tokens_of(text: str) -> list[int]:
    tokens: list[int] = tokenizer()(text, add_special_tokens=False)["input_ids"]
    return tokens


def streamed(stream: TextStream, tokens: Sequence[int]) -> list[str]:
    """Push tokens until the stream stops; return the pieces that became certain, one a token."""
    pieces = []
    for token in tokens:
        stopped = stream.push(token)
        pieces.append(stream.take())
        if stopped:
            break
    stream.finish()
    return [*pieces, stream.take()]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Return `data` cut at some places."""
    borders = [0, *sorted({p % (len(data) + 1) for p in places} - {0, len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("prompt", ["The yard", "门前", "🎉", "x "])
def test_the_pieces_make_up_the_whole_decoded_at_once(text: str, prompt: str) -> None:
    context = encode_prompt(tokenizer(), prompt)
    stream = TextStream(tokenizer(), context)
    assert "".join(streamed(stream, tokens_of(text))) == text
    assert stream.text == text


@pytest.mark.parametrize("text", TEXTS)
def test_an_incomplete_character_is_never_shown(text: str) -> None:
    tokens = tokens_of(text)
    shown = ""
    for piece in streamed(TextStream(tokenizer(), []), tokens):
        assert "\ufffd" not in piece
        shown += piece
        assert text.startswith(shown)


def test_text_is_shown_as_soon_as_it_is_certain() -> None:
    tokens = tokens_of("a lamp 🎉 灯")
    stream = TextStream(tokenizer(), [])
    for i, token in enumerate(tokens):
        stream.push(token)
        stream.take()
        assert stream.text == tokenizer().decode(tokens[: i + 1]).rstrip("\ufffd")


def test_a_character_that_never_ends_is_released_at_the_end() -> None:
    tokens = tokens_of("龘")[:2]  # two of its three bytes
    stream = TextStream(tokenizer(), [])
    assert "".join(streamed(stream, tokens)) == "\ufffd"
    assert stream.text == "\ufffd"


class WordTokens(ByteChunks):
    """A tokenizer of the kind that drops a space in front of what it decodes."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return super().decode(tokens, skip_special_tokens).removeprefix(" ")


def test_the_first_word_keeps_the_space_between_it_and_the_prompt() -> None:
    words = WordTokens([b" the", b" hall", b" is", b" warm"])
    assert streamed(TextStream(words, [0, 1]), [2, 3]) == [" is", " warm", ""]
    assert streamed(TextStream(words, []), [2, 3]) == ["is", " warm", ""]


def test_special_tokens_leave_no_text() -> None:
    special = tokenizer().eos_token_id
    tokens = [*tokens_of("warm"), special, *tokens_of(" and cold"), special]
    stream = TextStream(tokenizer(), encode_prompt(tokenizer(), "It is "))
    assert "".join(streamed(stream, tokens)) == "warm and cold"


@pytest.mark.parametrize("stop", ["hall", " yard", "灯,", "🎉", "10", "l is w", "\n\n"])
@pytest.mark.parametrize("text", TEXTS)
def test_the_text_ends_before_a_stop_string(text: str, stop: str) -> None:
    stream = TextStream(tokenizer(), [], [stop])
    pieces = streamed(stream, tokens_of(text))
    assert stream.text == text.split(stop)[0]
    assert "".join(pieces) == stream.text
    assert stream.stopped == (stop in text)


def test_trap_a_stop_string_across_token_borders_is_never_streamed() -> None:
    letters = ByteChunks([c.encode() for c in "so far STOP and on"])
    stream = TextStream(letters, [], ["STOP"])
    pieces = streamed(stream, range(18))
    assert pieces[:7] == list("so far ")
    assert "".join(pieces[7:]) == ""
    assert stream.text == "so far "


def test_the_beginning_of_a_stop_string_is_released_when_it_turns_out_otherwise() -> None:
    letters = ByteChunks([c.encode() for c in "a STAR STOOD"])
    stream = TextStream(letters, [], ["STOP"])
    pieces = streamed(stream, range(12))
    assert "".join(pieces) == "a STAR STOOD"
    assert pieces[:7] == ["a", " ", "", "", "STA", "R", " "]
    assert pieces[7:12] == ["", "", "", "STOO", "D"]


def test_what_may_become_a_stop_string_is_released_at_the_end() -> None:
    letters = ByteChunks([c.encode() for c in "go ST"])
    stream = TextStream(letters, [], ["STOP"])
    pieces = streamed(stream, range(5))
    assert pieces[-1] == "ST"
    assert stream.text == "go ST"
    assert not stream.stopped


def test_of_several_stop_strings_the_earliest_in_the_text_cuts() -> None:
    stream = TextStream(ByteChunks([b"one two three"]), [], ["three", "two", ""])
    streamed(stream, [0])
    assert stream.text == "one "


def test_a_stop_string_that_begins_in_the_prompt_does_not_count() -> None:
    chunks = ByteChunks([b"ST", b"OP it"])
    stream = TextStream(chunks, [0], ["STOP"])
    assert "".join(streamed(stream, [1])) == "OP it"


def test_a_stopped_stream_stays_stopped() -> None:
    chunks = ByteChunks([b"a#", b"b"])
    stream = TextStream(chunks, [], ["#"])
    assert stream.push(0)
    assert stream.push(1)
    stream.finish()
    assert stream.text == "a"


@repeatable
@given(
    st.text(st.sampled_from("ab #灯🎉é")),
    st.lists(st.integers(0, 99)),
    st.sampled_from(["", "#", "a灯", "##b", "🎉"]),
)
def test_any_cut_into_tokens_gives_the_same_text(text: str, places: list[int], stop: str) -> None:
    chunks = cut(text.encode(), places)
    stream = TextStream(ByteChunks(chunks), [], [stop])
    pieces = streamed(stream, range(len(chunks)))
    assert "".join(pieces) == stream.text
    assert stream.text == (text.split(stop)[0] if stop else text)


@repeatable
@given(st.text(st.sampled_from("ab#灯🎉")), st.lists(st.integers(0, 99)), st.integers(0, 60))
def test_text_that_breaks_off_inside_a_character_still_stops(
    text: str, places: list[int], size: int
) -> None:
    data = text.encode()[:size]
    chunks = cut(data, places)
    stream = TextStream(ByteChunks(chunks), [], ["#"])
    streamed(stream, range(len(chunks)))
    assert stream.text == data.decode(errors="replace").split("#")[0]


def test_trap_a_stop_string_is_honoured_before_the_character_behind_it_is_whole() -> None:
    # A token may hold a stop string and the first byte of the next character.
    stream = TextStream(ByteChunks([b"so#\xe7"]), [], ["#"])
    assert stream.push(0)
    stream.finish()
    assert stream.text == "so"


def test_a_prompt_becomes_its_tokens_behind_the_begin_token() -> None:
    tokens = encode_prompt(tokenizer(), "the hall")
    assert tokens == [tokenizer().bos_token_id, *tokens_of("the hall")]


@pytest.mark.parametrize("prompt", ["", " ", " \n\t ", "\u3000"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(RequestError, match="the prompt is empty"):
        encode_prompt(tokenizer(), prompt)


@pytest.mark.parametrize(
    ("prompt", "code"),
    [("a\0b", "U+0000"), ("a\ud800", "U+D800"), ("\x1b[2J", "U+001B"), ("x\x7f", "U+007F")],
)
def test_a_prompt_that_is_no_text_is_refused_with_the_character(prompt: str, code: str) -> None:
    with pytest.raises(RequestError, match="the prompt is not text") as caught:
        encode_prompt(tokenizer(), prompt)
    assert code in str(caught.value)
    str(caught.value).encode()  # the message itself can be printed


@pytest.mark.parametrize("prompt", ["a\tb", "a\nb\r\n", "é", "👩‍👩‍👧", "门前"])
def test_tabs_line_breaks_and_every_script_are_text(prompt: str) -> None:
    tokens = encode_prompt(tokenizer(), prompt)
    assert tokenizer().decode(tokens, skip_special_tokens=True) == prompt


def test_the_chat_template_wraps_the_prompt_once() -> None:
    tokens = encode_prompt(tokenizer(), "the hall", chat=True)
    assert tokenizer().decode(tokens) == "<|bos|><|user|>the hall<|assistant|>"
    assert tokens.count(tokenizer().bos_token_id) == 1


class Mute:
    """A tokenizer without a chat template that makes nothing of anything."""

    chat_template = None

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": []}


def test_chat_without_a_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="no chat template; switch chat off"):
        encode_prompt(Mute(), "hello", chat=True)


def test_a_prompt_of_no_tokens_is_refused() -> None:
    with pytest.raises(RequestError, match="makes no token of the prompt 'hello'"):
        encode_prompt(Mute(), "hello")


def test_bytes_of_tokens_are_those_of_their_text() -> None:
    tokenizer = load_tokenizer("bundled")
    text = "Zwölf Boxkämpfer — 日本語 😀\tand  spaces"
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert any("\ufffd" in tokenizer.decode([token]) for token in tokens)
    assert b"".join(bytes_of(tokenizer, token) for token in tokens).decode() == text
    end = tokenizer.eos_token_id
    assert bytes_of(tokenizer, end) == tokenizer.decode([end]).encode()
