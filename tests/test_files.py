"""Files: one reader of lines, whole files or none, one writer a folder; and text made harmless."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from foredraft.errors import ConfigError, ForedraftError, ModelError, RequestError, foreign
from foredraft.escape import for_cell, for_line, for_terminal
from foredraft.files import lines_of, only_writer, read_lines, read_text, write_whole


def test_lines_end_at_line_feeds_only() -> None:
    assert lines_of("a\u2028b\x0cc\x85d\r\ne\n\nf") == ["a\u2028b\x0cc\x85d", "e", "", "f"]
    assert lines_of("") == []
    assert lines_of("a\n") == ["a"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(b"\xef\xbb\xbf{}\n")
    assert read_lines(file) == ["{}"]


@pytest.mark.parametrize("name", ["absent", "\0", "x" * 5000, "."])
def test_what_cannot_be_read_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read") as refusal:
        read_text(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_other_encodings_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 3\)"):
        read_text(tmp_path / "latin")


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept"
    write_whole(file, "old")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(file, "new")
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of a Unix")
def test_permissions_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("old")
    file.chmod(0o640)
    write_whole(file, b"new")
    assert file.stat().st_mode & 0o777 == 0o640


def hold(folder: str, told: object) -> None:
    """Hold a folder until killed."""
    with only_writer(Path(folder), "this run"):
        told.set()  # type: ignore[attr-defined]
        multiprocessing.Event().wait()


def test_a_folder_has_one_writer_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    told = spawn.Event()
    process = spawn.Process(target=hold, args=(str(tmp_path), told), daemon=True)
    process.start()
    assert told.wait(60)
    with pytest.raises(ConfigError, match="another process is writing this run"):
        only_writer(tmp_path, "this run").__enter__()
    process.kill()
    process.join()
    with only_writer(tmp_path, "this run"):
        pass


def test_a_terminal_is_told_nothing() -> None:
    shown = for_terminal("a\x1b[2Jb\x9bc\rd\u202ee\u2028f\ud800g\x00\x7f\n\tü 中 🏽\u200d")
    assert shown == "a\\x1b[2Jb\\x9bc\\rd\\u202ee\\u2028f\\ud800g\\x00\\x7f\n\tü 中 🏽\u200d"
    assert for_line("a\nb\tc") == "a\\nb\\tc"


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@x", "\tx"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert for_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+3", "1e-9", "-.5e+3", "a=b", ""])
def test_numbers_and_words_stay_as_they_are(text: str) -> None:
    assert for_cell(text) == text


@pytest.mark.parametrize("error", [KeyError("warp"), MemoryError(), RecursionError("deep\nfull")])
def test_foreign_errors_become_one_sentence(error: Exception) -> None:
    def template() -> None:
        with foreign("the chat template", "switch chat off"):
            raise error

    with pytest.raises(ModelError, match="the chat template failed with") as translated:
        template()
    assert "\n" not in str(translated.value)
    assert translated.value.__cause__ is error


@pytest.mark.parametrize("error", [RequestError("ours"), KeyboardInterrupt()])
def test_our_own_errors_and_interrupts_pass(error: BaseException) -> None:
    def tokenizer() -> None:
        with foreign("the tokenizer", "choose another", ForedraftError):
            raise error

    with pytest.raises(type(error)) as passed:
        tokenizer()
    assert passed.value is error
