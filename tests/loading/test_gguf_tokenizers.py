"""The tokenizer of a GGUF file is transformers' own, and a cache decides how soon, never which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer

from foredraft.cache import SUMS
from foredraft.errors import ModelError
from foredraft.loading import gguf_tokenizer
from foredraft.loading.gguf_header import read_gguf_header
from foredraft.loading.gguf_model import read_model_file
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


def test_it_is_that_of_transformers_and_of_the_model(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "m.gguf")
    made, kept = read(tmp_path / "m.gguf"), read(tmp_path / "m.gguf")
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for ours in (made, kept):
        assert_same(ours, theirs)
        assert_same(ours, tokenizer())
        assert len(ours) == TEXT_VOCAB, "no token that the network has no row for"
        assert ours.chat_template == tokenizer().chat_template
        assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == (2, 1, 0)
        message = [{"role": "user", "content": "hi"}]
        rendered = ours.apply_chat_template(message, tokenize=False)
        assert rendered == tokenizer().apply_chat_template(message, tokenize=False)
    assert_same(load_tokenizer(str(tmp_path / "m.gguf")), theirs)


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
        ("model", "replit", r"tokenizer.ggml.model must be one of gemma4, gpt2, llama, t5"),
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


@pytest.mark.parametrize(
    ("pre", "pieces", "note"),
    [
        ("smollm", ["x", "ĊĊ", "1", "2", "Ġ", "3"], None),
        ("starcoder", ["x", "ĊĊ", "1", "2", "Ġ", "3"], None),
        ("gpt-2", ["x", "Ċ", "Ċ", "12", "Ġ3"], None),
        ("never-heard", ["x", "Ċ", "Ċ", "12", "Ġ3"], "tokenizer.ggml.pre is 'never-heard'"),
    ],
)
def test_texts_are_cut_as_the_file_says(
    pre: str, pieces: list[str], note: str | None, tmp_path: Path, cache: Path
) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        for held in writer.kv_data:
            held.pop("tokenizer.ggml.pre", None)
        writer.add_tokenizer_pre(pre)

    write(tmp_path / "m.gguf", add=add)
    file = read_model_file(tmp_path / "m.gguf")
    cut = file.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("x\n\n12 3")
    assert [piece for piece, _ in cut] == pieces
    assert [said[: len(note or "")] for said in file.notes()] == ([note] if note else [])
