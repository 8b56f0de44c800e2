"""Training writes whole files or none, goes on only as it began, and is refused early or never."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from foredraft import files
from foredraft.cli.main import main
from foredraft.errors import ConfigError
from foredraft.zoo import streams
from foredraft.zoo.recipe import Recipe
from foredraft.zoo.record import DECIDE_NOTHING, RECORD, record_of
from foredraft.zoo.run import Run
from foredraft.zoo.start import holding
from foredraft.zoo.training import Progress, train
from tests.zoo.tiny_recipe import RECIPE, drafter_recipe, make_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(streams, "HELD_OUT_TOKENS", 10 * 257)
    precision, handler = torch.get_float32_matmul_precision(), signal.getsignal(signal.SIGTERM)
    yield
    torch.set_float32_matmul_precision(precision)
    signal.signal(signal.SIGTERM, handler)


def ignore(progress: Progress, loss: float) -> None:
    """Report nothing."""


def arguments(run: Run) -> list[str]:
    flags = ["--run-dir", str(run.run_dir), "--out", str(run.out_dir), "--data", str(run.data_dir)]
    return ["train", str(run.recipe_path), *flags, "--no-compile", "--device", "cpu"]


def command(run: Run, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `foredraft train`; return the exit code and what it says of errors."""
    code = 0
    try:
        main(arguments(run))
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().err


def is_whole(folder: Path) -> bool:
    """Whether a published folder is there with all that belongs to it."""
    names = {"config.json", "model.safetensors", "tokenizer.json", "recipe.toml", "CARD.md"}
    return names <= {path.name for path in folder.iterdir()} and bool(
        load_file(folder / "model.safetensors")
    )


# --- killed ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process were gone: nothing that follows is done."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing happened to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "HELD_OUT_TOKENS", 10 * 257)
        run = make_run(tmp_path_factory.mktemp("undisturbed"))
        train(run, ignore)
    held: dict[str, torch.Tensor] = torch.load(run.checkpoint_path, weights_only=True)["model"]
    return held


@pytest.mark.parametrize("at", range(14))
def test_whichever_move_it_is_killed_at_the_next_start_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    undisturbed: dict[str, torch.Tensor],
    at: int,
) -> None:
    run, moves = make_run(tmp_path), [0]

    def dying(move: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*args: Any, **kwargs: Any) -> Any:
            if moves[0] == at:
                raise Killed
            moves[0] += 1
            return move(*args, **kwargs)

        return moved

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "fsync"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)  # a killed process cleans up
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # nothing
        patch.setattr("foredraft.zoo.training._save", _dead_after(moves, at, patch))
        with contextlib.suppress(Killed):
            main(arguments(run))
    capsys.readouterr()
    code, errors = command(run, capsys)
    assert (code, errors) == (0, "")
    assert is_whole(run.out_dir)
    held = torch.load(run.checkpoint_path, weights_only=True)["model"]
    assert all(torch.equal(held[name], weight) for name, weight in undisturbed.items())
    left = [path.name for path in run.run_dir.iterdir() if path.name.startswith(".")]
    assert left == [".lock"]


def _dead_after(moves: list[int], at: int, patch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return `_save` as a killed process has it: not at all."""
    from foredraft.zoo import training

    save = training._save

    def saved(*args: Any) -> None:
        if moves[0] < at:
            save(*args)

    return saved


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5])
def test_sigkill_at_any_moment_is_survived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: float
) -> None:
    run = make_run(tmp_path, RECIPE.replace("steps = 6", "steps = 30"))
    script = [sys.executable, "-m", "foredraft", *arguments(run)]
    with subprocess.Popen(script, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while not (run.run_dir / RECORD).exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        process.kill()
    code, errors = command(run, capsys)
    assert (code, errors) == (0, "")
    assert is_whole(run.out_dir)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"\x80\x05garbage"])
def test_a_broken_checkpoint_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    run = make_run(tmp_path)
    train(run, ignore)
    run.checkpoint_path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"reading the checkpoint .* delete it") as refusal:
        train(run, ignore)
    assert "\n" not in str(refusal.value)


def test_a_folder_of_unknown_parts_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run.run_dir / "tokenizer").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"without its run\.json, .* give another --run-dir"):
        train(run, ignore)


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


def recipe_of(tmp_path: Path) -> Recipe:
    return make_run(tmp_path, TINY).recipe


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


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(9))
def test_a_full_disk_is_a_sentence_and_the_next_start_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at: int,
) -> None:
    run, synced, sync = make_run(tmp_path), [0], os.fsync

    def full(number: int) -> None:
        if synced[0] == at:
            raise OSError(28, "No space left on device")
        synced[0] += 1
        sync(number)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        code, errors = command(run, capsys)
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: cannot write ")
    assert "No space left on device; " in errors
    assert not run.out_dir.exists()
    assert command(run, capsys) == (0, "")
    assert is_whole(run.out_dir)


@pytest.mark.parametrize("limit", [3_000, 60_000])
def test_a_limit_of_size_is_a_sentence_too(tmp_path: Path, limit: int) -> None:
    if sys.platform == "win32":
        pytest.skip("limits of a Unix")
    run = make_run(tmp_path)
    script = (
        "import resource, sys; from foredraft.cli.main import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); main(sys.argv[1:])"
    )
    line = [sys.executable, "-c", script, *arguments(run)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "error: cannot write" in done.stderr
    assert "Traceback" not in done.stderr


# --- published ------------------------------------------------------------------------------------


def test_an_earlier_publication_is_there_until_the_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    assert command(run, capsys)[0] == 0
    before = {p.name: p.read_bytes() for p in run.out_dir.iterdir()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("foredraft.zoo.publish.model_card", full)
        assert command(run, capsys)[0] == 2
    assert {p.name: p.read_bytes() for p in run.out_dir.iterdir()} == before
    assert command(run, capsys)[0] == 0


def test_the_record_is_plain_values(tmp_path: Path) -> None:
    record = record_of(make_run(tmp_path))
    assert json.loads(json.dumps(record)) == record
    assert record["seed"] == 3
