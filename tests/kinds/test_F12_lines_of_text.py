"""There is one reader of lines: they end at a line feed, whatever else a text holds."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest

from foredraft.bench.recordings import read_recordings
from foredraft.cli.shell import piped_lines
from tests.cli.conftest import Run, loaded, run
from tests.toy_engine import PROMPT, tokenizer

__all__ = ["loaded", "run"]  # fixtures
PACKAGE = Path(__file__).parents[2] / "foredraft"
ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"  # what str.splitlines takes for an end besides \n
# Read what the kernel writes, or what the package itself ships.
OTHERS = {
    "server/memory.py",
    *("bench/machine.py", "native/compiler.py", "threads.py", "template.py"),
    *("zoo/__init__.py", "zoo/corpus.py"),
}


def readers(path: Path) -> list[str]:
    """Return the calls in a module that read a file as text, or cut a text into lines."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in ("splitlines", "read_text", "readlines", "readline"):
                found.append(name)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            arguments = [ast.unparse(a) for a in node.args]
            if node.func.id == "open" and "os.devnull" not in arguments and "'wb'" not in arguments:
                found.append("open")
    return found


def test_no_module_has_a_reader_of_its_own() -> None:
    names = {p.relative_to(PACKAGE).as_posix(): p for p in PACKAGE.rglob("*.py")}
    assert {name for name, path in names.items() if readers(path)} - {"files.py"} == OTHERS


@pytest.mark.parametrize("end", ENDS, ids=ascii)
@pytest.mark.usefixtures("loaded")
def test_what_generate_prints_can_be_replayed(end: str, run: Run, tmp_path: Path) -> None:
    prompt = f"{PROMPT}{end}{PROMPT}"
    if end in "\x0b\x0c\x1c\x1d\x1e\x85":  # control characters; not text in a prompt everywhere
        file = tmp_path / "given.jsonl"
        line = json.dumps({"prompt": PROMPT, "response": prompt}, ensure_ascii=False)
        file.write_bytes(f"{line}\n".encode())
    else:
        code, out, err = run("generate", "--prompt", prompt, "--length", "9", "--json")
        assert (code, err) == (0, "")
        assert [json.loads(line)["prompt"] for line in out.splitlines()] == [prompt] * 3
        file = tmp_path / "printed.jsonl"
        file.write_bytes(out.encode())
    code, _, err = run("replay", str(file), "--drafting", "suffix", "--policy", "fixed")
    assert (code, err) == (0, "")


def test_a_recording_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(
    tmp_path: Path,
) -> None:
    file = tmp_path / "run.jsonl"
    line = json.dumps({"prompt": PROMPT, "response": "a\u2028b\x85c"}, ensure_ascii=False)
    file.write_bytes(f"\ufeff{line}\r\n{line}\r\n".encode())
    assert len(read_recordings(file, tokenizer())) == 2


@pytest.mark.parametrize("words", ["replay", "advise --prompts", "generate --prompts-file"])
def test_a_file_that_is_no_utf8_is_refused_by_name(words: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b'{"prompt": "caf\xe9"}\n')
    code, out, err = run(*words.split(), str(file))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "latin.txt' is not UTF-8 (byte 15)" in err


def test_piped_lines_end_at_line_feeds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = f"\ufeffone{ENDS}two\r\n/seed 7\n\u2028\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
    assert list(piped_lines()) == [f"one{ENDS}two", "/seed 7", "\u2028"]
