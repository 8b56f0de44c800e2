"""Training writes whole files or none: killed or out of room at any moment, it goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft import files
from foredraft.cli.main import main
from foredraft.errors import ConfigError
from foredraft.zoo import streams, training
from foredraft.zoo.record import RECORD
from foredraft.zoo.training import train
from tests.zoo.commanded import arguments, command, ignore, is_whole, quick_and_quiet
from tests.zoo.tiny_recipe import RECIPE, make_run

__all__ = ["quick_and_quiet"]  # a fixture

ROOT = Path(__file__).parents[2]


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
        with contextlib.suppress(Killed, SystemExit):
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


@pytest.mark.slow
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
