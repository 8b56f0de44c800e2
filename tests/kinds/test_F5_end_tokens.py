"""Every file that names an end token is heard; what is no token is refused by file and field."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from foredraft.loading import LoadedModel
from tests.folders import edit, outcome, refusal, write_folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def say(folder: Path, generation: Any, config: Any, spoken: int | None) -> None:
    """Let the three sources say what they say; `...` is silence."""
    for file, value in (("generation_config.json", generation), ("config.json", config)):
        edit(folder / file, lambda found, v=value: found.pop("eos_token_id", None))  # type: ignore[misc]
        if value is not ...:
            edit(folder / file, lambda found, v=value: found.update(eos_token_id=v))  # type: ignore[misc]
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    texts = {token: text for text, token in vocabulary.items()}
    name = None if spoken is None else texts[spoken]
    edit(folder / "tokenizer_config.json", lambda found: found.update(eos_token=name))


@pytest.mark.parametrize(
    ("generation", "config", "spoken", "expected"),
    [
        (1, ..., 3, (1, 3)),
        (1, 1, 3, (1, 3)),
        ([1, 4], 5, 3, (1, 3, 4, 5)),
        (..., 4, 3, (3, 4)),
        (..., ..., 3, (3,)),
        (None, None, 3, (3,)),
        (-1, 4, None, (4,)),
        ([-1, 1], -1, 3, (1, 3)),
        ([], [], 3, (3,)),
        (..., ..., None, (2,)),  # nobody speaks: the architecture's own
        ([], ..., None, ()),
    ],
)
def test_the_union_of_all_sources_ends_a_text(
    folder: Path, generation: Any, config: Any, spoken: int | None, expected: tuple[int, ...]
) -> None:
    say(folder, generation, config, spoken)
    loaded = outcome(folder)
    assert isinstance(loaded, LoadedModel)
    assert loaded.eos_token_ids == expected


def test_a_silent_folder_without_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    edit(folder / "config.json", lambda found: found.update(eos_token_id=[5, 6]))
    loaded = outcome(folder)
    assert isinstance(loaded, LoadedModel)
    assert {5, 6} < set(loaded.eos_token_ids)


@pytest.mark.parametrize("field", ["eos_token_id", "bos_token_id", "pad_token_id"])
def test_what_is_left_out_is_said(
    folder: Path, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    edit(folder / "generation_config.json", lambda found: found.update({field: -1}))
    assert isinstance(outcome(folder), LoadedModel)
    assert f"generation_config.json: {field} -1 is no token" in caplog.text


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize(
    "value",
    ["1", "</s>", 1.0, [1.0], ["1"], [[1]], {"a": 1}, True, [True], -2, 300, [1, 300], 10**12],
    ids=repr,
)
def test_what_is_no_end_token_is_refused(folder: Path, file: str, value: Any) -> None:
    edit(folder / file, lambda found: found.update(eos_token_id=value))
    refusal(folder, file, "eos_token_id")
