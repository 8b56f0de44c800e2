"""The interactive shell: reads lines, runs prompts and commands, survives both.

Holds the session (engine, config, last results); what commands there are stands in `commands`, how
things look in `view`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from specdec.cli.commands import COMMANDS, Quit, find_command
from specdec.cli.view import View
from specdec.config import DecodingConfig
from specdec.core import Completion
from specdec.engine import Engine, Result, check_request
from specdec.errors import SpecDecError
from specdec.models import LoadOptions, load, load_drafter
from specdec.tracing import summarize


class Shell:
    """One session.

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
        self._options = options or LoadOptions()
        self._drafter_options = drafter_options or self._options

    @property
    def drafter_name(self) -> str:
        """Name of the draft model, for `/help`."""
        return self.engine.drafter.name if self.engine.drafter else "no drafter"

    def run(self, lines: Iterable[str], *, echo: bool) -> None:
        """Run lines until they end or `/quit`.

        Args:
            lines: prompts and commands.
            echo: show each line before it is run, for transcripts.
        """
        for line in lines:
            if not line.strip():
                continue
            if echo:
                self.view.echo(line.strip())
            try:
                self.run_line(line.strip())
            except Quit:
                return
            except SpecDecError as error:
                self.view.error(error)
            except KeyboardInterrupt:
                self.view.line("\n[interrupted]", style="yellow")

    def run_line(self, line: str) -> None:
        """Run one line: a command if it begins with `/`, else a prompt."""
        if line.startswith("/"):
            name, _, rest = line.partition(" ")
            command = find_command(name)
            command.run(self, rest.strip())
            if command.value is not None:
                self.view.line(f"{command.name[1:]}: {command.value(self)}")
        else:
            self.run_prompt(line, self.config)

    def run_prompt(self, prompt: str, config: DecodingConfig) -> None:
        """Run every method that is switched on; nothing runs if one of them must refuse."""
        check_request(self.engine, prompt, config)
        done = []
        for method in config.methods:
            self.view.heading(method)
            done.append(self._run_method(prompt, config, method))
        self.results = self.engine.results(done, prompt, config)
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
        """Replace target or drafter; the old one stays if the new one does not load or fit."""
        if role == "drafter":
            loaded = load_drafter(name, self.engine.target, self._drafter_options)
            self.engine = Engine(self.engine.target, loaded)
            return
        target = load(name, "target", self._options)
        drafter = self.engine.drafter
        if drafter is not None:
            drafter = load_drafter(drafter.name, target, self._drafter_options)
        self.engine = Engine(target, drafter)


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input; bytes that are not UTF-8 stay visible as surrogates."""
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", errors="surrogateescape").rstrip("\r\n")


def terminal_lines() -> Iterator[str]:
    """Yield lines typed at a terminal, with history and completion; Ctrl-D ends."""
    from specdec.cli.prompt import build_session

    session = build_session(COMMANDS)
    while True:
        try:
            yield session.prompt("> ")
        except KeyboardInterrupt:
            continue  # Ctrl-C drops the line, not the shell
        except EOFError:
            return
