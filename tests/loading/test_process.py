"""Loading a model changes nothing that belongs to the whole process; programs change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging

from foredraft import Engine, LoadOptions, threads
from foredraft.bench.worker import Pair
from foredraft.cli.main import main
from foredraft.loading import load
from foredraft.loading.loader import load_tokenizer

ON_CPU = LoadOptions(device="cpu")
HAS, WORTH = 3, 13  # threads of torch, before; of the bundled target

Process = tuple[Any, ...]


def process() -> Process:
    """Return what belongs to the whole process."""
    return (
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        are_progress_bars_disabled(),
    )


@pytest.fixture(autouse=True)
def before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """Be a process of 64 processors that nobody has told anything."""
    num_threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    monkeypatch.setattr(threads, "_all_threads", 64)
    monkeypatch.setattr(threads, "usable_threads", lambda: 64)
    torch.set_num_threads(HAS)
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    yield process()
    torch.set_num_threads(num_threads)
    logging.set_verbosity(verbosity)


LOADING: dict[str, Callable[[], object]] = {
    "a pair": lambda: Engine.load(options=ON_CPU).generate("Once upon a time"),
    "another runtime": lambda: load(
        "bundled", "target", LoadOptions(device="cpu", runtime="transformers")
    ),
    "an encoder–decoder pair": lambda: Engine.load("bundled-seq2seq", options=ON_CPU),
    "a tokenizer": lambda: load_tokenizer("bundled"),
}


@pytest.mark.parametrize("load_it", LOADING.values(), ids=LOADING)
def test_loading_leaves_the_process_as_it_was(load_it: Callable[[], object], before: Any) -> None:
    load_it()
    assert process() == before


PROGRAMS: dict[str, Callable[[], object]] = {
    "the command line": lambda: main(
        ["generate", "--prompt", "Once", "--device", "cpu", "--length", "2"]
    ),
    "a worker": Pair("bundled", None, ON_CPU, ON_CPU).load,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_programs_fit_the_threads_and_silence_transformers(program: Callable[[], object]) -> None:
    program()
    assert torch.get_num_threads() == WORTH
    assert logging.get_verbosity() == logging.ERROR
    assert not logging.is_progress_bar_enabled()
