"""The application: routes, who may use them, and what is said when something is wrong.

FastAPI reads bodies and writes `/openapi.json`; errors are objects as OpenAI's clients know them.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foredraft.errors import (
    ConfigError,
    ContextOverflow,
    ForedraftError,
    RequestError,
    quoted,
)
from foredraft.files import Json, read_text
from foredraft.server.answers import error_body
from foredraft.server.bodies import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from foredraft.server.controls import FieldError
from foredraft.server.metrics import Metrics
from foredraft.server.scheduler import ClosedError, QueueFullError
from foredraft.server.service import Ask, Running, Service, UnknownModelError
from foredraft.server.streams import EventStream, unless_gone
from foredraft.version import __version__

INVALID, FAILED, BUSY = "invalid_request_error", "server_error", "overloaded_error"
RETRY_SECONDS = 1
LONGEST_NAME = 100  # characters of a field's name that are said
CLIENT_LEFT = 499  # what proxies write down for it; nobody reads it
DOCUMENTED: dict[int | str, dict[str, Json]] = {
    code: {"description": told, "content": {"application/json": {}}}
    for code, told in {
        400: "a field is not honoured",
        401: "the key is missing or wrong",
        404: "the model is not served here",
        413: "the body is too long",
        429: "the queue is full",
        500: "the text failed",
        503: "the server is shutting down",
    }.items()
}


@dataclass(frozen=True)
class Limits:
    """What the server puts up with.

    Attributes:
        body_bytes: of a request.
        reader_seconds: that a reader may leave sent bytes unread.
        key: that requests must name; None: anybody may ask.
        hosts: names by which clients may call the server; none: any. A page elsewhere whose name
            leads to this machine could ask in its reader's stead.
        origins: of pages elsewhere that may ask.
    """

    body_bytes: int = 4_000_000
    reader_seconds: float = 30.0
    key: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def application(service: Service, metrics: Metrics, limits: Limits) -> FastAPI:
    """Return the application of a service."""
    app = FastAPI(
        title="foredraft",
        version=__version__,
        description="The same request, the same text, at any load.",
        openapi_url=None,  # what else there is asks for the key, and so does this
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    _add_errors(app)
    keyed = [Depends(_key_check(limits.key))]
    _add_generation(app, service, limits, keyed)
    _add_facts(app, service, metrics, keyed)
    if limits.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(limits.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(BodyLimit, most=limits.body_bytes)
    if limits.hosts:
        app.add_middleware(KnownHosts, hosts=limits.hosts)
    return app


# --- routes -------------------------------------------------------------------------------------


def _add_generation(app: FastAPI, service: Service, limits: Limits, keyed: list[Any]) -> None:
    async def answer(request: Request, asked: Awaitable[Ask], *, streams: bool) -> Response:
        async def begun() -> Response:
            ask = await asked
            running = Running(service, ask)
            try:
                if not streams:
                    return JSONResponse(await service.whole(ask, running))
                await running.begun()
            except BaseException:
                running.give_up()
                raise
            pieces = service.pieces(ask, running)
            return EventStream(pieces, running.give_up, _said_of, limits.reader_seconds)

        return await unless_gone(request, begun()) or Response(status_code=CLIENT_LEFT)

    @app.post("/v1/completions", dependencies=keyed, responses=DOCUMENTED, tags=["text"])
    async def completions(request: Request, body: CompletionBody) -> Response:
        """Continue a prompt, or several."""
        return await answer(request, service.completion(body), streams=bool(body.stream))

    @app.post("/v1/chat/completions", dependencies=keyed, responses=DOCUMENTED, tags=["text"])
    async def chat(request: Request, body: ChatBody) -> Response:
        """Answer a conversation."""
        return await answer(request, service.chat(body), streams=bool(body.stream))

    @app.post("/tokenize", dependencies=keyed, responses=DOCUMENTED, tags=["tokens"])
    async def tokenize(body: TokenizeBody) -> Json:
        """Return the tokens of a text."""
        tokens = await service.reader.tokens(body.prompt, with_special=body.add_special_tokens)
        return {"tokens": tokens, "count": len(tokens)}

    @app.post("/detokenize", dependencies=keyed, responses=DOCUMENTED, tags=["tokens"])
    async def detokenize(body: DetokenizeBody) -> Json:
        """Return the text of tokens."""
        return {"prompt": await service.reader.text(body.tokens)}


def _add_facts(app: FastAPI, service: Service, metrics: Metrics, keyed: list[Any]) -> None:
    scheduler = service.scheduler

    @app.get("/openapi.json", dependencies=keyed, include_in_schema=False)
    async def schema() -> Json:
        """Return what may be asked, and how."""
        return app.openapi()

    @app.get("/v1/models", dependencies=keyed, tags=["facts"])
    async def models() -> Json:
        """Return the model that is served."""
        return {"object": "list", "data": [service.card]}

    @app.get("/health", tags=["facts"])
    async def health() -> Response:
        """Return how many texts there are; 503 while the server shuts down."""
        status = "ok" if scheduler.takes_jobs else "draining"
        numbers = {"running": scheduler.num_running, "waiting": scheduler.num_waiting}
        return JSONResponse({"status": status} | numbers, 200 if scheduler.takes_jobs else 503)

    @app.get("/metrics", dependencies=keyed, tags=["facts"])
    async def counts() -> Response:
        """Return what was counted, as Prometheus reads it."""
        text = metrics.text(running=scheduler.num_running, waiting=scheduler.num_waiting)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, tags=["playground"])
    async def playground() -> Response:
        """Return the playground."""
        page = read_text(Path(__file__).with_name("playground.html"))
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY})


PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# --- who may ask, and how much --------------------------------------------------------------------


def _key_check(key: str | None) -> Callable[[Request], Awaitable[None]]:
    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "")
        said = given.removeprefix("Bearer ").encode("utf-8", "replace")
        if key is not None and not hmac.compare_digest(said, key.encode()):
            raise HTTPException(401, "the key is missing or wrong; send Authorization: Bearer KEY")

    return check


class KnownHosts:
    """Refuses requests that call the server by a name that is not its own.

    Args:
        app: what is behind it.
        hosts: names, without a port.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            said = Request(scope).headers.get("host", "")
            name = said.rpartition(":")[0] if said.rpartition(":")[2].isdigit() else said
            if name not in self._hosts:
                text = f"this server is not called {quoted(said)}; legal: {', '.join(self._hosts)}"
                await JSONResponse(error_body(text, INVALID), 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too long, before they are in memory.

    Args:
        app: what is behind it.
        most: bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, f"the body is longer than {self._most} bytes; shorten it")
            return message

        headers = dict(scope["headers"])
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said) > self._most:
            text = f"the body has {int(said)} bytes; legal: at most {self._most}; shorten it"
            await JSONResponse(error_body(text, INVALID), 413)(scope, receive, send)
            return
        await self._app(scope, limited, send)


# --- what is said when something is wrong ---------------------------------------------------------


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ForedraftError)
    async def refused(request: Request, error: ForedraftError) -> Response:
        status, said = _said_of(error)
        headers = {"retry-after": str(RETRY_SECONDS)} if status in (429, 503) else None
        return JSONResponse(said, status, headers)

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        return JSONResponse(_unreadable(error), 400)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        code = "invalid_api_key" if error.status_code == 401 else None
        said = error_body(str(error.detail), INVALID, code=code)
        return JSONResponse(said, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse(error_body("the server failed; its log says where", FAILED), 500)


def _said_of(error: Exception) -> tuple[int, Json]:
    """Return the status of an error, and the object that tells it."""
    text = str(error)
    match error:
        case FieldError():
            return 400, error_body(text, INVALID, error.field)
        case UnknownModelError():
            return 404, error_body(text, INVALID, "model", "model_not_found")
        case ContextOverflow():
            return 400, error_body(text, INVALID, code="context_length_exceeded")
        case QueueFullError():
            return 429, error_body(text, BUSY, code="queue_full")
        case ClosedError():
            return 503, error_body(text, BUSY, code="shutting_down")
        case RequestError() | ConfigError():
            return 400, error_body(text, INVALID)
        case _:
            return 500, error_body(text, FAILED)


def _unreadable(error: RequestValidationError) -> Json:
    """Return what is wrong with a body, by the first field that is not what it should be.

    Of a field that may be one thing or another, by the one that it comes nearest to.
    """
    found = min(
        error.errors(),
        key=lambda one: (one["type"].endswith("_type"), len(one["loc"])),
        default=None,
    )
    if found is None:
        return error_body("the body is not readable; send a JSON object", INVALID)
    place = [str(part) for part in found["loc"] if part != "body"]
    # A field may be called anything, and its name must fit into the answer.
    field = place[0][:LONGEST_NAME].encode("utf-8", "replace").decode() if place else None
    if found["type"] == "extra_forbidden":
        text = f"unknown field {quoted('.'.join(place))}; legal ones are listed in /openapi.json"
    elif found["type"] == "json_invalid":
        return error_body("the body is no JSON; send a JSON object", INVALID)
    elif not place:
        text = "the body must be a JSON object; send it as application/json"
    else:
        text = f"{field}: {found['msg']}; it is {quoted(found.get('input'))}"
    return error_body(text, INVALID, field)
