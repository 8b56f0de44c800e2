"""The scheduler: one thread that owns the networks, and the texts that share its passes.

Requests wait in a bounded queue, join between steps and leave between steps. A long prompt is read
in pieces between the steps of the others. Knows generations; knows no HTTP.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from foredraft.core import Completion, StepRecord
from foredraft.decoding import shared_step
from foredraft.errors import ForedraftError, ModelError
from foredraft.generation import Chunk, Generation
from foredraft.models import Network
from foredraft.ownership import held

PIECE = 256  # tokens of a prompt that are read at once
IDLE_SECONDS = 0.5  # between looks at a queue that is empty


@dataclass(frozen=True)
class Failed:
    """A text that came to no end of its own.

    Attributes:
        error: what is to be said of it.
    """

    error: Exception


Event: TypeAlias = Chunk | Completion | Failed


@dataclass(eq=False)
class Job:
    """One text: from the queue to its end.

    Attributes:
        begin: opens its generation; called by the scheduler's thread.
        tell: told what becomes of it, by that thread; must return at once.
        source: of the same prompt: this one waits until it has been read there.
        is_cancelled: whether nobody waits for it any more.
        prompt_seconds: that reading its prompt took.
    """

    begin: Callable[[], Generation]
    tell: Callable[[Job, Event], None]
    source: Job | None = None
    is_cancelled: bool = False
    prompt_seconds: float = 0.0
    created: float = field(default_factory=time.monotonic)
    generation: Generation | None = None

    @property
    def unread(self) -> int:
        """Tokens of its text that the target has yet to read, beyond the newest."""
        request = self.running.request
        return request.length - request.context.length - 1

    @property
    def can_be_forked(self) -> bool:
        """Whether its prompt has been read, and is in memory still."""
        generation = self.generation
        return generation is not None and generation.request.context.is_open and not self.unread

    @property
    def running(self) -> Generation:
        """Its generation, which has begun."""
        assert self.generation is not None
        return self.generation

    @property
    def network(self) -> Network:
        """Whose passes its text takes part in."""
        return self.running.parts.target


class QueueFullError(ForedraftError):
    """No room for one more request."""


class ClosedError(ForedraftError):
    """The server takes no new requests."""


class Observer:
    """What is told of the texts, for whoever counts; does nothing by itself."""

    def begun(self, job: Job) -> None:
        """A job leaves the queue."""

    def stepped(self, job: Job, record: StepRecord) -> None:
        """A text has grown."""

    def ended(self, job: Job, event: Event | None) -> None:
        """A job is over; None: nobody waited for it any more."""


class Scheduler:
    """Runs jobs, `max_parallel` of them in each pass.

    Args:
        networks: that the generations use.
        max_parallel: texts that share passes.
        max_queue: jobs that wait beyond those.
        observer: told what happens.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        max_parallel: int = 8,
        max_queue: int = 64,
        *,
        observer: Observer | None = None,
    ) -> None:
        self.max_parallel, self.max_queue = max_parallel, max_queue
        self._networks, self._observer = list(networks), observer or Observer()
        self._waiting, self._running = deque[Job](), list[Job]()
        self._changed = threading.Condition()
        self._takes_jobs = self._goes_on = True
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begin to run jobs."""
        self._thread.start()

    @property
    def num_running(self) -> int:
        """Jobs whose text has begun."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running and not self._waiting

    @property
    def takes_jobs(self) -> bool:
        """Whether `close` has yet to be called."""
        return self._takes_jobs

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the queue: all of them, or none.

        Raises:
            QueueFullError: there is no room for them.
            ClosedError: after `close`.
        """
        with self._changed:
            if not self._takes_jobs:
                raise ClosedError("the server is shutting down; ask another one")
            free = self.max_parallel - len(self._running) + self.max_queue - len(self._waiting)
            if len(jobs) > free:
                raise QueueFullError(
                    f"{len(self._waiting)} requests are waiting, as many as may; try again later"
                )
            self._waiting += jobs
            self._changed.notify()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Give jobs up: each ends before the next step."""
        with self._changed:
            for job in jobs:
                job.is_cancelled = True
            self._changed.notify()

    def close(self) -> None:
        """Take no new jobs; those that are here go on."""
        self._takes_jobs = False

    def stop(self, seconds: float = 10.0) -> None:
        """End everything: what is running fails, and the thread ends."""
        with self._changed:
            self._takes_jobs = self._goes_on = False
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while self._goes_on:
            with self._changed:
                if self.is_idle:
                    self._changed.wait(IDLE_SECONDS)
                    continue
            try:
                self._turn()
            except Exception as error:  # a fault of ours: it hurts those who are here, no others
                self._fail(self._running, error)
        for job in [*self._running, *self._waiting]:
            self._end(
                job, Failed(ClosedError("the server was shut down before the text was whole"))
            )

    def _turn(self) -> None:
        """Let jobs join and leave, read one piece of one prompt, and make a step of the others."""
        self._drop_cancelled()
        self._admit()
        reading = [job for job in self._running if job.unread >= PIECE]
        if reading:
            self._attempt(reading[:1], partial(self._read_piece, reading[0]))
        ready = [job for job in self._running if job not in reading]
        for _, sharing in itertools.groupby(
            sorted(ready, key=lambda job: id(job.network)), key=lambda job: id(job.network)
        ):
            jobs = list(sharing)
            self._attempt(jobs, partial(self._step, jobs))

    def _drop_cancelled(self) -> None:
        for job in [job for job in (*self._waiting, *self._running) if job.is_cancelled]:
            self._end(job, None)

    def _admit(self) -> None:
        for job in list(self._waiting):
            if len(self._running) >= self.max_parallel:
                break
            if job.source in self._running and not job.source.can_be_forked:
                continue
            with self._changed:
                self._waiting.remove(job)
                self._running.append(job)
            self._attempt([job], partial(self._begin, job))

    def _begin(self, job: Job) -> None:
        with held(*self._networks):
            job.generation = job.begin()
            job.generation.begin()
        self._observer.begun(job)

    def _read_piece(self, job: Job) -> None:
        request, start = job.running.request, time.perf_counter()
        first = request.context.length
        with held(*self._networks):
            request.context.extend(request.tokens[first : first + PIECE])
        job.prompt_seconds += time.perf_counter() - start

    def _step(self, jobs: Sequence[Job]) -> None:
        with held(*self._networks):
            records = shared_step([(job.running.parts, job.running.request) for job in jobs])
        for job, record in zip(jobs, records, strict=True):
            self._attempt([job], partial(self._take, job, record))

    def _take(self, job: Job, record: StepRecord) -> None:
        with held(*self._networks):
            chunk = job.running.take(record)
        self._observer.stepped(job, record)
        job.tell(job, chunk)
        if job.running.request.finished:
            self._end(job, job.running.completion)

    def _attempt(self, jobs: Sequence[Job], work: Callable[[], None]) -> None:
        """Do something for jobs; where it fails they end, and nobody else."""
        try:
            work()
        except Exception as error:
            self._fail(jobs, error)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        if not isinstance(error, ForedraftError):
            error = ModelError(f"a step failed ({type(error).__name__}: {error}); try again")
        for job in list(jobs):
            self._end(job, Failed(error))

    def _end(self, job: Job, event: Event | None) -> None:
        with self._changed:
            for jobs in (self._running, self._waiting):
                if job in jobs:
                    jobs.remove(job)
        if job.generation is not None:
            job.generation.request.context.close()
        self._observer.ended(job, event)
        if event is not None:
            job.tell(job, event)
