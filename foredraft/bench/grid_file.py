"""A grid written down in TOML → a checked `Grid`; and the grids that are shipped.

```toml
name = "gamma"
prompts = ["dialogue", "code"]     # sets, or .jsonl files
seeds = [42, 43]
[axes]                             # every experiment runs at every point of these
sampler = ["greedy", "multinomial(temperature=1.0)"]
[[experiment]]
name = "fixed"
method = "speculative"
axes = { gamma = [2, 4, 8] }
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from foredraft.bench.cells import Experiment, cells_of
from foredraft.bench.grid import Grid
from foredraft.bench.prompt_sets import KINDS, PromptItem, load_prompts
from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, Json, read_text
from foredraft.ranges import Range, Seed, checked
from foredraft.registry import nearest

GridSeed = Annotated[int, Range(0, 2**63 - 1)]
GRIDS_DIR = Path(__file__).parent / "grids"
MODES = ("product", "one_at_a_time")
TOP: dict[str, Json] = {  # key → default
    "name": "",
    "mode": "product",
    "prompts": list(KINDS),
    "max_prompts": None,
    "max_length": None,
    "seeds": [42],
    "order_seed": 0,
    "references": [],
    "settings": {},
    "axes": {},
    "experiment": [],
}
INNER: dict[str, Json] = {"name": "", "mode": "product", "method": None, "settings": {}, "axes": {}}


def shipped_grids() -> list[str]:
    """Return the names of the grids that come with the package."""
    return sorted(path.stem for path in GRIDS_DIR.glob("*.toml"))


def load_grid(source: str, prompts: Sequence[str] = ()) -> Grid:
    """Return a grid by the name of a shipped one, or from a TOML file; `prompts` replace its own.

    Raises:
        ConfigError: no such file, not readable, an unknown key, or an illegal value of any setting.
    """
    file = GRIDS_DIR / f"{source}.toml" if source in shipped_grids() else Path(source).expanduser()
    try:
        table = tomllib.loads(read_text(file))
    except (ConfigError, ValueError, RecursionError) as error:
        reason = error if isinstance(error, ConfigError) else f"it is no TOML ({error})"
        raise ConfigError(
            f"cannot read the grid {quoted(source, PATH_LIMIT)}: {reason}; "
            f"give a TOML file or one of: {', '.join(shipped_grids())}"
        ) from error
    if prompts:
        table["prompts"] = list(prompts)
    return read_grid(table, name=file.stem)


def read_grid(table: Mapping[str, Json], *, name: str = "grid") -> Grid:
    """Return the grid of a parsed TOML table; errors as for `load_grid`."""
    values = _checked(table, TOP, "the grid")
    for experiment in values["experiment"]:
        if not isinstance(experiment, dict):
            raise ConfigError(f"experiment must be a table, not {quoted(experiment)}")
    inner = [_checked(e, INNER, "an experiment") for e in values["experiment"]]
    cells = cells_of([_experiment(values, e) for e in inner or [dict(INNER)]])
    labels = [cell.label for cell in cells]
    for label in values["references"]:
        if label not in labels:
            raise ConfigError(
                f"reference {quoted(label)} is no cell{nearest(str(label), labels)}; "
                f"legal: {', '.join(dict.fromkeys(labels))}"
            )
    return Grid(
        name=values["name"] or name,
        cells=cells,
        prompts=_prompts(values),
        seeds=_seeds(values["seeds"]),
        order_seed=checked("order_seed", values["order_seed"], Seed),
        references=tuple(values["references"]),
    )


def _checked(table: Mapping[str, Json], legal: Mapping[str, Json], where: str) -> dict[str, Json]:
    """Return the table with its defaults; every key must be known, and of its default's type."""
    for key, value in table.items():
        if key not in legal:
            raise ConfigError(
                f"{where} has no key {quoted(key)}{nearest(key, legal)}; legal: {', '.join(legal)}"
            )
        kind = type(legal[key])
        if legal[key] is not None and type(value) is not kind:
            word = {"dict": "a table", "str": "text", "int": "a whole number"}.get(kind.__name__)
            raise ConfigError(f"{key} must be {word or 'a list'}, not {quoted(value)}")
    return {**legal, **table}


def _experiment(top: dict[str, Json], inner: dict[str, Json]) -> Experiment:
    axes = {**top["axes"], **inner["axes"]}
    for name, axis in axes.items():
        if not isinstance(axis, list) or not axis:
            raise ConfigError(
                f"axis {quoted(name)} needs a list of at least one value, not {quoted(axis)}"
            )
        if any(a == b for i, a in enumerate(axis) for b in axis[:i]):
            raise ConfigError(f"axis {quoted(name)} holds a value twice: {quoted(axis)}")
    for mode in (top["mode"], inner["mode"]):
        if mode not in MODES:
            raise ConfigError(f"unknown mode {quoted(mode)}; legal: {', '.join(MODES)}")
    settings = {**top["settings"], **inner["settings"]}
    if inner["method"] is not None:
        settings["method"] = inner["method"]
    one_by_one = MODES[1] in (top["mode"], inner["mode"])
    return Experiment(inner["name"], settings, axes, product=not one_by_one)


def _prompts(values: dict[str, Json]) -> tuple[PromptItem, ...]:
    if not all(isinstance(name, str) for name in values["prompts"]):
        raise ConfigError(f"prompts must be names or files, not {quoted(values['prompts'])}")
    return load_prompts(
        values["prompts"], max_prompts=values["max_prompts"], max_length=values["max_length"]
    )


def _seeds(given: list[Json]) -> tuple[int, ...]:
    seeds = tuple(checked("seed", seed, GridSeed) for seed in given)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be different and at least one, not {quoted(given)}")
    return seeds
