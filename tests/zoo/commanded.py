"""The command `foredraft train` on the tiny recipe, in process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from foredraft.cli.main import main
from foredraft.zoo import streams
from foredraft.zoo.run import Run
from foredraft.zoo.training import Progress


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
