"""Text becomes documents, documents fall on one side of the split, and shares are kept."""

from __future__ import annotations

import ast
import json
import lzma
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foredraft.errors import ConfigError
from foredraft.zoo.corpus import (
    Document,
    Source,
    documents,
    python_functions,
    read_text,
    sample_texts,
    split,
    token_stream,
)
from foredraft.zoo.recipe import load_recipe


def source(path: str, format: str, **more: Any) -> Source:
    return Source(path=path, format=format, share=1.0, licence="own lines", **more)


def write_jsonl(path: Path, *records: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    path.write_text(lines, encoding="utf-8")


# --- the split ------------------------------------------------------------------------------------


def test_the_split_is_decided_by_the_key_alone() -> None:
    # CRC-32 of "123456789" is 0xCBF43926, the check value of the algorithm: 62 of 100.
    assert not Document("123456789", "any text").held_out
    held_out = [n for n in range(300) if Document(str(n), "").held_out]
    assert held_out == [37, 40, 73, 164, 181, 226]


def test_both_splits_together_are_everything_and_two_percent_are_held_out(tmp_path: Path) -> None:
    stories = [f"Story number {n}.\nIt has two lines." for n in range(4000)]
    (tmp_path / "a.txt").write_text("\n<|endoftext|>\n".join(stories), encoding="utf-8")
    here = source("a.txt", "documents")
    train, held = (split(here, tmp_path, held_out=side) for side in (False, True))
    assert Counter(d.text for d in [*train, *held]) == Counter(stories)
    assert 0.01 < len(held) / 4000 < 0.03


def test_the_split_does_not_depend_on_the_order(tmp_path: Path) -> None:
    stories = [f"Story number {n}." for n in range(500)]
    sides = []
    for seed in (0, 1):
        random.Random(seed).shuffle(stories)
        (tmp_path / "a.txt").write_text("<|endoftext|>".join(stories), encoding="utf-8")
        held = split(source("a.txt", "documents"), tmp_path, held_out=True)
        sides.append({d.text for d in held})
    assert sides[0] == sides[1] != set()


def test_all_translations_of_a_sentence_fall_on_one_side(tmp_path: Path) -> None:
    lines = [f"Sentence {n}.\tTraduction {k} de {n}.\tby" for n in range(400) for k in range(3)]
    (tmp_path / "a.tsv").write_text("\n".join(lines), encoding="utf-8")
    here = source("a.tsv", "pairs", template="To English: {second}\n{first}")
    train, held = (split(here, tmp_path, held_out=side) for side in (False, True))
    assert held
    assert not {d.key for d in train} & {d.key for d in held}


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.txt.xz"])
def test_text_is_read_plain_or_compressed_without_mark_and_with_unix_line_ends(
    tmp_path: Path, name: str
) -> None:
    raw = "\ufeffdéjà\r\nvu\n".encode()
    (tmp_path / name).write_bytes(lzma.compress(raw) if name.endswith("xz") else raw)
    assert read_text(tmp_path / name) == "déjà\nvu\n"


def test_pairs_follow_their_template_and_the_first_line_is_the_prompt(tmp_path: Path) -> None:
    text = "Go on.\tWeiter.\tsomeone\nno tab here\nOne two three four.\tEins zwei drei vier.\n"
    (tmp_path / "a.tsv").write_text(text, encoding="utf-8")
    here = source("a.tsv", "pairs", template="To English: {second}\n{first}", max_words=3)
    assert list(documents(here, tmp_path)) == [
        Document("Go on.", "To English: Weiter.\nGo on.", "To English: Weiter.")
    ]


def test_records_follow_their_template_and_lists_become_lines(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "a.jsonl",
        {"title": "A {title}", "pages": ["One.", "Two."]},
        {"title": "Talk", "pages": [["A", "Hi."], ["B", "Ho."]]},
    )
    found = documents(source("a.jsonl", "jsonl", template="{title}\n{pages}"), tmp_path)
    assert [(d.text, d.prompt) for d in found] == [
        ("A {title}\nOne.\nTwo.", "A {title}"),
        ("Talk\nA: Hi.\nB: Ho.", "Talk"),
    ]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b"])
def test_only_a_line_feed_ends_a_record(tmp_path: Path, separator: str) -> None:
    text = f"one{separator}two"
    (tmp_path / "a.tsv").write_text(f"{text}\teins\n", encoding="utf-8")
    pairs = source("a.tsv", "pairs", template="{second}\n{first}")
    assert [d.key for d in documents(pairs, tmp_path)] == [text]
    (tmp_path / "a.jsonl").write_text(f'{{"a": "{text}"}}\n', encoding="utf-8")
    if separator != "\x0b":  # JSON has no bare control characters
        records = source("a.jsonl", "jsonl", template="{a}")
        assert [d.text for d in documents(records, tmp_path)] == [text]


def test_an_id_range_is_respected_to_both_ends(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", *({"id": n, "text": f"number {n}"} for n in range(10)))
    here = source("a.jsonl", "jsonl", template="{text}", id_field="id", id_min=3, id_max=5)
    texts = [d.text for d in documents(here, tmp_path)]
    assert texts == ["number 3", "number 4", "number 5"]


@pytest.mark.parametrize("name", ["target", "drafter"])
def test_the_bundled_models_never_see_the_evaluation_problems_of_mbpp(
    tmp_path: Path, name: str
) -> None:
    (mbpp,) = (s for s in load_recipe(name).data if "mbpp" in s.path)
    plain = tmp_path / "plain.jsonl"
    problems = ({"task_id": n, "text": f"Task {n}.", "code": f"f{n}()"} for n in range(1, 975))
    write_jsonl(plain, *problems)
    packed = tmp_path / mbpp.path
    packed.parent.mkdir()
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    seen = {int(d.prompt[5:-1]) for d in documents(mbpp, tmp_path)}
    assert seen == set(range(601, 975))  # 1–10 are for prompts, 11–500 the test, 511–600 validation


@pytest.mark.parametrize(
    ("name", "raw", "format"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "jsonl"),
        ("a.jsonl", b'{"b": 1}\n', "jsonl"),
        ("a.txt.xz", b"no archive", "documents"),
        ("a.txt", b"\xff\xfe", "documents"),
        ("a.txt", b"text", "prose"),
    ],
    ids=["broken", "field", "archive", "encoding", "format"],
)
def test_training_text_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, raw: bytes, format: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ConfigError, match=r"a\.|prose"):
        list(documents(source(name, format, template="{a}"), tmp_path))


def test_missing_training_text_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt' does not exist; give --data the folder"):
        list(documents(source("none.txt", "documents"), tmp_path))


# --- Python ---------------------------------------------------------------------------------------

CODE = '''\
import os

LIMIT = 3


@decorator
def double(number):
    """Return twice the number.

    Args:
        number: any.
    """
    if number > LIMIT:
        return None
    return number + number


def tiny():
    pass


class Box:
    def method(self):
        return "a method is no function of the module"
'''
DOUBLE = '''\
def double(number):
    """Return twice the number."""
    if number > LIMIT:
        return None
    return number + number'''


def test_a_module_becomes_its_functions_each_with_a_docstring_of_one_line() -> None:
    assert python_functions(CODE) == [DOUBLE]
    assert python_functions(CODE, max_chars=len(DOUBLE) - 1) == []
    assert python_functions("def broken(:\n" + CODE) == []


@pytest.mark.parametrize(
    "docstring",
    [
        "'''He said \"stop\"'''",
        '"""A path: C:\\\\"""',
        "'''\"\"\"'''",
        'r"""\\d+ digits."""',
        '"One."',
    ],
)
def test_a_shortened_docstring_means_what_it_meant(docstring: str) -> None:
    code = f"def f(number):\n    {docstring}\n    return number + number + number\n"
    before = ast.parse(code).body[0]
    (shortened,) = python_functions(code)
    after = ast.parse(shortened).body[0]
    assert isinstance(before, ast.FunctionDef)
    assert isinstance(after, ast.FunctionDef)
    assert ast.get_docstring(after) == ast.get_docstring(before)


def test_our_own_functions_come_whole_without_annotations_and_without_docstring(
    tmp_path: Path,
) -> None:
    (ours,) = (s for s in load_recipe("target").data if s.ours)
    found = list(documents(ours, tmp_path))
    assert len(found) > 100
    for whole, bare, silent in zip(found[::3], found[1::3], found[2::3], strict=True):
        assert whole.key == bare.key == silent.key  # one side of the split for all three
        nodes = [ast.parse(d.text).body[0] for d in (whole, bare, silent)]
        assert all(isinstance(node, ast.FunctionDef) for node in nodes)
        docstrings = [ast.get_docstring(n) for n in nodes if isinstance(n, ast.FunctionDef)]
        assert docstrings[0]
        assert docstrings == [docstrings[0], docstrings[0], None]
        for node in nodes[1:]:
            parts = [n for n in ast.walk(node) if isinstance(n, (ast.arg, ast.FunctionDef))]
            assert not any(
                getattr(n, "annotation", None) or getattr(n, "returns", None) for n in parts
            )


# --- the stream -----------------------------------------------------------------------------------


def numbered(first: int, count: int, length: int) -> list[np.typing.NDArray[np.uint16]]:
    return [np.full(length, first + i, dtype=np.uint16) for i in range(count)]


def test_the_stream_has_the_exact_length_and_keeps_the_shares_at_every_point() -> None:
    sources = [numbered(0, 20, 7), numbered(100, 5, 40), numbered(200, 50, 3)]
    stream = token_stream(sources, [6.0, 3.0, 1.0], 5001, seed=1)
    assert stream.shape == (5001,)
    assert stream.dtype == np.uint16
    points = np.arange(1, 5002)
    for i, share in enumerate((0.6, 0.3, 0.1)):
        taken = np.cumsum(stream // 100 == i)
        assert np.abs(taken - share * points).max() <= 40  # never further than the longest document


def test_every_document_comes_once_before_any_comes_again() -> None:
    stream = token_stream([numbered(0, 30, 1)], [1.0], 90, seed=5)
    passes = [list(stream[i : i + 30]) for i in (0, 30, 60)]
    assert all(sorted(p) == list(range(30)) for p in passes)
    assert passes[0] != passes[1]


def test_the_stream_depends_on_its_seed_and_on_nothing_else() -> None:
    one, again, other = (
        token_stream([numbered(0, 30, 2)], [1.0], 50, seed=seed) for seed in (1, 1, 2)
    )
    assert (one == again).all()
    assert (one != other).any()


def test_a_sample_has_about_the_size_asked_for_and_no_document_twice() -> None:
    every = [Document(str(n), f"{n:010}") for n in range(100)]
    sample = sample_texts(every, 200, seed=3)
    assert len(sample) == len(set(sample)) == 20
    assert sample == sample_texts(every, 200, seed=3) != sample_texts(every, 200, seed=4)
    assert len(sample_texts(every, 10**6, seed=3)) == 100
