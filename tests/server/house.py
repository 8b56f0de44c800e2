"""Servers for tests: the bundled pair in this process, and a socket that anybody may connect to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx

from foredraft.config import DecodingConfig
from foredraft.engine import Engine
from foredraft.server import (
    Defaults,
    Limits,
    Metrics,
    Place,
    Scheduler,
    Service,
    application,
    fingerprint,
)
from foredraft.server.run import DrainingServer, config_of

CONFIG = DecodingConfig(drafting="auto", verifier="coupled")
MODEL = "bundled"
PROMPT = "Once upon a time"
SECONDS = 60.0


@cache
def engine() -> Engine:
    """Return the bundled pair, loaded once."""
    return Engine.load()


class Served:
    """A server that runs.

    Attributes:
        url: of its root.
        scheduler: with its texts.
        server: of uvicorn.
    """

    def __init__(self, url: str, scheduler: Scheduler, server: DrainingServer) -> None:
        self.url, self.scheduler, self.server = url, scheduler, server

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Send a body; return the answer."""
        return httpx.post(self.url + path, json=body, timeout=SECONDS)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Return what stands somewhere."""
        return httpx.get(self.url + path, timeout=SECONDS, **options)

    def wait_until_idle(self, seconds: float = 10.0) -> None:
        """Wait until no text is running or waiting; fail if that does not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            health = self.get("/health").json()
            if health["running"] == health["waiting"] == 0:
                return
            time.sleep(0.01)
        raise AssertionError(f"not idle: {self.get('/health').json()}")


@contextmanager
def serving(
    limits: Limits | None = None,
    *,
    served: Engine | None = None,
    max_parallel: int = 8,
    max_queue: int = 64,
    allows_trace: bool = False,
    drain_seconds: float = 5.0,
    config: DecodingConfig = CONFIG,
) -> Iterator[Served]:
    """Serve from a thread of this process, on a port of its own."""
    pair = served or engine()
    metrics = Metrics()
    scheduler = Scheduler(
        pair.networks, max_parallel=max_parallel, max_queue=max_queue, observer=metrics
    )
    defaults = Defaults(config, allows_trace=allows_trace)
    service = Service(pair, scheduler, defaults, model=MODEL, fingerprint=fingerprint(pair))
    app = application(service, metrics, limits or Limits())
    listening = Place("127.0.0.1", 0).taken()
    server = DrainingServer(config_of(app), scheduler, drain_seconds)
    scheduler.start()
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        port = listening.getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", scheduler, server)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(SECONDS)
        scheduler.stop()
        service.reader.close()


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the objects of a stream, up to its end, which must be there."""
    import json

    for line in response.iter_lines():
        if not line:
            continue
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            return
        yield json.loads(data)
    raise AssertionError("the stream has no end")


def ask(served: Served, **body: Any) -> dict[str, Any]:
    """Ask for a completion, which must come; return the answer."""
    response = served.post("/v1/completions", **{"prompt": PROMPT, "max_tokens": 20} | body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def expected(length: int = 20, **settings: Any) -> str:
    """Return what plain decoding says after `PROMPT`."""
    config = CONFIG.replace(length=length, **settings)
    return engine().generate(PROMPT, config, method="target").text
