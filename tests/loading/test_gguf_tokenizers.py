"""The tokenizer of a GGUF file is its model's own; a cache decides how soon, never which."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest

from foredraft.cache import SUMS
from foredraft.errors import ModelError
from foredraft.loading import gguf_tokenizer
from foredraft.loading.gguf_header import read_gguf_header
from foredraft.loading.gguf_model import read_model_file
from foredraft.loading.gguf_pieces import CUTS, DIGITS, GPT2
from foredraft.loading.gguf_tokenizer import end_ids, read_tokenizer
from foredraft.loading.loader import load_tokenizer
from tests.gguf_files import write
from tests.tiny import LINES, TEXT_VOCAB, tokenizer

TEXTS = (*LINES, "  two  spaces\n\tand 1234", "Zwölf 日本 😀", "<|user|>hi<|assistant|>", "", " ")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "foredraft" / "tokenizers"


def read(path: Path) -> Any:
    return read_tokenizer(read_gguf_header(path), TEXT_VOCAB)


def assert_same(ours: Any, theirs: Any) -> None:
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        for skipped in (False, True):
            assert ours.decode(ids, skip_special_tokens=skipped) == theirs.decode(
                ids, skip_special_tokens=skipped
            )


def test_it_is_that_of_the_model(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "m.gguf")
    made, kept = read(tmp_path / "m.gguf"), read(tmp_path / "m.gguf")
    for ours in (made, kept):
        assert_same(ours, tokenizer())
        assert len(ours) == TEXT_VOCAB, "no token that the network has no row for"
        assert ours.chat_template == tokenizer().chat_template
        assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == (2, 1, 0)
        message = [{"role": "user", "content": "hi"}]
        rendered = ours.apply_chat_template(message, tokenize=False)
        assert rendered == tokenizer().apply_chat_template(message, tokenize=False)
    assert_same(load_tokenizer(str(tmp_path / "m.gguf")), tokenizer())


def test_it_is_made_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "m.gguf")
    made = read(tmp_path / "m.gguf")
    with monkeypatch.context() as patched:
        patched.setattr(gguf_tokenizer, "_backend", None)
        assert_same(read(tmp_path / "m.gguf"), made)
    assert len(list(cache.iterdir())) == 1
    write(tmp_path / "m.gguf", add=lambda writer: writer.add_name("another"))
    read(tmp_path / "m.gguf")
    assert len(list(cache.iterdir())) == 2


def emptied(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def cut(folder: Path) -> None:
    content = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(content[:-9])


def altered(folder: Path) -> None:
    content = (folder / "tokenizer.json").read_text().replace("<|bos|>", "<|pad|>")
    (folder / "tokenizer.json").write_text(content)


def unsummed(folder: Path) -> None:
    (folder / SUMS).write_text("nonsense")


def opened_to_all(folder: Path) -> None:
    altered(folder)
    folder.parent.chmod(0o777)


@pytest.mark.parametrize("damage", [emptied, cut, altered, unsummed, opened_to_all])
def test_a_damaged_cache_is_not_believed(
    damage: Callable[[Path], None], tmp_path: Path, cache: Path
) -> None:
    write(tmp_path / "m.gguf")
    read(tmp_path / "m.gguf")
    [folder] = cache.iterdir()
    damage(folder)
    for _ in range(2):
        assert_same(read(tmp_path / "m.gguf"), tokenizer())


def test_no_cache_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    write(tmp_path / "m.gguf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_same(read(tmp_path / "m.gguf"), tokenizer())


def test_every_end_token_ends(tmp_path: Path, cache: Path) -> None:
    def ends(add: Callable[[gguf.GGUFWriter], object] = lambda writer: None) -> list[int]:
        write(tmp_path / "m.gguf", add=add)
        header = read_gguf_header(tmp_path / "m.gguf")
        return end_ids(header, read_tokenizer(header, TEXT_VOCAB))

    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_eot_token_id(3)
        writer.add_eom_token_id(4)

    assert ends() == [1]
    assert ends(more) == [1, 3, 4]


def test_a_file_that_does_not_speak_is_refused(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "m.gguf", speaks=False)
    with pytest.raises(ModelError, match="holds no tokenizer"):
        read(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("model", "replit", r"tokenizer.ggml.model must be gpt2 or llama, not 'replit'"),
        ("eot_token_id", 4096, r"eot_token_id must be a number, 0 … 299, not 4096"),
        ("scores", [1.0, 2.0], r"scores must be 300 numbers, one a token, not 2"),
        ("tokens", ["a"] * 301, r"tokens must be 1 … 300 texts, the network's tokens, not 301"),
        ("add_bos_token", "yes", r"add_bos_token must be true or false, not 'yes'"),
    ],
)
def test_what_does_not_fit_is_named(
    name: str, given: Any, said: str, tmp_path: Path, cache: Path
) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        key = f"tokenizer.ggml.{name}"
        for held in writer.kv_data:
            held.pop(key, None)
        if isinstance(given, list):
            writer.add_array(key, given)
        elif isinstance(given, int):
            writer.add_uint32(key, given)
        else:
            writer.add_string(key, given)

    write(tmp_path / "m.gguf", add=add)
    with pytest.raises(ModelError, match=said):
        read(tmp_path / "m.gguf")


def retold(changes: dict[str, Any]) -> Callable[[gguf.GGUFWriter], None]:
    """Return what replaces parts of the tokenizer in a file, or leaves them out (None)."""

    def add(writer: gguf.GGUFWriter) -> None:
        adders = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32}
        for name, value in changes.items():
            key = f"tokenizer.ggml.{name}"
            for held in writer.kv_data:
                held.pop(key, None)
            if value is not None:
                adders.get(type(value), writer.add_array)(key, value)

    return add


GPT2_CUT = ["x", "Ċ", "Ċ", "1234", "Ġ3", "ĠI", "'", "LL", "Ġdon", "'t", "Ġ//", "Ċ", "aB"]
BY_DIGIT = ["x", "ĊĊ", *"1234", "Ġ", "3", "ĠI", "'", "LL", "Ġdon", "'t", "Ġ//", "Ċ", "aB"]
IN_THREES = ["x", "ĊĊ", "123", "4", "Ġ", "3", "ĠI", "'LL", "Ġdon", "'t", "Ġ//Ċ", "aB"]
QWEN2_CUT = ["x", "ĊĊ", *"1234", "Ġ", "3", "ĠI", "'LL", "Ġdon", "'t", "Ġ//Ċ", "aB"]
TEKKEN_CUT = ["x", "ĊĊ", *"1234", "Ġ", "3", "ĠI", "'LL", "Ġdon", "'t", "Ġ//Ċ", "a", "B"]
GPT4O_CUT = ["x", "ĊĊ", "123", "4", "Ġ", "3", "ĠI'LL", "Ġdon't", "Ġ//Ċ", "a", "B"]


@pytest.mark.parametrize(
    ("pre", "pieces", "note"),
    [
        *((name, BY_DIGIT, None) for name, cut in CUTS.items() if cut.pattern == DIGITS),
        *((name, GPT2_CUT, None) for name, cut in CUTS.items() if cut.pattern == GPT2),
        *((name, IN_THREES, None) for name in ("llama-bpe", "llama3", "smaug-bpe", "dbrx")),
        *((name, QWEN2_CUT, None) for name in ("qwen2", "deepseek-r1-qwen")),
        ("tekken", TEKKEN_CUT, None),
        *((name, GPT4O_CUT, None) for name in ("gpt-4o", "llama4")),
        ("never-heard", GPT2_CUT, "tokenizer.ggml.pre is 'never-heard'"),
    ],
)
def test_texts_are_cut_as_the_file_says(
    pre: str, pieces: list[str], note: str | None, tmp_path: Path, cache: Path
) -> None:
    write(tmp_path / "m.gguf", add=retold({"pre": pre}))
    file = read_model_file(tmp_path / "m.gguf")
    text = "x\n\n1234 3 I'LL don't //\naB"
    cut = file.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [piece for piece, _ in cut] == pieces
    assert [said[: len(note or "")] for said in file.notes()] == ([note] if note else [])
    assert file.tokenizer.decode(file.tokenizer.encode(text), skip_special_tokens=True) == text


def test_a_word_that_is_a_token_is_not_made_of_merges(tmp_path: Path, cache: Path) -> None:
    merges = json.loads(tokenizer().backend_tokenizer.to_str())["model"]["merges"]
    word = next("".join(one) for one in merges if "".join(one).isascii())
    kept = [" ".join(one) for one in merges if "".join(one) != word]
    for name, cut in CUTS.items():
        write(tmp_path / "m.gguf", add=retold({"pre": name, "merges": kept}))
        ids = read(tmp_path / "m.gguf").encode(word, add_special_tokens=False)
        assert (len(ids) == 1) == cut.keeps_words


def test_how_a_text_begins_where_the_file_does_not_say(tmp_path: Path, cache: Path) -> None:
    for pre, begins in (("smollm", False), ("qwen2", False), ("llama-bpe", True)):
        write(tmp_path / "m.gguf", add=retold({"pre": pre, "add_bos_token": None}))
        assert (read(tmp_path / "m.gguf").encode("a")[0] == 2) == begins


WORDS = ["▁", *"abcdehlnorw,", "he", "ll", "llo", "hell", "hello", "▁a", "▁hello", "or", "▁wor"]
WORDS += ["ab", "bc", "abc", "▁▁", "<think>", "\n"]


def spelled(gemma: bool) -> dict[str, Any]:
    """Return a vocabulary of SentencePiece's kind, with scores that no order gives away."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    places = range(TEXT_VOCAB - len(tokens) - len(WORDS))
    tokens += ["  " if gemma and one == "▁▁" else one for one in WORDS]
    tokens += [f"<unused{place}>" for place in places]
    kinds = [3, 3, 3, 2] + [6] * 256 + [4 if one == "<think>" else 1 for one in WORDS]
    mixed = [float(place * 7919 % 101) for place in range(TEXT_VOCAB)]
    return {
        "model": "llama",
        "pre": "default",
        "tokens": tokens,
        "token_type": kinds + [5] * len(places),
        "scores": mixed,
        "merges": None,
        "unknown_token_id": 3,
    }


def by_score(text: str, score: dict[str, float]) -> list[str]:
    """Cut a text as SentencePiece does: the best pair of neighbours becomes one, and again."""
    parts = list(text)
    while True:
        pairs = [(score[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in score]
        if not pairs:
            break
        place = -max(pairs)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return [
        one
        for part in parts
        for one in ([part] if part in score else [f"<0x{byte:02X}>" for byte in part.encode()])
    ]


@pytest.mark.parametrize("name", ["llama", "phi3", "gemma3"])
@pytest.mark.parametrize("has_prefix", [True, False])
def test_sentence_pieces_are_merged_by_score(
    name: str, has_prefix: bool, tmp_path: Path, cache: Path
) -> None:
    parts = spelled(gemma=name == "gemma3")
    write(tmp_path / "m.gguf", name, add=retold({**parts, "add_space_prefix": has_prefix}))
    ours = read(tmp_path / "m.gguf")
    tokens = ["▁▁" if token == "  " else token for token in parts["tokens"]]
    scores = [-place for place in range(len(tokens))] if name == "gemma3" else parts["scores"]
    score = {
        token: float(number)
        for token, number, kind in zip(tokens, scores, parts["token_type"], strict=True)
        if kind == 1
    }
    for text in (
        "hello world",
        "hell or abc",
        "  hello  abcabc",
        "Zwö,\nlf",
        "abc",
        "a 日本",
        "  ",
    ):
        begun = " " + text if has_prefix and name == "phi3" else text
        if has_prefix and name == "llama" and not text.startswith(" "):
            begun = " " + text
        expected = by_score(begun.replace(" ", "▁"), score)
        ids = ours.encode(text)
        assert ours.convert_ids_to_tokens(ids) == ["<bos>", *expected]
        spaces = name == "llama" and has_prefix and text.startswith(" ")  # one is the prefix again
        assert ours.decode(ids, skip_special_tokens=True) == text[spaces:]
    whole = ours.encode("a<think>abc", add_special_tokens=False)
    assert tokens.index("<think>") in whole, "matched whole, before anything is merged"
