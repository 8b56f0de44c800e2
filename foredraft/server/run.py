"""Run the application: uvicorn, the scheduler's thread, and an end that loses nobody's text.

The first SIGTERM or SIGINT: no new requests, those that are here come to their end within
`drain_seconds`. The second one ends them at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from types import FrameType

import uvicorn
from fastapi import FastAPI

from foredraft.errors import ConfigError
from foredraft.files import reason_of
from foredraft.server.scheduler import Scheduler

LOOK_SECONDS = 0.05  # between looks whether all texts have ended
BACKLOG = 2048  # connections that may wait to be taken
LINGER_SECONDS = 5  # that answers which have ended may take to be sent


@dataclass(frozen=True)
class Place:
    """Where the server listens.

    Attributes:
        host: of this machine.
        port: 0: any that is free.
    """

    host: str
    port: int

    def taken(self) -> socket.socket:
        """Return a socket of the place, which listens from `listen` on.

        Raises:
            ConfigError: the place is taken, or none of this machine's.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self.host, self.port))
        except (OSError, OverflowError) as error:
            sock.close()
            raise ConfigError(
                f"cannot listen on {self.host} port {self.port} ({reason_of(error)}); choose "
                "others with --host and --port"
            ) from None
        return sock


class DrainingServer(uvicorn.Server):
    """A server that lets texts come to their end before it goes.

    Args:
        config: of uvicorn.
        scheduler: with the texts.
        drain_seconds: that they have for it.
    """

    def __init__(self, config: uvicorn.Config, scheduler: Scheduler, drain_seconds: float) -> None:
        super().__init__(config)
        self._scheduler, self._drain_seconds = scheduler, drain_seconds
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal; end at once at the second."""
        if self._scheduler.takes_jobs:
            self._scheduler.close()
        else:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look whether it is time to go, ten times a second."""
        if not self._scheduler.takes_jobs and self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await super().on_tick(counter)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain_seconds
        while not self._scheduler.is_idle and loop.time() < end:
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.to_thread(self._scheduler.stop)
        self.should_exit = True


def listen(taken: socket.socket) -> str:
    """Let clients connect from now on; return the address of the root."""
    taken.listen(BACKLOG)
    host, port, *_ = taken.getsockname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(
    app: FastAPI, scheduler: Scheduler, listening: socket.socket, drain_seconds: float
) -> None:
    """Serve until a signal ends it."""
    server = DrainingServer(config_of(app), scheduler, drain_seconds)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # that a client has left is no news
    scheduler.start()
    try:
        server.run([listening])
    finally:
        scheduler.stop()


def config_of(app: FastAPI) -> uvicorn.Config:
    """Return how uvicorn is to run an application."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # prompts and keys are nobody's business
        timeout_graceful_shutdown=LINGER_SECONDS,
        lifespan="off",
        server_header=False,
    )
