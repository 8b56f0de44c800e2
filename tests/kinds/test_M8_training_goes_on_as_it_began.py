"""Training goes on only with what it began with; what is wrong is refused before hours of it."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from foredraft.cli.main import main
from foredraft.errors import ConfigError
from foredraft.zoo.record import DECIDE_NOTHING, RECORD, record_of
from foredraft.zoo.run import Run
from foredraft.zoo.start import holding
from foredraft.zoo.training import Progress, train
from tests.zoo.commanded import arguments, command, ignore, quick_and_quiet
from tests.zoo.tiny_recipe import RECIPE, drafter_recipe, make_run

__all__ = ["quick_and_quiet"]  # a fixture


# --- changed --------------------------------------------------------------------------------------


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field of a recipe, nested ones by their path."""
    for field in fields(value):
        inner, name = getattr(value, field.name), f"{prefix}{field.name}"
        if is_dataclass(inner):
            yield from leaves(inner, f"{name}.")
        elif isinstance(inner, tuple):
            for number, one in enumerate(inner):
                yield from leaves(one, f"{name}[{number}].")
        else:
            yield name, inner


def changed(value: Any, path: str) -> Any:
    """Return a recipe in which one field, named by its path, has another value."""
    first, _, rest = path.partition(".")
    name, _, index = first.partition("[")
    inner = getattr(value, name)
    if index:
        items = list(inner)
        items[int(index[:-1])] = changed(items[int(index[:-1])], rest)
        return replace(value, **{name: tuple(items)})
    return replace(value, **{name: changed(inner, rest) if rest else _another(inner)})


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 0.7 + 0.13 if isinstance(value, float) else f"{value}x"


TINY = RECIPE.replace(
    "[training]", "[training]\ncheckpoint_seconds = 99\nwarmup_steps = 3"
).replace("warmup_steps = 2", "")


def test_every_field_that_decides_the_weights_is_refused_by_its_name(tmp_path: Path) -> None:
    run = make_run(tmp_path, TINY)
    with pytest.raises(KeyboardInterrupt):
        train(run, _interrupt)
    tried = 0
    for path, _ in leaves(run.recipe):
        last = path.rpartition(".")[2]
        if path.endswith("].path") or last in ("from_model", "ours", "format", "distillation"):
            continue  # files, and what says how to find them: see below
        try:
            other = replace(run, recipe=changed(run.recipe, path))
        except ConfigError:  # the new value is illegal for itself
            continue
        tried += 1
        if last in DECIDE_NOTHING:
            assert record_of(other) == record_of(run)
            continue
        with pytest.raises(ConfigError, match=re.escape(path)):
            train(other, ignore)
    assert tried > 25
    train(run, ignore)  # and what it began with goes on


def _interrupt(progress: Progress, loss: float) -> None:
    if progress.step == 2:
        raise KeyboardInterrupt


def test_changed_files_are_refused_by_their_names(tmp_path: Path) -> None:
    teacher = make_run(tmp_path / "teacher")
    main(arguments(teacher))
    run = make_run(tmp_path, drafter_recipe(teacher.out_dir))
    with pytest.raises(KeyboardInterrupt):
        train(run, _interrupt)
    parts = {
        "data[0].path": run.data_dir / "stories.txt",
        "data[1].path": run.data_dir / "pairs.tsv",
        "tokenizer.from_model": teacher.out_dir / "tokenizer.json",
        "distillation.teacher": teacher.out_dir / "model.safetensors",
    }
    for name, file in parts.items():
        before = file.read_bytes()
        file.write_bytes(before[:-1] + b"!")
        with pytest.raises(ConfigError, match="give another --run-dir") as refusal:
            train(run, ignore)
        assert name in str(refusal.value)
        file.write_bytes(before)
    moved = run.data_dir.rename(tmp_path / "moved")
    train(replace(run, data_dir=moved), ignore)  # what is in them counts, not where they lie


def test_the_command_names_the_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    assert command(run, capsys)[0] == 0
    run.recipe_path.write_text(RECIPE.replace("seed = 3", "seed = 4"))
    code, errors = command(run, capsys)
    assert (code, errors.count("\n")) == (2, 1)
    assert "seed 3 (now 4)" in errors


# --- refused before it begins ---------------------------------------------------------------------


def a_file(run: Run) -> None:
    run.out_dir.write_text("")


def notes(run: Run) -> None:
    run.out_dir.mkdir()
    (run.out_dir / "notes.txt").write_text("mine")


def another_model(run: Run) -> None:
    run.out_dir.mkdir()
    (run.out_dir / "model.safetensors").write_text("mine")


PLACES: dict[str, tuple[Callable[[Run], Run], str]] = {
    "a file": (lambda r: (a_file(r), r)[1], "is no folder"),
    "something else": (lambda r: (notes(r), r)[1], "is not empty: 'notes.txt'"),
    "another model": (lambda r: (another_model(r), r)[1], "holds another model"),
    "the run folder": (lambda r: replace(r, out_dir=r.run_dir), "holds the run folder"),
    "above the run": (lambda r: replace(r, out_dir=r.run_dir.parent), "holds the run folder"),
    "below a file": (lambda r: replace(r, out_dir=r.recipe_path / "x"), "cannot write"),
    "nowhere": (lambda r: replace(r, out_dir=Path("/proc/nowhere/x")), "cannot write"),
    "run below a file": (lambda r: replace(r, run_dir=r.recipe_path / "x"), "--run-dir|cannot"),
    "too long": (lambda r: replace(r, out_dir=r.run_dir / ("x" * 300)), "cannot write"),
    "no data": (lambda r: replace(r, data_dir=r.run_dir / "none"), "give --data"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_bad_place_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    make, words = PLACES[place]
    run = make(make_run(tmp_path))
    code, errors = command(run, capsys)
    assert (code, errors.count("\n")) == (2, 1)
    assert any(word in errors for word in words.split("|"))
    if place != "run below a file":
        assert not (run.run_dir / RECORD).exists()


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ("num_attention_heads = 2", "num_attention_heads = 3", "change [model]"),
        ("num_key_value_heads = 1", "num_key_value_heads = 5", "change [model]"),
        ("sample_mb = 0.01", 'from_model = "target"', "set vocab_size to that"),
        ("[[data]]", '[distillation]\nteacher = "target"\n[[data]]', "they must be equal"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], was: str, now: str, words: str
) -> None:
    run = make_run(tmp_path, RECIPE.replace(was, now, 1))
    code, errors = command(run, capsys)
    assert (code, errors.count("\n")) == (2, 1)
    assert words in errors
    assert not run.run_dir.exists()


def test_too_little_room_is_said_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    run = make_run(tmp_path)
    with pytest.raises(ConfigError, match=r"has room for 0 MB and needs about \d MB"):
        holding(run).__enter__()
    assert not run.run_dir.exists()


def test_the_record_is_plain_values(tmp_path: Path) -> None:
    record = record_of(make_run(tmp_path))
    assert json.loads(json.dumps(record)) == record
    assert record["seed"] == 3
