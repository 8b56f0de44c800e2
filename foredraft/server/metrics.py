"""What the server counts, in Prometheus' format: told by the scheduler, read at `/metrics`."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from foredraft.core import Completion, StepRecord
from foredraft.server.scheduler import Event, Failed, Job, Observer

FIRST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
BETWEEN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
MOST_POSITIONS = 16  # of a draft that are counted apart


class Metrics(Observer):
    """Counts of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"foredraft_{name}", told, labels, registry=registry)

        self.running = Gauge("foredraft_requests_running", "texts that grow", registry=registry)
        self.waiting = Gauge("foredraft_requests_waiting", "texts in the queue", registry=registry)
        self._first = Histogram(
            "foredraft_time_to_first_token_seconds",
            "from the request to its first token",
            buckets=FIRST,
            registry=registry,
        )
        self._between = Histogram(
            "foredraft_inter_token_seconds",
            "a token, by the time of the step that brought it",
            buckets=BETWEEN,
            registry=registry,
        )
        self._ended = counter("requests", "texts that are over, by how they ended", "outcome")
        self._read = counter("prompt_tokens", "tokens of prompts")
        self._said = counter("generation_tokens", "tokens of answers")
        self._steps = counter("steps", "passes over the newest tokens of a text")
        self._drafts = counter("drafts", "drafts")
        self._drafted = counter("draft_tokens", "tokens of drafts")
        self._accepted = counter("accepted_tokens", "tokens of drafts that stand in the text")
        self._positions = counter("accepted_tokens_per_position", "likewise, by place", "position")
        self._newest: dict[Job, float] = {}

    def begun(self, job: Job) -> None:
        self._read.inc(job.running.request.length)

    def stepped(self, job: Job, record: StepRecord) -> None:
        now = time.monotonic()
        before, self._newest[job] = self._newest.get(job), now
        if before is None:
            self._first.observe(now - job.created)
        else:
            for _ in record.emitted:
                self._between.observe((now - before) / len(record.emitted))
        self._steps.inc()
        self._said.inc(len(record.emitted))
        if record.drafted:
            self._drafts.inc()
            self._drafted.inc(len(record.drafted))
            self._accepted.inc(record.num_accepted)
            for place in range(min(record.num_accepted, MOST_POSITIONS)):
                self._positions.labels(str(place)).inc()

    def ended(self, job: Job, event: Event | None) -> None:
        self._newest.pop(job, None)
        outcome = "cancelled"
        if isinstance(event, Completion):
            outcome = str(event.finish_reason)
        elif isinstance(event, Failed):
            outcome = "failed"
        self._ended.labels(outcome).inc()

    def text(self, *, running: int, waiting: int) -> bytes:
        """Return all of it, as Prometheus reads it."""
        self.running.set(running)
        self.waiting.set(waiting)
        return generate_latest(self.registry)
