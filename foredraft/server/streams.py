"""Answers that come in pieces, as server-sent events; and whether anybody is there to read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from foredraft.files import Json

DONE = b"data: [DONE]\n\n"
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class SlowReaderError(Exception):
    """Nobody reads what is sent."""


class EventStream(Response):
    """Sends events as they come; a reader who is gone, or too slow, ends them.

    Args:
        events: what is sent, one object an event.
        give_up: called once, whatever ends the stream.
        said_of: what an error is told as, its status first.
        seconds: that a reader may leave sent bytes unread.
    """

    def __init__(
        self,
        events: AsyncIterator[Json],
        give_up: Callable[[], None],
        said_of: Callable[[Exception], tuple[int, Json]],
        seconds: float,
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._events, self._give_up, self._seconds = events, give_up, seconds
        self._said_of = said_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send_all(send))
        leaving = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                with suppress(OSError, SlowReaderError):  # the reader has left, or sleeps
                    sending.result()
        finally:
            self._give_up()
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        try:
            async for event in self._events:
                await self._send(send, _event(event))
        except (OSError, SlowReaderError):
            raise
        except Exception as error:  # the answer has begun: its status cannot be changed
            await self._send(send, _event(self._said_of(error)[1]))
        else:
            await self._send(send, DONE)
        await self._send(send, b"", more=False)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        message = {"type": "http.response.body", "body": body, "more_body": more}
        try:
            # Not `wait_for`, which in Python 3.11 may swallow that it was cancelled.
            async with asyncio.timeout(self._seconds):
                await send(message)
        except TimeoutError:
            raise SlowReaderError(f"nothing was read for {self._seconds:g} s") from None


def _event(value: Json) -> bytes:
    """Return one object as an event."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"data: {data}\n\n".encode("utf-8", "replace")


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Awaitable[Response]) -> Response | None:
    """Return what comes of some work; None where the client leaves before, and the work ends."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
