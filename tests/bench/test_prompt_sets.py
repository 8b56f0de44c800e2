"""The seventy prompts: how many of what, lengths, no copies; and files of one's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from foredraft.bench.prompt_sets import INSTRUCTION, load_prompts
from foredraft.errors import ConfigError


def test_there_are_seventy_of_four_kinds() -> None:
    counts = Counter(item.kind for item in load_prompts())
    assert counts == {"dialogue": 20, "translation": 20, "long": 10, "code": 20}


def test_no_two_are_alike() -> None:
    assert len({item.prompt for item in load_prompts()}) == 70


def test_translations_come_from_three_languages_and_ask_for_english() -> None:
    items = load_prompts(["translation"])
    assert all(item.prompt.startswith(INSTRUCTION) for item in items)
    languages = Counter(item.id.split("-")[1] for item in items)
    assert languages == {"fr": 7, "es": 7, "zh": 6}


def test_long_ones_have_lengths_of_their_own_from_two_to_four_hundred() -> None:
    lengths = [item.length for item in load_prompts(["long"])]
    assert min(lengths) == 200
    assert max(lengths) == 400
    assert len(set(lengths)) > 2


def test_code_prompts_are_python_that_is_not_finished() -> None:
    assert all("def " in item.prompt for item in load_prompts(["code"]))
    assert not any(item.prompt.endswith("\n") for item in load_prompts(["code"]))


def test_the_french_set_is_the_sentences_alone() -> None:
    french = load_prompts(["french"])
    whole = [i.prompt for i in load_prompts(["translation"]) if "-fr-" in i.id]
    assert [INSTRUCTION + item.prompt for item in french] == whole


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "Hello"}\n\n{"id": "x", "prompt": "Bye", "length": 7}\n')
    one, other = load_prompts([str(file)])
    assert (one.id, one.kind, one.prompt, one.length) == ("mine-01", "mine", "Hello", 60)
    assert (other.id, other.length) == ("x", 7)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": ""}', "prompt must be text that is not empty"),
        ('{"prompt": "a", "length": 0}', "length must lie in"),
        ('{"prompt": "a", "size": 3}', "unknown key 'size'"),
        ("[1]", "is no prompt"),
        ("not json", "is no prompt"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(ConfigError, match="line 1 of") as refusal:
        load_prompts([str(file)])
    assert words in str(refusal.value)


def test_unknown_sets_missing_files_and_double_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'dialogue'"):
        load_prompts(["dialog"])
    with pytest.raises(ConfigError, match=r"cannot read .*none\.jsonl"):
        load_prompts([str(tmp_path / "none.jsonl")])
    with pytest.raises(ConfigError, match="occurs twice"):
        load_prompts(["code", "code"])
    with pytest.raises(ConfigError, match="no prompts"):
        load_prompts([])


def test_the_first_of_each_kind_are_taken_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    lines = [
        f'{{"id": "{i}", "kind": "{kind}", "prompt": "text {i}"}}' for i, kind in enumerate("abaab")
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert [item.id for item in load_prompts([str(file)], max_prompts=2)] == ["0", "1", "2", "4"]
