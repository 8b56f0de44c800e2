"""Cells: one way to decode each, and how axes become cells.

A cell is compared with the Target AR cell that draws from the same distribution; `baseline` makes
that one from the few settings plain decoding reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from foredraft.config import METHODS, DecodingConfig, check_method
from foredraft.errors import ConfigError, quoted
from foredraft.files import Json
from foredraft.method import Method
from foredraft.registry import nearest

CONTROLS = (  # settings that bend the target's distribution
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias"),
    *("no_repeat_ngram_size", "bad_words", "min_new_tokens", "json_schema", "regex", "grammar"),
)
# All that plain decoding reads, lengths apart.
PLAIN = ("sampler", "cache", "chat", "stop", *CONTROLS)
TARGET = "target"
DEFAULT = DecodingConfig()
ELSEWHERE = {  # settings that are no axes, and where they belong
    "seed": "list the seeds in `seeds`",
    "length": "prompts carry their lengths; cut them with `max_length`",
    "n": "a row is one text; list more `seeds`",
    "logprobs": "it changes what is told, not what is decoded",
    "prediction": "it belongs to one prompt, and a row to one of many",
    "debug": "it changes what is printed, not what is decoded",
    "reset_in_between": "a row must not depend on the rows before it",
    **{name: "choose with the axis `method`" for name in METHODS},
    "drafter": "name draft models with the axis `draft_model`, methods with `method`",
}
Settings = dict[str, Json]


@dataclass(frozen=True)
class Cell:
    """One way to decode."""

    label: str  # the method and what varies, e.g. `speculative gamma=4`
    # what varies and changes the output of plain decoding too, e.g. the sampler; cells are compared
    # within one condition
    condition: str
    method: str  # speculative, ngram, target or drafter
    config: DecodingConfig  # the settings; seed and length come from the prompt and the run
    draft_model: str | None = None  # name of the draft model; None is the one of the command line

    @property
    def id(self) -> str:
        """Unique in a grid."""
        return f"{self.label} | {self.condition}" if self.condition else self.label

    @property
    def is_deterministic(self) -> bool:
        """Whether the text must equal that of Target AR: greedy, or noise by seed and position."""
        return Method.of(self.config, self.method).is_deterministic

    @property
    def baseline(self) -> Cell:
        """The Target AR cell that this one is compared with."""
        return _plain(TARGET, self.config, TARGET, self.condition, None)

    def to_dict(self) -> Settings:
        """Return plain values, ready for JSON."""
        return dataclasses.asdict(self) | {"config": self.config.to_dict()}


def _plain(
    method: str, config: DecodingConfig, label: str, condition: str, draft_model: str | None
) -> Cell:
    """Return a cell of a method without drafts, free of settings that it does not read."""
    kept = {name: getattr(config, name) for name in PLAIN}
    if Method.of(config, method).verifier.is_coupled:
        kept["verifier"] = config.verifier  # decides the source of randomness
    return Cell(label, condition, method, DEFAULT.replace(**kept), draft_model)


@dataclass(frozen=True)
class Experiment:
    """Axes, and how they span cells."""

    name: str  # begins the labels; empty means the method's name
    settings: Mapping[str, Json]  # hold for every cell
    # setting → values; the first one is the value it keeps while another axis moves
    axes: Mapping[str, Sequence[Json]]
    product: bool = True  # every combination, or else one axis at a time

    def points(self) -> Iterator[Settings]:
        """Yield the value of every axis at every point."""
        names = list(self.axes)
        if self.product:
            for values in product(*self.axes.values()):
                yield dict(zip(names, values, strict=True))
            return
        start = {name: axis[0] for name, axis in self.axes.items()}
        yield start
        for name, axis in self.axes.items():
            for value in axis[1:]:
                yield start | {name: value}


def cells_of(experiments: Iterable[Experiment]) -> tuple[Cell, ...]:
    """Return every distinct cell of some experiments, the Target AR cells they need included.

    Raises:
        ConfigError: an unknown setting, an illegal value, or two different cells of one name.
    """
    found: dict[str, Cell] = {}
    cells = [
        _cell(experiment, point) for experiment in experiments for point in experiment.points()
    ]
    for one in (one for cell in cells for one in (cell.baseline, cell)):
        if found.setdefault(one.id, one) != one:
            raise ConfigError(
                f"two different cells are called {quoted(one.id)}; "
                "give the experiments different names"
            )
    return tuple(found.values())


def _cell(experiment: Experiment, point: Settings) -> Cell:
    given = {**experiment.settings, **point}
    method = given.pop("method", "speculative")
    draft_model = given.pop("draft_model", None)
    check_method(method)
    if draft_model is not None and not isinstance(draft_model, str):
        raise ConfigError(f"draft_model must be a name or a folder, not {quoted(draft_model)}")
    config = _config(given)
    label = " ".join([experiment.name or method, *_words(point, ("method", *PLAIN))])
    varying = {name: value for name, value in point.items() if name in PLAIN}
    if Method.of(config, method).verifier.is_coupled:
        varying["verifier"] = "coupled"
    condition = " ".join(_words(varying, ()))
    if method in (TARGET, "drafter"):
        name = TARGET if method == TARGET else experiment.name or method
        return _plain(method, config, name, condition, draft_model if method != TARGET else None)
    return Cell(label, condition, method, config, draft_model)


def _words(values: Settings, without: Sequence[str]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items() if name not in without]


def _config(given: Settings) -> DecodingConfig:
    legal = [f.name for f in dataclasses.fields(DecodingConfig) if f.name not in ELSEWHERE]
    for name in given:
        if name in ELSEWHERE:
            raise ConfigError(f"{quoted(name)} is no axis of a grid: {ELSEWHERE[name]}")
        if name not in legal:
            names = [*legal, "method", "draft_model"]
            raise ConfigError(
                f"unknown axis {quoted(name)}{nearest(name, names)}; legal: {', '.join(names)}"
            )
    return DEFAULT.replace(**given)
