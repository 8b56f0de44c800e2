"""Stop strings are searched for in what was said; what can never come is refused."""

from __future__ import annotations

import itertools
import time
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from foredraft.config import METHODS, DecodingConfig
from foredraft.core import Completion, FinishReason
from foredraft.engine import Engine
from foredraft.errors import ConfigError
from foredraft.loading import LoadedModel
from foredraft.models import TableModel
from foredraft.stops import check_stop_strings
from foredraft.text import TextStream
from foredraft.zoo.tokenizer import train_tokenizer
from tests.doubles import repeatable

LINES = ["A lamp in the hall is lit.", "门前有一盏灯。"]
EOS = "<|eos|>"
SLOW = 0.05  # seconds
SAID = ["A", " lamp", "<|user|>", " in", " the", "<|assistant|>", " hall", EOS]


@cache
def bytes_tokenizer() -> Any:
    """Return a byte-level tokenizer with special tokens."""
    return train_tokenizer(LINES * 3, 300)


@cache
def pieces_tokenizer(with_bytes: bool) -> Any:
    """Return a tokenizer of the kind of Llama 2, with bytes to fall back on or without."""
    pieces = ["<unk>", "<s>", EOS, "<|user|>", "<|assistant|>"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)] if with_bytes else []
    pieces += [*"▁ABCabcdefghijklmnopqrstuvwxyz.", "▁lamp", "▁in", "▁the", "▁hall"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    model = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=with_bytes))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token=EOS,
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )


TOKENIZERS = {
    "bytes": bytes_tokenizer,
    "pieces": lambda: pieces_tokenizer(False),
    "byte fallback": lambda: pieces_tokenizer(True),
}
every_tokenizer = pytest.mark.parametrize(
    "tokenizer", [t() for t in TOKENIZERS.values()], ids=TOKENIZERS
)


def ids_of(tokenizer: Any, said: list[str]) -> list[int]:
    found: list[int] = []
    for piece in said:
        known = tokenizer.get_vocab().get(piece.replace(" ", "▁"))
        if known is not None and tokenizer.decode([known]).strip() in ("", piece.strip()):
            found.append(known)
        else:
            found += tokenizer(piece, add_special_tokens=False)["input_ids"]
    return found


def teller(tokenizer: Any, tokens: list[int], end: int | None) -> Engine:
    """Return an engine that answers any prompt of one token with these tokens."""
    size = len(tokenizer)

    def row(prefix: tuple[int, ...]) -> list[float]:
        place = len(prefix) - START
        said = tokens[place] if 0 <= place < len(tokens) else 0
        return [float(t == said) for t in range(size)]

    loaded = [
        LoadedModel(name, TableModel(row), tokenizer, () if end is None else (end,))
        for name in ("target", "drafter")
    ]
    return Engine(loaded[0], loaded[1])


PROMPT = "lit"
START = 0


def told(tokenizer: Any, said: list[str], stop: tuple[str, ...], method: str) -> Completion:
    global START
    START = len(Engine(teller(tokenizer, [0], None).target).encode(PROMPT))
    tokens = ids_of(tokenizer, said)
    engine = teller(tokenizer, tokens, tokenizer.eos_token_id)
    config = DecodingConfig(stop=stop, length=len(tokens), gamma=4, stop_if_unknown=False)
    return engine.generate(PROMPT, config, method=method)


WHOLE = "".join(SAID)
MARKED = "".join("\0" * len(s) if s.startswith("<|") else s for s in SAID)  # NUL: not shown
STOPS = [
    "<|user|>",
    "<|assistant|>",
    "<|user|> in",
    "<|user|> in the<|assistant|>",
    " lamp<|user|>",
    "mp<|user|> i",
    "r|>",
    "<|u",
    EOS,
    f"hall{EOS}",
]


@every_tokenizer
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", STOPS)
def test_the_text_ends_where_the_stop_string_begins(tokenizer: Any, method: str, stop: str) -> None:
    done = told(tokenizer, SAID, (stop, "zebra"), method)
    assert done.text.strip() == MARKED[: WHOLE.index(stop)].replace("\0", "").strip()
    ends = done.tokens[-1] == tokenizer.eos_token_id
    assert done.finish_reason is (FinishReason.EOS if ends else FinishReason.STOP)
    assert tokenizer.decode(done.tokens, skip_special_tokens=False).count(stop) == 1


@every_tokenizer
@pytest.mark.parametrize("method", METHODS)
def test_without_a_match_stop_strings_change_nothing(tokenizer: Any, method: str) -> None:
    plain = told(tokenizer, SAID, (), method)
    stopped = told(tokenizer, SAID, ("<|user|> at", "the hall"), method)
    assert (plain.text, plain.tokens) == (stopped.text, stopped.tokens)
    assert plain.finish_reason is stopped.finish_reason is FinishReason.EOS


@repeatable
@given(
    st.lists(st.sampled_from(["a", "b", "<|user|>", "灯", "é", "<|assistant|>"]), max_size=12),
    st.lists(
        st.sampled_from(["a", "ab", "b<|user|>", "<|user|>b", "灯<", "r|>灯", "aba"]), max_size=3
    ),
)
def test_whichever_stop_string_is_complete_first_cuts(pieces: list[str], stop: list[str]) -> None:
    tokenizer = bytes_tokenizer()
    tokens = list(itertools.chain.from_iterable(ids_of(tokenizer, [p]) for p in pieces))
    stream = TextStream(tokenizer, [], stop)
    for token in tokens:
        if stream.push(token):
            break
    stream.finish()
    whole = "".join(pieces)
    ends = [(whole.find(s) + len(s), whole.find(s)) for s in stop if s in whole]
    cut = min(ends)[1] if ends else len(whole)
    marked = "".join(c if len(p) == 1 else "\0" for p in pieces for c in p)  # NUL: not shown
    assert stream.text == marked[:cut].replace("\0", "")
    assert stream.stopped == bool(ends)


def test_a_character_cut_in_two_by_a_special_token_is_shown_as_such() -> None:
    tokenizer = bytes_tokenizer()
    half = tokenizer("鱻", add_special_tokens=False)["input_ids"][:1]
    stream = TextStream(tokenizer, [], ["<|user|>a"])
    for token in [*half, *ids_of(tokenizer, ["<|user|>", "a"])]:
        stream.push(token)
    assert (stream.text, stream.stopped) == ("\ufffd", True)


def test_half_a_character_is_no_stop_string() -> None:
    tokenizer = bytes_tokenizer()
    tokens = tokenizer("鱻", add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer, [], ["\ufffd"])
    assert [stream.push(t) for t in tokens] == [False] * len(tokens)
    assert stream.text == "鱻"


@pytest.mark.parametrize("stop", [("",), ("a", ""), ("\ud800",), ("a\udfff",), (3,), "END"])
def test_what_no_text_holds_is_refused(stop: Any) -> None:
    with pytest.raises(ConfigError, match="stop"):
        DecodingConfig(stop=stop)


def test_what_no_token_spells_is_refused_and_nothing_else() -> None:
    tokenizer = pieces_tokenizer(False)
    with pytest.raises(ConfigError, match=r"'halté' can never come: no token .* 'é'"):
        told(tokenizer, SAID, ("hall", "halté"), "target")
    for spelt in ("hall", "<|user|>", " \n\t", "z."):
        check_stop_strings(tokenizer, (spelt,))
    for fallen_back in (bytes_tokenizer(), pieces_tokenizer(True)):
        check_stop_strings(fallen_back, ("halté 门 \ufffd \x00",))


@pytest.mark.parametrize("method", METHODS)
def test_reading_for_stop_strings_is_no_time_of_decoding(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push, pushed = TextStream.push, list[int]()

    def slow(self: TextStream, token: int) -> bool:
        time.sleep(SLOW)
        pushed.append(token)
        return push(self, token)

    monkeypatch.setattr(TextStream, "push", slow)
    done = told(bytes_tokenizer(), SAID, ("zebra",), method)
    assert pushed == done.tokens
    assert sum(record.seconds for record in done.records) < SLOW * len(pushed) / 2
