"""Session: the loaded models, the settings and the last results; what commands act upon.

Knows neither slash commands nor where lines come from.
"""

from __future__ import annotations

from typing import Any

from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from foredraft.core import Completion
from foredraft.engine import Engine, Result, check_request
from foredraft.models import LoadOptions, load, load_drafter
from foredraft.models.loading import BUNDLED, BUNDLED_FOLDERS
from foredraft.tracing import summarize


class Session:
    """What one run of the shell holds.

    Args:
        engine: the loaded models.
        config: the settings to begin with.
        view: where to print.
        options: how `/model` loads the target.
        drafter_options: how `/model` loads the drafter.
    """

    engine: Engine
    config: DecodingConfig
    view: View
    results: list[Result]

    def __init__(
        self,
        engine: Engine,
        config: DecodingConfig,
        view: View,
        options: LoadOptions | None = None,
        drafter_options: LoadOptions | None = None,
    ) -> None:
        self.engine, self.config, self.view = engine, config, view
        self.results = []
        self.prompt = ""  # what the results answer
        self._options = options or LoadOptions()
        self._drafter_options = drafter_options or self._options

    @property
    def drafter_name(self) -> str:
        """Name of the draft model, for `/help`."""
        return self.engine.drafter.name if self.engine.drafter else "no drafter"

    def run_prompt(self, prompt: str, config: DecodingConfig) -> None:
        """Run every method that is switched on; nothing runs if one of them must refuse."""
        check_request(self.engine, prompt, config)
        done = []
        for method in config.methods:
            self.view.heading(method)
            done.append(self._run_method(prompt, config, method))
        self.results, self.prompt = self.engine.results(done, prompt, config), prompt
        self.view.ratios(self.results)

    def _run_method(self, prompt: str, config: DecodingConfig, method: str) -> Completion:
        generation = self.engine.stream(prompt, config, method=method)
        for number, chunk in enumerate(generation, start=1):
            if config.debug:
                self.view.step(number, chunk.record, self.engine)
            else:
                self.view.text(chunk.text)
        completion = generation.completion
        self.view.line(completion.text if config.debug else "")
        self.view.numbers(summarize(completion.records))
        return completion

    def set(self, **changes: Any) -> None:
        """Change settings, all or none."""
        self.config = self.config.replace(**changes)

    def load_model(self, role: str, name: str) -> None:
        """Replace target or drafter; the old ones stay if the new one does not load or fit.

        With another target a bundled drafter becomes the bundled drafter of the target's kind.
        """
        if role == "drafter":
            loaded = load_drafter(name, self.engine.target, self._drafter_options)
            self.engine = Engine(self.engine.target, loaded)
            return
        target = load(name, "target", self._options)
        drafter = self.engine.drafter
        if drafter is not None:
            belongs = BUNDLED if drafter.name in BUNDLED_FOLDERS else drafter.name
            drafter = load_drafter(belongs, target, self._drafter_options)
        self.engine = Engine(target, drafter)
