"""Session: the loaded models, the settings and the last results; what commands act upon.

Knows neither slash commands nor where lines come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from foredraft.cli.loading import FALLBACK, can_draft, unfit
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.conversation import Conversation
from foredraft.core import Completion
from foredraft.engine import Engine
from foredraft.errors import ConfigError, ForedraftError, RequestError, foreign
from foredraft.generation import Generation
from foredraft.loading import LoadedModel, LoadOptions, find_drafter, load, load_drafter
from foredraft.loading.loader import BUNDLED_FOLDERS, NO_DRAFTER
from foredraft.models import HeadModel
from foredraft.results import Result, logprob_dicts
from foredraft.threads import fit_threads
from foredraft.tracing import summarize, undrafted


class Session:
    """What one run of the shell holds; with the options `/model` loads target and drafter.

    One that `talks` is a conversation while chat is on, with a system message if there is one; else
    every line is a prompt of its own.
    """

    def __init__(
        self,
        engine: Engine,
        config: DecodingConfig,
        view: View,
        options: LoadOptions | None = None,
        drafter_options: LoadOptions | None = None,
        *,
        talks: bool = False,
        system: str | None = None,
    ) -> None:
        self.engine, self.config, self.view = engine, config, view
        self.results: list[Result] = []
        self.prompt = ""  # what the results answer
        self._options = options or LoadOptions()
        self._drafter_options = drafter_options or self._options
        self.talks, self._system = talks, system
        self._conversation: Conversation | None = None

    @property
    def drafter_name(self) -> str:
        """Name of the draft model, for `/help`."""
        return self.engine.drafter.name if self.engine.drafter else "no drafter"

    def run_prompt(self, prompt: str, config: DecodingConfig) -> None:
        """Run every method that is switched on; nothing runs if one of them must refuse."""
        with self._reading(config):
            check_request(self.engine, prompt, config)
        done = list[Completion]()
        for method in config.methods:
            self.view.heading(method)
            if config.n > 1:
                done += self._run_several(prompt, config, method)
            else:
                done.append(self._run_method(prompt, config, method))
        self.results, self.prompt = self.engine.results(done, prompt, config), prompt
        self.view.ratios(self.results)

    @property
    def is_talking(self) -> bool:
        """Whether a line is a turn of the conversation."""
        return self.talks and self.config.chat

    @property
    def conversation(self) -> Conversation:
        """The conversation, begun when it is first asked for.

        Raises:
            ConfigError: here is none.
            ForedraftError: the target cannot converse.
        """
        if not self.is_talking:
            remedy = "/chat on begins one" if self.talks else "foredraft chat --chat begins one"
            raise ConfigError(f"each line is a prompt of its own here, not a turn; {remedy}")
        if self._conversation is None:
            self._conversation = self.engine.conversation(self._system)
        return self._conversation

    @property
    def system(self) -> str | None:
        """The system message, for `/help`."""
        return self._conversation.system if self._conversation else self._system

    def say(self, prompt: str) -> None:
        """Take a turn of the conversation: the first method that is switched on answers.

        Raises:
            ForedraftError: the prompt was refused; the conversation is as it was.
            KeyboardInterrupt: with what becomes of the answer.
        """
        check_methods(self.config)
        if self.config.n > 1:
            raise ConfigError("a turn has one answer, and n is more than 1; /n 1, or /chat off")
        method = self.config.methods[0]
        with self._reading(self.config):
            conversation = self.conversation
            generation = conversation.say(prompt, self.config, method=method)
        reading, num_before = conversation.reading, len(conversation.messages)
        if reading.num_dropped_turns:
            self.view.dropped(reading, generation.parts.target.max_length)
        try:
            completion = self._shown(generation)
        except KeyboardInterrupt:
            if len(conversation.messages) > num_before:
                raise KeyboardInterrupt("what was said stays, /undo takes it back") from None
            raise KeyboardInterrupt("nothing was said, the prompt is taken back") from None
        summary, why = summarize(completion.records), self._undrafted(completion)
        self.results, self.prompt = [Result(completion, summary)], prompt
        self._show_logprobs(completion)
        self.view.turn(summary, self.config.drafting_spec(method) or "none", reading, why)
        self.view.cut(completion, generation.parts.target.max_length)

    @contextmanager
    def _reading(self, config: DecodingConfig) -> Iterator[None]:
        """Raise what the prompt is refused for; chat that takes no prompt at all goes off."""
        try:
            with foreign("reading the prompt", "give another one", ForedraftError):
                yield
        except ForedraftError as error:
            if not config.chat or self._can_chat():
                raise
            self.set(chat=False)
            raise type(error)(f"{error}; chat is off now: nothing passes the template") from error

    def _can_chat(self) -> bool:
        """Whether the chat template takes any of a few prompts that nothing speaks against."""
        for harmless in ("Hi", "1 + 1 =", "Once upon a time"):
            with suppress(Exception):
                return bool(self.engine.encode(harmless, chat=True))
        return False

    def _run_method(self, prompt: str, config: DecodingConfig, method: str) -> Completion:
        completion = self._shown(self.engine.stream(prompt, config, method=method))
        self.view.unsatisfied(completion)
        self._show_logprobs(completion)
        self.view.numbers(
            summarize(completion.records),
            self._undrafted(completion),
            tells_free=config.is_structured or bool(config.prediction),
        )
        return completion

    def _run_several(
        self, prompt: str, config: DecodingConfig, method: str
    ) -> Sequence[Completion]:
        """Run the continuations of a prompt and show each when all have come."""
        done = self.engine.continuations(prompt, config, method=method)
        for number, completion in enumerate(done, start=1):
            self.view.numbered(number, completion.text)
            self.view.unsatisfied(completion)
            self._show_logprobs(completion)
        self.view.total([Result(one, summarize(one.records)) for one in done])
        return done

    def _show_logprobs(self, completion: Completion) -> None:
        self.view.logprobs(logprob_dicts(completion.records, self.engine.decode))

    def _shown(self, generation: Generation) -> Completion:
        """Run a generation and show it as it comes."""
        is_traced = generation.method.config.debug
        for number, chunk in enumerate(generation, start=1):
            if is_traced:
                self.view.step(number, chunk.record, self.engine)
            else:
                self.view.text(chunk.text)
        completion = generation.completion
        self.view.line(completion.text if is_traced else "")
        return completion

    def _undrafted(self, completion: Completion) -> str:
        """Return why a method that drafts has drafted nothing, or less than it might."""
        drafter = self.engine.drafter
        return undrafted(completion.records, drafter.model.max_length if drafter else 0)

    def set(self, **changes: object) -> None:
        """Change settings, all or none."""
        self.config = self.config.replace(**changes)

    def load_model(self, role: str, name: str) -> None:
        """Replace target or drafter; the old ones stay if the new one does not load, fit or run.

        With another target a bundled drafter, or a head, becomes what comes with this package for
        that target, or none. Methods that lack their draft model go off.
        """
        if role == "drafter":
            target, drafter = self.engine.target, None
            if name != NO_DRAFTER:
                drafter = load_drafter(name, target, self._drafter_options)
        else:
            target = load(name, "target", self._options)
            drafter = self._drafter_for(target)
        engine = Engine(target, drafter)
        fit_threads(engine.target.threads)
        engine.warm_up()
        self._take(engine, is_wanted=role == "drafter")

    def _drafter_for(self, target: LoadedModel) -> LoadedModel | None:
        """Return what drafts for a new target: what was asked for by name must fit."""
        drafter = self.engine.drafter
        if drafter is None:
            return None
        if drafter.name in BUNDLED_FOLDERS or isinstance(drafter.model, HeadModel):
            return find_drafter(target, self._drafter_options)
        return load_drafter(drafter.name, target, self._drafter_options)

    def _take(self, engine: Engine, *, is_wanted: bool) -> None:
        """Go on with other models, and with settings that they can serve."""
        config = self.config
        if self.engine.drafter is not None and engine.drafter is None:
            config = config.replace(drafter=False)
            if not can_draft(config, engine):
                change = {"speculative": False} if is_wanted else {"drafting": FALLBACK}
                config = config.replace(**change)
            if not is_wanted:
                told = unfit(engine.target.name)
                self.view.line(f"note: {told}; name one with /model drafter NAME")
        for setting in config.to_dict():
            value = getattr(config, setting)
            if value != getattr(self.config, setting):
                self.view.line(f"{setting}: {value or 'off'}, since there is no draft model")
        if self._conversation is not None:
            if self._conversation.messages:
                self.view.line("note: the conversation begins anew with these models")
            self._system, self._conversation = self._conversation.system, None
        self.engine, self.config = engine, config


def check_methods(config: DecodingConfig) -> None:
    """Raise unless a method is switched on."""
    if not config.methods:
        raise RequestError("every method is switched off; switch one on, e.g. /speculative")


def check_request(engine: Engine, prompt: str, config: DecodingConfig) -> None:
    """Raise what any of the switched-on methods would raise for this prompt, computing nothing."""
    check_methods(config)
    for method in config.methods:
        engine.stream(prompt, config, method=method)
