"""Whatever the laboratory reads or writes as lines ends at line feeds, and comes back the same."""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from foredraft.bench.folder import RunFolder
from foredraft.bench.grid_file import load_grid, read_grid
from foredraft.bench.prompt_sets import load_prompts
from foredraft.bench.rows import Row, RowFile, to_line
from foredraft.cli.prompts_file import read_prompts
from foredraft.errors import ConfigError
from foredraft.zoo.recipe import load_recipe
from foredraft.zoo.teacher import _written
from tests.bench.toy_grid import TABLE, run_toy
from tests.zoo.tiny_recipe import RECIPE

ROOT = Path(__file__).parents[2]
ODD = "a\u2028b\u2029c\x0cd\x85e\x1c\x1d\x1e\x0bf\ufeff"  # all at which `str.splitlines` would cut
HOSTILE = (
    *(ODD, "two\nlines", "three\r\nlines\r", " two  spaces ", "\ttab", "\\n", "\\\\n", "\\u2028"),
    *(
        "",
        "'",
        "''",
        "'=1",
        "=1+1",
        "-1",
        "-cmd",
        "+3",
        "@x",
        "'-1",
        '"quoted", twice',
        "\x00\x1b[",
    ),
    *("\ud800", "\u202e", "None", "True", "nan", "\U0010ffff", "，", "＝1", "ok,failed", "\x7f"),
)
ALPHABET = "'\"=+-@\\nrtxuU0189abf\n\r\t\x0b\x0c\x85\u2028 ,\ud800\U0010ffff"
HINTS = get_type_hints(Row)
TEXTS = [f.name for f in fields(Row) if str in (get_args(HINTS[f.name]) or (HINTS[f.name],))]
ROW = Row(0, "c", "c", "", "target", "p", "k", 1)


@pytest.mark.parametrize("column", TEXTS)
def test_every_text_of_a_row_comes_back(tmp_path: Path, column: str) -> None:
    rng = random.Random(column)
    made = ["".join(rng.choices(ALPHABET, k=rng.randint(1, 9))) for _ in range(300)]
    rows = [Row(**{**vars(ROW), column: text}) for text in (*HOSTILE, *made)]
    assert all(to_line(row).count("\n") == 1 for row in rows)
    (tmp_path / "runs.csv").write_text(",".join(vars(ROW)) + "\n" + "".join(map(to_line, rows)))
    file = RowFile(tmp_path / "runs.csv")
    assert file.rows() == rows
    file.sort()
    assert file.rows() == rows


def test_every_number_of_a_row_comes_back(tmp_path: Path) -> None:
    numbers = {bool: True, int: -(10**18), float: -1.25e-300}
    kinds = {f.name: (get_args(HINTS[f.name]) or (HINTS[f.name],))[0] for f in fields(Row)}
    values = {name: numbers.get(kind, "x") for name, kind in kinds.items()}
    file = RowFile(tmp_path / "runs.csv")
    file.add(Row(**values))
    assert file.rows() == [Row(**values)]


def test_a_cell_may_be_as_long_as_a_long_generation(tmp_path: Path) -> None:
    row = Row(**{**vars(ROW), "trace": "4:0.123 " * 40_000})
    file = RowFile(tmp_path / "runs.csv")
    file.add(row)
    assert file.rows() == [row]


@pytest.mark.parametrize("cell", ["yes", "1", ""])
def test_what_is_neither_true_nor_false_is_no_row(tmp_path: Path, cell: str) -> None:
    file = RowFile(tmp_path / "runs.csv")
    file.add(ROW)
    text = file.file.read_text()
    file.file.write_text(text.replace(",False,", f",{cell},"))
    with pytest.raises(ConfigError, match="holds a line that is no row"):
        file.rows()


@pytest.mark.parametrize("line", ["a\rb,1", "0,\x00", '"', "0,c,c,,target,p,k,١,ok"])
def test_a_line_of_somebody_elses_is_a_sentence(tmp_path: Path, line: str) -> None:
    file = RowFile(tmp_path / "runs.csv")
    file.add(ROW)
    with file.file.open("a", newline="") as out:
        out.write(line + "\n")
    with pytest.raises(ConfigError, match="holds a line that is no row"):
        file.rows()


def test_a_run_of_odd_prompts_resumes_and_ends(tmp_path: Path) -> None:
    prompts = tmp_path / "odd.jsonl"
    lines = [{"id": f"{text}{i}", "prompt": "Sing", "length": 4} for i, text in enumerate(HOSTILE)]
    prompts.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    odd = {"prompts": [str(prompts)], "seeds": [1], "references": []}
    grid = read_grid({**TABLE, **odd, "experiment": [{"method": "ngram", "name": ODD}]})
    run_toy(tmp_path / "run", grid)
    folder = RunFolder(tmp_path / "run", grid, resume=True)
    assert folder.done == {task.key for block in grid.blocks() for task in block.tasks}
    assert run_toy(tmp_path / "run", grid, resume=True).num_new == 0


# --- files of a user's ----------------------------------------------------------------------------

GRID = 'name = "{name}"\nprompts = ["code"]\n[[experiment]]\nmethod = "ngram"\n'


def prompts_of(file: Path) -> str:
    file = file.rename(file.with_suffix(".jsonl"))
    return load_prompts([str(file)])[0].prompt


def line_of(file: Path) -> str:
    (prompt,) = read_prompts(str(file)).values()
    return prompt


def object_of(file: Path) -> str:
    return line_of(file.rename(file.with_suffix(".jsonl")))


JSON_ODD = json.dumps({"prompt": ODD}, ensure_ascii=False)
TOML_ODD = ODD.translate({c: None for c in (*range(0x20), 0x7F)})  # TOML allows no controls
READERS: dict[str, tuple[str, Callable[[Path], str], str]] = {
    "prompts": (JSON_ODD, prompts_of, ODD),
    "lines": (ODD.rstrip("\ufeff"), line_of, ODD.rstrip("\ufeff")),
    "objects": (JSON_ODD, object_of, ODD),
    "grid": (GRID.format(name=TOML_ODD), lambda file: load_grid(str(file)).name, TOML_ODD),
    "recipe": (
        RECIPE.replace("Knows who", f"Knows{TOML_ODD}"),
        lambda file: load_recipe(str(file.rename(file.with_suffix(".toml")))).summary,
        f"Knows{TOML_ODD} saw what, and where.",
    ),
    "teacher": ("[[[1, 2]]]", lambda file: str(_written(file)), "[[[[1, 2]]]]"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_texts_are_read_as_they_stand(
    tmp_path: Path, reader: str, begin: bytes, end: bytes
) -> None:
    text, read, expected = READERS[reader]
    file = tmp_path / "file"
    file.write_bytes(begin + text.replace("\n", end.decode()).encode() + end)
    assert read(file) == expected


BAD: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    f"{name}, {reader}": (content, READERS[reader][1])
    for reader in READERS
    for name, content in {"latin": b"caf\xe9\n", "deep": b"[" * 100_000 + b"\n"}.items()
    if reader != "lines" or name != "deep"  # a prompt like any other
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, bad: str) -> None:
    content, read = BAD[bad]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path / "file")
    assert "\n" not in str(refusal.value)


def test_nobody_cuts_lines_in_another_way() -> None:
    """One reader for all: `splitlines` and readers of text without a name for it are gone."""
    rooms = ("foredraft/bench", "foredraft/zoo", "foredraft/checks", "benchmarks", "docs/site")
    ours = re.compile(r"/proc|STATUS|first_names|CLEAR_REFS")  # the system's, or the package's
    for path in (p for room in rooms for p in (ROOT / room).glob("*.py")):
        if path.name in ("recordings.py", "__init__.py"):
            continue
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            line = source.split("\n")[getattr(node, "lineno", 1) - 1]
            assert name != "splitlines", f"{path}: {line}"
            assert name not in ("read_text", "write_text") or ours.search(line), f"{path}: {line}"
