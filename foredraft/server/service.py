"""The service behind the routes: bodies in, answers out. Knows jobs and objects; knows no HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from foredraft.core import Completion
from foredraft.engine import Engine
from foredraft.errors import RequestError
from foredraft.files import Json
from foredraft.generation import Chunk, Generation
from foredraft.method import Method
from foredraft.server.answers import Ended, Header, prediction_details, usage_of
from foredraft.server.bodies import ChatBody, CompletionBody, Sampled
from foredraft.server.controls import FieldError, num_choices
from foredraft.server.logprobs import entries_of
from foredraft.server.reader import Reader
from foredraft.server.scheduler import Event, Failed, Job, Scheduler
from foredraft.server.settings import Defaults, methods_of
from foredraft.server.traces import Tracer

SYSTEM_ROLES = {"developer": "system"}  # as OpenAI calls it now


class UnknownModelError(RequestError):
    """The request names a model that is not served."""


@dataclass(frozen=True)
class Ask:
    """A request, read: what is to be generated, and how.

    Attributes:
        header: of its answer.
        prompts: tokens, one list a text.
        methods: how each is decoded.
        echoed: what each text begins with, for whoever wants to see his prompt again.
        num_choices: texts for each prompt, which stand behind each other.
        wants_usage: whether a stream ends with its usage.
        wants_trace: whether each piece says what its step did.
        has_prediction: whether the usage says what became of predicted tokens.
    """

    header: Header
    prompts: list[list[int]]
    methods: list[Method]
    echoed: list[str]
    num_choices: int
    wants_usage: bool
    wants_trace: bool
    has_prediction: bool

    @property
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are told."""
        return self.methods[0].config.logprobs is not None

    def usage(self, ended: Sequence[Ended]) -> Json:
        """Return the tokens of prompts and answers; a prompt is read once for all its choices."""
        usage = usage_of(self.prompts[:: self.num_choices], ended)
        return usage | (prediction_details(ended) if self.has_prediction else {})


@dataclass(frozen=True)
class Told:
    """What became of a text.

    Attributes:
        index: of the text.
        event: what.
        trace: what the step did, where that was asked for.
        logprobs: of the tokens that the step emitted, likewise.
    """

    index: int
    event: Event
    trace: Json = None
    logprobs: Sequence[Json] = ()


class Running:
    """The texts of one request: their events in the order they come.

    Args:
        service: whose scheduler runs them.
        ask: what to run.
    """

    def __init__(self, service: Service, ask: Ask) -> None:
        self._scheduler, self._loop = service.scheduler, asyncio.get_running_loop()
        self._events = asyncio.Queue[Told]()
        self._first: Told | None = None
        self.jobs = list[Job]()
        for index, (prompt, method) in enumerate(zip(ask.prompts, ask.methods, strict=True)):
            tracer = Tracer() if ask.wants_trace else None
            first = index - index % ask.num_choices
            # What a tracer watches cannot be shared.
            source = None if index == first or tracer else self.jobs[first]
            begin = service.beginning(prompt, method, tracer, source)
            self.jobs.append(Job(begin, self._teller(index, tracer), source))
        self._scheduler.submit(self.jobs)

    def _teller(self, index: int, tracer: Tracer | None) -> Callable[[Job, Event], None]:
        """Return what the scheduler's thread tells what becomes of a text."""

        def tell(job: Job, event: Event) -> None:
            trace, logprobs = None, list[Json]()
            if isinstance(event, Chunk):
                logprobs = entries_of(event.record.logprobs, job.running.stream.tokenizer)
                if tracer is not None:
                    trace = tracer.described(event.record)
            told = Told(index, event, trace, logprobs)
            try:
                self._loop.call_soon_threadsafe(self._events.put_nowait, told)
            except RuntimeError:  # the loop has ended, and everybody with it
                job.is_cancelled = True

        return tell

    async def begun(self) -> None:
        """Wait until the first thing is known: what fails before it has no answer yet.

        Raises:
            Exception: what a text failed with.
        """
        self._first = await self._events.get()
        if isinstance(self._first.event, Failed):
            raise self._first.event.error

    async def events(self) -> AsyncIterator[Told]:
        """Yield what becomes of the texts, until all have ended.

        Raises:
            Exception: what a text failed with.
        """
        left = len(self.jobs)
        while left:
            told, self._first = self._first or await self._events.get(), None
            if isinstance(told.event, Failed):
                raise told.event.error
            left -= isinstance(told.event, Completion)
            yield told

    def give_up(self) -> None:
        """Nobody waits any more; what has ended stays as it is."""
        self._scheduler.cancel(self.jobs)


class Service:
    """Answers requests.

    Args:
        engine: with the models.
        scheduler: of its networks.
        defaults: for what a request leaves open.
        model: the name that is served.
        fingerprint: of weights, runtime and version.
    """

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        defaults: Defaults,
        *,
        model: str,
        fingerprint: str,
    ) -> None:
        self.engine, self.scheduler, self.defaults = engine, scheduler, defaults
        self.model, self.fingerprint = model, fingerprint
        self.reader, self._created = Reader(engine.target), int(time.time())

    @property
    def card(self) -> Json:
        """What is served, as `/v1/models` tells it."""
        target, drafter = self.engine.target, self.engine.drafter
        return {
            "id": self.model,
            "object": "model",
            "created": self._created,
            "owned_by": "foredraft",
            "max_model_len": target.model.max_length,
            "chat": self.reader.converses,
            "drafter": None if drafter is None else drafter.name,
            "system_fingerprint": self.fingerprint,
            "trace": self.defaults.allows_trace,
        }

    async def completion(self, body: CompletionBody) -> Ask:
        """Read a completion's request.

        Raises:
            ForedraftError: something in it is not honoured, or cannot be.
        """
        self._check_model(body)
        given = body.prompt
        texts: list[str] | list[list[int]]
        if isinstance(given, str):
            texts = [given]
        else:
            texts = given if isinstance(given[0], str) else [given]
        prompts = [
            await (self.reader.prompt(t) if isinstance(t, str) else self.reader.ids(t))
            for t in texts
        ]
        echoed = [""] * len(prompts)
        if body.echo:
            echoed = [t if isinstance(t, str) else await self.reader.text(t) for t in texts]
        return self._ask("text_completion", body, prompts, echoed)

    async def chat(self, body: ChatBody) -> Ask:
        """Read a conversation; errors as of `completion`."""
        self._check_model(body)
        messages = [
            {"role": SYSTEM_ROLES.get(m.role, m.role), "content": m.text} for m in body.messages
        ]
        return self._ask("chat.completion", body, [await self.reader.conversation(messages)], [""])

    def beginning(
        self, prompt: list[int], method: Method, tracer: Tracer | None, source: Job | None
    ) -> Callable[[], Generation]:
        """Return what opens a generation, for the scheduler's thread.

        Args:
            prompt: its tokens.
            method: how it is decoded.
            tracer: follows it.
            source: of the same prompt; where it goes on still, nothing need be read again.
        """

        def begin() -> Generation:
            if source is not None and source.can_be_forked:
                return source.running.fork(method)
            generation = self.engine.stream_tokens(prompt, method)
            return generation if tracer is None else tracer.watched(generation)

        return begin

    async def whole(self, ask: Ask, running: Running) -> Json:
        """Return an answer that comes at once."""
        ended: dict[int, Ended] = {}
        traces: list[list[Json]] = [[] for _ in ask.prompts]
        logprobs: list[list[Json]] = [[] for _ in ask.prompts]
        async for told in running.events():
            if isinstance(told.event, Completion):
                ended[told.index] = Ended.of(running.jobs[told.index], told.event)
                continue
            logprobs[told.index] += told.logprobs
            if ask.wants_trace:
                traces[told.index].append(told.trace)
        every = [ended[index] for index in range(len(ended))]
        texts = [e + end.completion.text for e, end in zip(ask.echoed, every, strict=True)]
        told_of = [
            ask.header.logprobs(entries, len(echoed)) if ask.wants_logprobs else None
            for entries, echoed in zip(logprobs, ask.echoed, strict=True)
        ]
        answer = ask.header.whole(texts, every, ask.usage(every), told_of)
        return answer | ({"trace": traces} if ask.wants_trace else {})

    async def pieces(self, ask: Ask, running: Running) -> AsyncIterator[Json]:
        """Yield an answer piece by piece."""
        ended: dict[int, Ended] = {}
        told_of = [len(echoed) for echoed in ask.echoed]  # characters of each text
        for index, echoed in enumerate(ask.echoed):
            if ask.header.is_chat or echoed:
                yield ask.header.piece(index, echoed, is_first=True)
        async for told in running.events():
            event = told.event
            if isinstance(event, Completion):
                end = ended[told.index] = Ended.of(running.jobs[told.index], event)
                yield ask.header.piece(told.index, "", end=end)
            elif isinstance(event, Chunk) and (event.text or told.logprobs or ask.wants_trace):
                logprobs = None
                if ask.wants_logprobs:
                    logprobs = ask.header.logprobs(told.logprobs, told_of[told.index])
                    told_of[told.index] += sum(len(one["token"]) for one in told.logprobs)
                piece = ask.header.piece(told.index, event.text, logprobs=logprobs)
                yield piece | ({"trace": told.trace} if ask.wants_trace else {})
        if ask.wants_usage:
            every = [ended[index] for index in range(len(ended))]
            yield ask.header.usage_piece(every, ask.usage(every))

    def _check_model(self, body: Sampled) -> None:
        if body.model is not None and body.model != self.model:
            raise UnknownModelError(
                f"the model {body.model[:200]!r} is not served here; legal: {self.model}"
            )

    def _ask(self, kind: str, body: Sampled, prompts: list[list[int]], echoed: list[str]) -> Ask:
        room = self.engine.target.model.max_length - max(map(len, prompts))
        count = num_choices(body)
        if len(prompts) * count > self.scheduler.max_queue + self.scheduler.max_parallel:
            raise FieldError(
                "n" if count > 1 else "prompt",
                f"{len(prompts) * count} texts are more than this server ever takes",
            )
        methods = [one for _ in prompts for one in methods_of(body, self.defaults, room, count)]
        prompts = [prompt for prompt in prompts for _ in range(count)]
        echoed = [text for text in echoed for _ in range(count)]
        options = body.stream_options
        return Ask(
            Header(kind, self.model, self.fingerprint),
            prompts,
            methods,
            echoed,
            count,
            wants_usage=options is not None and options.include_usage,
            wants_trace=bool(body.trace),
            has_prediction=body.prediction is not None,
        )
