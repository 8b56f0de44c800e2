"""Conversation: turns that remember those before them, so that only what is new is read.

What a turn adds is taken from the text that the chat template makes: where that goes on from what
was said before, the answer's tokens stay as they were generated; where it does not (a template that
leaves old reasoning out), the whole is tokenized anew and memory keeps what both begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.assembly import Assembly
from foredraft.config import DecodingConfig, config_of
from foredraft.core import FinishReason
from foredraft.decoding import Speculation
from foredraft.doors import check_is_text
from foredraft.drafting import Drafter
from foredraft.errors import ConfigError, ContextOverflow, ModelError, RequestError
from foredraft.generation import Generation
from foredraft.method import Method
from foredraft.models import Context, Network, Seq2SeqModel
from foredraft.models.refusals import check_vocabulary_holds
from foredraft.ownership import held
from foredraft.sampling.processors import GivenControls, as_controls
from foredraft.template import Message, render_messages, user_message
from foredraft.text import TextStream, encode_text, tokens_of

ROOM = 4  # one position in so many is kept for an answer, if it may be as long
KEPT = 2  # of a full context one position in so many stays taken: the next turns need not drop


@dataclass(frozen=True)
class Reading:
    """What the newest turn had to read.

    Attributes:
        num_tokens: of the whole text, up to where the answer begins.
        num_read: those of them that were not in the target's memory.
        num_dropped_turns: oldest turns that no longer had a position.
        num_dropped_tokens: that the text has lost by it.
    """

    num_tokens: int = 0
    num_read: int = 0
    num_dropped_turns: int = 0
    num_dropped_tokens: int = 0


@dataclass(frozen=True)
class _Turn:
    """A prompt and its answer.

    Attributes:
        prompt: text.
        answer: text.
        rendered: what the template made of everything before the answer.
        tokens: of all that, and of the answer as they were generated, without an end token.
        tail: end of the answer that none of them says: one was cut by a stop string.
    """

    prompt: str
    answer: str
    rendered: str
    tokens: list[int]
    tail: str


@dataclass(frozen=True)
class _Open:
    """A turn whose answer may still come; `num_held` tokens were in memory when it began."""

    prompt: str
    rendered: str
    tokens: list[int]
    num_held: int
    generation: Generation


class Conversation:
    """Turns of a user and a model: `engine.conversation(system="…")` makes it.

    An answer is the one that reading the whole text anew would give. Of an interrupted answer the
    part that was said is kept; if nothing was said, its prompt is taken back. Only one thread at a
    time may use it; others may use the engine meanwhile.

    Attributes:
        reading: what the newest turn had to read.
    """

    reading: Reading

    def __init__(self, assembly: Assembly, system: str | None = None) -> None:
        self._assembly, self._target = assembly, assembly.target
        if isinstance(self._target.model, Seq2SeqModel):
            raise ModelError(
                f"{self._target.name!r} is an encoder–decoder, which answers one prompt and "
                "remembers none; choose a decoder-only model, or switch chat off"
            )
        self._turns: list[_Turn] = []
        self._open: _Open | None = None
        self._context: Context | None = None  # of the newest turn
        self._held = list[int]()  # tokens in its memory, as far as they are known
        self._drafters: tuple[Drafter, Drafter] | None = None  # kept by the assembly; of this text
        self.reading = Reading()
        self._check_template()
        self._system: str | None = None
        self.system = system

    @property
    def system(self) -> str | None:
        """What the model is told before the first turn; a new one leaves the turns as they are."""
        return self._system

    @system.setter
    def system(self, system: str | None) -> None:
        if system is not None:
            check_is_text(system, "the system message")
            self._check_takes(system)
        self._system = system

    @property
    def messages(self) -> list[Message]:
        """The system message, prompts and answers, the newest as far as it has come."""
        with held(*self._assembly.networks):
            newest = self._turn(self._open) if self._open else None
            return self._messages([*self._turns, newest] if newest else self._turns)

    def say(
        self,
        prompt: str,
        config: DecodingConfig | None = None,
        *,
        method: str = "speculative",
        controls: GivenControls = (),
    ) -> Generation:
        """Begin the answer to a prompt; nothing is computed until it is iterated.

        An answer that has not ended yet is interrupted. Where the context is full the oldest turns
        are dropped, which `reading` tells.

        Args:
            prompt: text.
            config: how to decode, as for `Engine.stream`; it may change from turn to turn.
            method: as for `Engine.stream`.
            controls: as for `Engine.stream`.

        Raises:
            RequestError: the prompt is empty or not text.
            ContextOverflow: it is longer than the model's context by itself.
            ModelError: the chat template failed.
            ConfigError: as for `Engine.stream`.
        """
        chosen = Method.of(config_of(config).with_seed, method, as_controls(controls))
        with held(*self._assembly.networks):
            check_is_text(prompt)
            parts = self._assembly.parts(chosen)
            self._settle()
            dropped, lost, rendered, tokens = self._fitted(parts.target.max_length, prompt, chosen)
            check_vocabulary_holds(tokens, self._target.model.prompt_vocab_size)
            context = self._reopened(parts.target, tokens)
            networks = self._assembly.networks
            generation = Generation.of(networks, self._target, chosen, parts, context)
            generation.request.drafter = self._drafter(parts)
            del self._turns[:dropped]
            num_read = len(tokens) - context.length
            self.reading = Reading(len(tokens), num_read, dropped, lost)
            self._open = _Open(prompt, rendered, tokens, context.length, generation)
            return generation

    def undo(self) -> str:
        """Take the newest prompt and its answer back; return the prompt.

        Raises:
            RequestError: there is none.
        """
        with held(*self._assembly.networks):
            self._settle()
            if not self._turns:
                raise RequestError("there is no turn to take back; say something first")
            return self._turns.pop().prompt

    def reset(self) -> None:
        """Take all turns back; the system message stays."""
        with held(*self._assembly.networks):
            self._settle()
            self._turns, self.reading = [], Reading()

    # --- the text -------------------------------------------------------------------------------

    def _messages(self, turns: Sequence[_Turn], prompt: str | None = None) -> list[Message]:
        messages = [{"role": "system", "content": self._system}] if self._system else []
        for turn in turns:
            messages += [user_message(turn.prompt), {"role": "assistant", "content": turn.answer}]
        return messages if prompt is None else [*messages, user_message(prompt)]

    def _read(self, turns: Sequence[_Turn], prompt: str) -> tuple[str, list[int]]:
        """Return the text of some turns and a new prompt, and its tokens."""
        tokenizer = self._target.tokenizer
        rendered = render_messages(tokenizer, self._messages(turns, prompt))
        if turns:
            newest = turns[-1]
            said = newest.rendered + newest.answer
            if rendered.startswith(said):
                added = newest.tail + rendered[len(said) :]
                return rendered, newest.tokens + tokens_of(tokenizer, added)
        ends = self._target.eos_token_ids
        return rendered, encode_text(tokenizer, rendered, is_rendered=True, end_tokens=ends)

    def _fitted(
        self, positions: int, prompt: str, method: Method
    ) -> tuple[int, int, str, list[int]]:
        """Return turns and tokens to drop, and the text of the others with a new prompt."""
        rendered, tokens = self._read(self._turns, prompt)
        room = max(1, min(method.config.length, positions // ROOM))
        if len(tokens) + room <= positions:
            return 0, 0, rendered, tokens
        whole, alone = len(tokens), len(self._read([], prompt)[1])
        if alone >= positions:
            raise ContextOverflow(
                f"this turn has {alone} tokens with the chat template"
                f"{' and the system message' * bool(self._system)}, but the model has {positions} "
                f"positions, one of them for a new token; shorten it to {positions - 1} tokens"
            )
        most = positions // KEPT if alone <= positions // KEPT else positions - room
        for dropped in range(1, len(self._turns) + 1):
            rendered, tokens = self._read(self._turns[dropped:], prompt)
            if len(tokens) <= most:
                break
        return len(self._turns[:dropped]), whole - len(tokens), rendered, tokens

    def _check_template(self) -> None:
        if getattr(self._target.tokenizer, "chat_template", None) is None:
            raise ConfigError(
                f"the tokenizer of {self._target.name!r} has no chat template; choose a model that "
                "was trained to converse, or switch chat off"
            )

    def _check_takes(self, system: str) -> None:
        """Raise unless the template takes a system message and passes it on."""
        tokenizer, greeting = self._target.tokenizer, [user_message("Hi")]
        render_messages(tokenizer, greeting)
        remedy = "leave the system message out, or say it in the first turn"
        try:
            told = [{"role": "system", "content": system}, *greeting]
            rendered = render_messages(tokenizer, told)
        except ModelError as error:
            failed, _, _ = str(error).partition("; ")
            raise ConfigError(f"{failed} when it was given a system message; {remedy}") from error
        if system.strip() not in rendered:
            raise ConfigError(f"the chat template of this model drops system messages; {remedy}")

    # --- memory ---------------------------------------------------------------------------------

    def _reopened(self, network: Network, tokens: list[int]) -> Context:
        """Return the target's context of the new text, with all in memory that there was of it."""
        before = self._context
        if before is not None and before.network is network:
            self._context = before.reopen(tokens, self._held)
        else:
            self._context = network.open(tokens)
            if before is not None:
                before.close()
        return self._context

    def _drafter(self, parts: Speculation) -> Drafter | None:
        """Return what has drafted for this text before, if it may go on."""
        before = self._drafters
        return before[1] if before and before[0] is parts.drafter else None

    def _settle(self) -> None:
        """End the newest turn, and know what is in memory whatever has interrupted it."""
        opened, self._open = self._open, None
        if opened is None or self._context is None:
            return
        turn, generation = self._turn(opened), opened.generation
        request, emitted = generation.request, _emitted(generation)
        whole = request.finished
        request.interrupt()
        # A pass that was interrupted may have written one layer and not the next.
        known = len(opened.tokens) + len(emitted) - 1 if emitted else opened.num_held
        self._context.rollback_to(min(self._context.length, known))
        self._held = [*opened.tokens, *emitted][: self._context.length]
        kept, own = generation.parts.drafter, request.drafter
        self._drafters = (kept, own) if whole and kept and own else None
        if turn is not None:
            self._turns.append(turn)

    def _turn(self, opened: _Open) -> _Turn | None:
        """Return a turn as far as it has come; None if its answer has not begun."""
        tokens, answer, tail = self._answer(opened)
        if not opened.generation.request.finished and not answer:
            return None
        said = [*opened.tokens, *tokens]
        return _Turn(opened.prompt, answer, opened.rendered, said, tail)

    def _answer(self, opened: _Open) -> tuple[list[int], str, str]:
        """Return an answer's tokens, its text, and the end of the text that they do not say."""
        generation = opened.generation
        emitted, text = _emitted(generation), generation.text
        reason = generation.request.finish_reason
        if len(emitted) < len(generation.tokens) or reason is FinishReason.INTERRUPTED:
            reason = None  # in the middle of a step
        if reason is FinishReason.EOS:
            return emitted[:-1], text, ""
        if reason not in (None, FinishReason.STOP):  # it stands as it was said
            return emitted, text, ""
        kept, said = self._said(opened.tokens, emitted, None if reason is None else text)
        return (
            kept,
            (said if reason is None else text),
            ("" if reason is None else text[len(said) :]),
        )

    def _said(
        self, before: list[int], emitted: list[int], text: str | None
    ) -> tuple[list[int], str]:
        """Return the first tokens of an answer that say whole characters, all of a text if given.

        Returns:
            The tokens, as many as say no more than the text, and what they say.
        """
        ends = self._target.eos_token_ids
        stream = TextStream(self._target.tokenizer, before, hidden=ends)
        count, said = 0, ""
        for number, token in enumerate(emitted, start=1):
            stream.push(token)
            if text is not None and not text.startswith(stream.text):
                break
            if len(stream.text) > len(said):
                count, said = number, stream.text
        return emitted[:count], said


def _emitted(generation: Generation) -> list[int]:
    """Return the tokens of all steps that have ended."""
    return [token for record in generation.records for token in record.emitted]
