"""The scheduler by itself: who joins, who leaves, and what fails with whom."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from foredraft.core import Completion
from foredraft.errors import ModelError
from foredraft.generation import Chunk, Generation
from foredraft.method import Method
from foredraft.models import Feed, Output
from foredraft.server import scheduler as module
from foredraft.server.scheduler import ClosedError, Failed, Job, QueueFullError, Scheduler
from tests.server.house import CONFIG, engine

PROMPT = "Once upon a time"


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler(engine().networks, max_parallel=2, max_queue=3)
    made.start()
    yield made
    made.stop()


class Asked:
    """A job and what it was told."""

    def __init__(self, prompt: str = PROMPT, length: int = 12, **settings: Any) -> None:
        self.events = queue.Queue[Any]()
        config = CONFIG.replace(length=length, sampler="greedy", seed=0, **settings)
        method = Method.of(config, "speculative")
        tokens = engine().encode(prompt)
        self.begin: Callable[[], Generation] = lambda: engine().stream_tokens(tokens, method)
        self.job = Job(lambda: self.begin(), lambda job, event: self.events.put(event))

    def end(self) -> Completion | Failed:
        """Return how it ended."""
        while True:
            event = self.events.get(timeout=20)
            if not isinstance(event, Chunk):
                return event  # type: ignore[no-any-return]

    @property
    def text(self) -> str:
        ended = self.end()
        assert isinstance(ended, Completion)
        return ended.text


def test_jobs_end_in_their_texts_and_more_wait_than_run(scheduler: Scheduler) -> None:
    asked = [Asked(f"{PROMPT} {name}") for name in ("Tim", "Lily", "Sam", "Mia", "Ben")]
    scheduler.submit([one.job for one in asked])
    texts = [one.text for one in asked]
    assert scheduler.is_idle
    alone = []
    for one in asked:
        scheduler.submit([again := Asked().job])
        again.begin, events = one.begin, queue.Queue[Any]()
        again.tell = lambda job, event, events=events: events.put(event)  # type: ignore[misc]
        while not isinstance(event := events.get(timeout=20), Completion):
            pass
        alone.append(event.text)
    assert texts == alone


def held_up(scheduler: Scheduler, count: int) -> tuple[list[Asked], threading.Event]:
    """Submit jobs of which the first does not begin before an event is set."""
    gate, asked = threading.Event(), [Asked(length=400) for _ in range(count)]
    begin = asked[0].begin

    def late() -> Generation:
        gate.wait(20)
        return begin()

    asked[0].begin = late
    scheduler.submit([one.job for one in asked])
    return asked, gate


def test_a_full_queue_takes_all_of_a_request_or_nothing(scheduler: Scheduler) -> None:
    last, late = Asked(), Asked()  # whoever reads a prompt waits for the gate, too
    asked, gate = held_up(scheduler, 4)
    with pytest.raises(QueueFullError, match="waiting"):
        scheduler.submit([last.job, late.job])
    scheduler.submit([last.job])
    with pytest.raises(QueueFullError):
        scheduler.submit([late.job])
    scheduler.cancel([one.job for one in asked])
    gate.set()
    assert last.text


def test_who_is_cancelled_leaves_the_queue_and_the_pass(scheduler: Scheduler) -> None:
    asked, gate = held_up(scheduler, 4)
    scheduler.cancel([one.job for one in asked[1:]])
    gate.set()
    assert asked[0].events.get(timeout=20)
    scheduler.cancel([asked[0].job])
    end = time.monotonic() + 5
    while not scheduler.is_idle:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert all(one.events.empty() for one in asked[1:])
    request = asked[0].job.running.request
    assert not request.finished
    assert not request.context.is_open, "its memory is the next text's"


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_others(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 8)
    quick, long = Asked(length=60), Asked(" ".join([PROMPT] * 20), length=3)
    scheduler.submit([quick.job])
    assert quick.events.get(timeout=20)
    scheduler.submit([long.job])
    text = long.text
    assert text == long_alone(" ".join([PROMPT] * 20))
    assert quick.text
    assert long.job.prompt_seconds > 0
    late = Asked(" ".join([PROMPT] * 20), length=3)
    scheduler.submit([late.job])
    while late.job.generation is None:
        time.sleep(0.0005)
    scheduler.cancel([late.job])
    end = time.monotonic() + 5
    while not scheduler.is_idle:
        assert time.monotonic() < end
        time.sleep(0.01)


def long_alone(prompt: str) -> str:
    config = CONFIG.replace(length=3, sampler="greedy")
    return engine().generate(prompt, config, method="target").text


def test_a_step_that_fails_ends_its_texts_and_the_next_ones_run(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = engine().target.model
    forward = network.forward

    def failing(feeds: Sequence[Feed]) -> list[Output]:
        raise RuntimeError("the machine is on fire")

    asked, gate = held_up(scheduler, 3)
    monkeypatch.setattr(network, "forward", failing)
    gate.set()
    for one in asked[:2]:
        ended = one.end()
        assert isinstance(ended, Failed)
        assert isinstance(ended.error, ModelError)
        assert "on fire" in str(ended.error)
    monkeypatch.setattr(network, "forward", forward)
    asked[2].end()
    scheduler.submit([(after := Asked()).job])
    assert after.text


def test_one_text_that_fails_leaves_the_others_alone(scheduler: Scheduler) -> None:
    bad, good = Asked(), Asked(length=30)

    def broken() -> Generation:
        raise ModelError("no such thing")

    bad.begin = broken
    scheduler.submit([bad.job, good.job])
    assert isinstance(bad.end(), Failed)
    assert good.text


def test_what_is_closed_takes_nothing_and_what_is_stopped_says_so(scheduler: Scheduler) -> None:
    late = Asked()
    asked, gate = held_up(scheduler, 2)
    scheduler.close()
    with pytest.raises(ClosedError):
        scheduler.submit([late.job])
    threading.Timer(0.2, gate.set).start()
    scheduler.stop()
    for one in asked:
        ended = one.end()
        assert isinstance(ended, Failed | Completion)
    assert isinstance(ended, Failed)
    assert "shut down" in str(ended.error)
