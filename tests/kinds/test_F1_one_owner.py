"""Mutable state has one owner: threads that share a network get the right text."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.loading.runtime import can_fuse
from foredraft.models import DecoderOnlyModel, Network, Recomputing
from foredraft.native import fused
from foredraft.native.compiler import load_library
from foredraft.native.fused import FusedModel
from foredraft.native.graphs import StaticModel
from foredraft.native.network import NativeModel
from foredraft.native.structures import SOURCE, with_types
from tests.tiny import TEXT_VOCAB, build, noisy, tokenizer

ROOT = Path(__file__).parents[2]
THREADS, GENERATIONS = 8, 200
SECONDS = 120  # after which threads that wait for each other are given up
PROMPTS = ("The quick brown", "A house by the sea", "One, two", "The dog does not mind")
METHODS = ("speculative", "ngram", "target", "drafter")
CONFIG = DecodingConfig(length=8, sampler="greedy", gamma=3)
RUNTIMES: dict[str, Callable[[Any], Network]] = {
    "compiled": FusedModel,
    "torch": NativeModel,
    "static": StaticModel,
    "transformers": DecoderOnlyModel,
    "recomputing": lambda network: Recomputing(NativeModel(network)),
}
runtimes = pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(name, marks=pytest.mark.skipif(not can_fuse(), reason="no C compiler here"))
        if name == "compiled"
        else name
        for name in RUNTIMES
    ],
)


def loaded(make: Callable[[Any], Network], network: Any) -> LoadedModel:
    return LoadedModel("tiny", make(network), tokenizer(), ())


def pair(runtime: str) -> tuple[LoadedModel, LoadedModel]:
    """Return a target and a draft model that is often right."""
    make = RUNTIMES[runtime]
    return (
        loaded(make, build("llama", vocab_size=TEXT_VOCAB)),
        loaded(make, noisy("llama", vocab_size=TEXT_VOCAB)),
    )


def in_threads(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Run the work in several threads at once, which change often; raise what one raises."""
    failures: list[BaseException] = []
    ready = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            ready.wait()
            work(number)
        except BaseException as error:  # of a thread, else lost
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        running = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in running), "threads wait for each other"
    finally:
        sys.setswitchinterval(before)
    if failures:
        raise failures[0]


def texts_of(engine: Engine) -> dict[tuple[str, str], list[int]]:
    return {
        (prompt, method): engine.generate(prompt, CONFIG, method=method).tokens
        for prompt in PROMPTS
        for method in METHODS
    }


def hammer(runtime: str, generations: int) -> None:
    """Let eight threads generate on one engine; every text is the one that one thread gets."""
    engine = Engine(*pair(runtime))
    expected = texts_of(Engine(*pair(runtime)))
    done: list[bool] = []

    def work(number: int) -> None:
        source = random.Random(number)
        for _ in range(generations // THREADS):
            key = (source.choice(PROMPTS), source.choice(METHODS))
            assert engine.generate(key[0], CONFIG, method=key[1]).tokens == expected[key]
            done.append(True)

    in_threads(work)
    assert len(done) == generations


@pytest.mark.parametrize("runtime", ["compiled", "torch"])
def test_eight_threads_on_one_engine_get_two_hundred_right_texts(runtime: str) -> None:
    if runtime == "compiled" and not can_fuse():
        pytest.skip("no C compiler here")
    hammer(runtime, GENERATIONS)


@pytest.mark.parametrize("runtime", ["static", "transformers", "recomputing"])
def test_the_other_runtimes_too(runtime: str) -> None:
    hammer(runtime, 24)


@pytest.mark.slow
@pytest.mark.skipif(not can_fuse(), reason="no C compiler here")
def test_eight_threads_under_the_sanitizers(tmp_path: Path) -> None:
    found = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=False
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(os.path.isabs(name) for name in found):
        pytest.skip("gcc has no sanitizers here")
    done = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as kind; kind.under_sanitizers()"],
        cwd=ROOT,
        env=os.environ
        | {
            "LD_PRELOAD": " ".join(found),
            "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
            "XDG_CACHE_HOME": str(tmp_path),
            "CC": "gcc",
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["compiled", "torch"]


def under_sanitizers() -> None:
    """Hammer both runtimes of a CPU; the C of this process is watched."""
    torch.set_num_threads(2)
    flags = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined")
    watched = with_types(load_library(SOURCE, *flags))
    fused.library = lambda: watched  # type: ignore[assignment]
    for runtime in ("compiled", "torch"):
        hammer(runtime, GENERATIONS)
        print(runtime)


@runtimes
def test_streams_of_several_threads_go_on_side_by_side(runtime: str) -> None:
    engine = Engine(*pair(runtime))
    expected = texts_of(Engine(*pair(runtime)))

    def work(number: int) -> None:
        source = random.Random(number)
        for _ in range(4):
            key = (source.choice(PROMPTS), source.choice(METHODS))
            stream = engine.stream(key[0], CONFIG, method=key[1])
            for _ in stream:
                pass
            assert stream.tokens == expected[key]
            assert engine.compare(key[0], CONFIG, [key[1]])[0].completion.tokens == expected[key]

    in_threads(work)


@runtimes
@pytest.mark.parametrize("method", METHODS)
def test_interleaved_streams_are_those_of_one_after_the_other(runtime: str, method: str) -> None:
    engine = Engine(*pair(runtime))
    streams = [engine.stream(prompt, CONFIG, method=method) for prompt in PROMPTS]
    chunks, left = [iter(stream) for stream in streams], set(range(len(streams)))
    source = random.Random(0)
    while left:
        which = source.choice(sorted(left))
        if next(chunks[which], None) is None:
            left.remove(which)
    for prompt, stream in zip(PROMPTS, streams, strict=True):
        assert (
            stream.tokens == Engine(*pair(runtime)).generate(prompt, CONFIG, method=method).tokens
        )


def test_a_stream_may_go_on_in_another_thread() -> None:
    engine = Engine(*pair("torch"))
    expected = engine.generate(PROMPTS[0], CONFIG).tokens
    in_threads(lambda _: bool(engine.generate(PROMPTS[1], CONFIG)), 2)  # each has begun one before
    stream = engine.stream(PROMPTS[0], CONFIG)
    chunks = iter(stream)
    while not stream.request.finished:
        in_threads(lambda _: bool(next(chunks)), 1)
    assert stream.tokens == expected
