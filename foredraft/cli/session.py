"""Session: the loaded models, the settings and the last results; what commands act upon.

Knows neither slash commands nor where lines come from.
"""

from __future__ import annotations

from contextlib import suppress

from foredraft.cli.loading import FALLBACK, can_draft, load_default, unfit
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.core import Completion
from foredraft.engine import Engine, Result, check_request
from foredraft.errors import ForedraftError, foreign
from foredraft.loading import LoadedModel, LoadOptions, load, load_drafter
from foredraft.loading.loader import BUNDLED_FOLDERS, NO_DRAFTER
from foredraft.threads import fit_threads
from foredraft.tracing import summarize, undrafted


class Session:
    """What one run of the shell holds; with the options `/model` loads target and drafter."""

    def __init__(
        self,
        engine: Engine,
        config: DecodingConfig,
        view: View,
        options: LoadOptions | None = None,
        drafter_options: LoadOptions | None = None,
    ) -> None:
        self.engine, self.config, self.view = engine, config, view
        self.results: list[Result] = []
        self.prompt = ""  # what the results answer
        self._options = options or LoadOptions()
        self._drafter_options = drafter_options or self._options

    @property
    def drafter_name(self) -> str:
        """Name of the draft model, for `/help`."""
        return self.engine.drafter.name if self.engine.drafter else "no drafter"

    def run_prompt(self, prompt: str, config: DecodingConfig) -> None:
        """Run every method that is switched on; nothing runs if one of them must refuse."""
        self._check(prompt, config)
        done = []
        for method in config.methods:
            self.view.heading(method)
            done.append(self._run_method(prompt, config, method))
        self.results, self.prompt = self.engine.results(done, prompt, config), prompt
        self.view.ratios(self.results)

    def _check(self, prompt: str, config: DecodingConfig) -> None:
        """Raise what the prompt is refused for; chat that takes no prompt at all goes off."""
        try:
            with foreign("reading the prompt", "give another one", ForedraftError):
                check_request(self.engine, prompt, config)
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
        generation = self.engine.stream(prompt, config, method=method)
        for number, chunk in enumerate(generation, start=1):
            if config.debug:
                self.view.step(number, chunk.record, self.engine)
            else:
                self.view.text(chunk.text)
        completion = generation.completion
        self.view.line(completion.text if config.debug else "")
        drafter = self.engine.drafter
        positions = drafter.model.max_length if drafter else 0
        why = undrafted(completion.records, positions)
        self.view.numbers(summarize(completion.records), why)
        return completion

    def set(self, **changes: object) -> None:
        """Change settings, all or none."""
        self.config = self.config.replace(**changes)

    def load_model(self, role: str, name: str) -> None:
        """Replace target or drafter; the old ones stay if the new one does not load, fit or run.

        With another target a bundled drafter becomes the bundled drafter of the target's kind, or
        none where that does not fit. Methods that lack their draft model go off.
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
        if drafter.name in BUNDLED_FOLDERS:
            return load_default(target, self._drafter_options)
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
        for setting, value in config.to_dict().items():
            if value != getattr(self.config, setting) and setting != "stop":
                self.view.line(f"{setting}: {value or 'off'}, since there is no draft model")
        self.engine, self.config = engine, config
