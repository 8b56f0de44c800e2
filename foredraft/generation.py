"""A generation in progress: its chunks as they come, and the completion at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from foredraft.core import Completion, FinishReason, StepRecord
from foredraft.decoding import Request, Speculation, begin, step, watch
from foredraft.loading import LoadedModel
from foredraft.method import Method
from foredraft.models import Context, Network
from foredraft.ownership import held
from foredraft.sampling import ControlledText, Controls
from foredraft.stops import check_stop_strings
from foredraft.text import TextStream, tokens_of


@dataclass(frozen=True)
class Chunk:
    """What one step adds.

    Attributes:
        record: of the step.
        text: what has become certain by it; no later step takes it back.
    """

    record: StepRecord
    text: str


@dataclass(eq=False)
class Generation:
    """One generation in progress: iterate for its chunks, then ask for the completion.

    Abandoning it half-way is safe; what has been emitted stays readable. Others may go on beside
    it, in turns. Any thread may ask for the next chunk.
    """

    networks: list[Network]
    target: LoadedModel
    method: Method
    parts: Speculation
    request: Request
    stream: TextStream
    records: list[StepRecord] = field(default_factory=list)
    _unread: list[int] = field(default_factory=list)  # emitted, and not read as text yet
    _is_read = False  # to the end

    @classmethod
    def of(
        cls,
        networks: list[Network],
        target: LoadedModel,
        method: Method,
        parts: Speculation,
        context: Context,
    ) -> Self:
        """Return the generation that answers a context of `parts.target`, not begun.

        Raises:
            ConfigError: a stop string can never come, or a control cannot be had for this model.
        """
        config, ends = method.config, target.eos_token_ids
        check_stop_strings(target.tokenizer, config.stop)
        tokenizer = target.tokenizer
        stream = TextStream(tokenizer, context.begin, config.stop, hidden=ends)
        request = Request(
            context,
            method.rng,
            max_new_tokens=config.length,
            eos_token_ids=ends,
            # The text is needed inside the loop only where a stop string may end it.
            stop_check=stream.push if config.stop else None,
            controls=controls_of(method, target, context),
            prediction=tokens_of(tokenizer, config.prediction) if config.prediction else (),
            num_logprobs=config.logprobs,
        )
        return cls(networks, target, method, parts, request, stream)

    def fork(self, method: Method) -> Self:
        """Return another generation of the same prompt, not begun; the prompt is read once.

        Args:
            method: how it is decoded: as this one, but for its seed.
        """
        context = self.request.context
        watch(self.parts, context)
        unread = context.begin[context.length : -1]  # the last token is the first step's
        if unread:
            context.extend(unread)
        other = context.fork()
        other.rollback_to(len(context.begin) - 1)
        return self.of(self.networks, self.target, method, self.parts, other)

    def __iter__(self) -> Iterator[Chunk]:
        while not self.request.finished:
            with held(*self.networks):
                chunk = self._chunk(self._advance())
            yield chunk

    def steps(self) -> Iterator[StepRecord]:
        """Run it step by step, without reading text; `text` and `completion` read it in the end."""
        while not self.request.finished:
            with held(*self.networks):
                record = self._advance()
            yield record

    def _advance(self) -> StepRecord:
        if not self.records:
            self.begin()
        [record] = step(self.parts, [self.request])
        self.note(record)
        return record

    def begin(self) -> None:
        """Let the drafter read the prompt."""
        begin(self.parts, self.request)

    def note(self, record: StepRecord) -> None:
        """Note a step of the request; its text is read when somebody asks for it."""
        # Between two passes, whose weights put it out of the caches, a tokenizer costs many times
        # what it costs for all tokens in a row.
        self.records.append(record)
        # With stop strings the request's stop check has pushed all but the end token.
        ended = self.request.finish_reason is FinishReason.EOS
        pushed = len(record.emitted) - ended if self.method.config.stop else 0
        self._unread += record.emitted[pushed:]

    def take(self, record: StepRecord) -> Chunk:
        """Note a step of the request; return what it adds."""
        self.note(record)
        return self._chunk(record)

    def _chunk(self, record: StepRecord) -> Chunk:
        self._read()
        return Chunk(record, self.stream.take())

    def _read(self) -> None:
        """Let the stream read what has been emitted."""
        while self._unread:
            self.stream.push(self._unread.pop(0))
        if self.request.finished and not self._is_read:
            self._is_read = True
            self.stream.finish()

    @property
    def text(self) -> str:
        """What has been said so far and is certain."""
        self._read()
        return self.stream.text

    @property
    def seed(self) -> int:
        """Its seed: that of the config, or the fresh one that took its place."""
        return self.method.config.seed or 0

    @property
    def tokens(self) -> list[int]:
        """Tokens emitted so far."""
        return self.request.output

    @property
    def completion(self) -> Completion:
        """The finished generation; runs whatever is left of it."""
        with held(*self.networks):
            while not self.request.finished:
                self._advance()
        assert self.request.finish_reason is not None
        return Completion(
            method=self.method.name,
            tokens=self.tokens,
            text=self.text,
            finish_reason=self.request.finish_reason,
            seed=self.seed,
            records=tuple(self.records),
        )


def controls_of(method: Method, target: LoadedModel, context: Context) -> Controls | None:
    """Return the controls of a text that begins in a context; None: a method has none.

    Raises:
        ConfigError: one of them cannot be had for this model.
    """
    if not method.controls:
        return None
    ends, vocab_size = frozenset(target.eos_token_ids), context.network.vocab_size
    text = ControlledText(context.begin, ends, vocab_size, target.tokenizer)
    return Controls(method.controls, text)
