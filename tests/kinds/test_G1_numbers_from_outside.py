"""Every number of a flag, slash command, grid and recipe is finite and in a stated range."""

from __future__ import annotations

import argparse
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.site.flags import parsers
from foredraft.bench.cells import ELSEWHERE
from foredraft.bench.grid_file import read_grid
from foredraft.cli.commands import COMMANDS
from foredraft.config import DecodingConfig
from foredraft.zoo import recipe as recipes
from foredraft.zoo.corpus import Source
from foredraft.zoo.recipe import load_recipe
from tests.bench.toy_grid import toy_table
from tests.odd_numbers import (
    NO_NUMBERS,
    RANGE,
    VALUES,
    WORDS,
    attempt,
    generate,
    numbers_of,
    session,
)
from tests.toy_engine import RETOLD
from tests.zoo.tiny_recipe import RECIPE

SECTIONS = {
    "model": recipes.LlamaShape,
    "t5": recipes.T5Shape,
    "tokenizer": recipes.TokenizerRecipe,
    "training": recipes.TrainingRecipe,
    "distillation": recipes.Distillation,
    "data": Source,
    "": recipes.Recipe,
}


SETTINGS = numbers_of(DecodingConfig)


@pytest.mark.parametrize("name", [n for n in COMMANDS if n[1:] in SETTINGS])
def test_a_slash_command_is_refused_or_the_next_prompt_works(name: str) -> None:
    for word in WORDS:
        shell = session()
        before = shell.config
        done = attempt(lambda w=word, s=shell: COMMANDS[name].run(s, w) or True, name[1:])
        assert done or shell.config == before
        if done:
            shell.run_prompt(RETOLD, shell.config)


@pytest.mark.parametrize("word", WORDS)
def test_numbers_of_samplers_and_storages_typed_as_words(word: str) -> None:
    one = word.strip() or "x"
    for line, named in (
        (f"greedy {one}", "temperature"),
        (f"nucleus 1 {one}", "top_p"),
        (f"topknucleus 1 {one} 1", "top_k"),
    ):
        shell = session()
        if attempt(lambda li=line, s=shell: COMMANDS["/processor"].run(s, li) or True, named):
            shell.run_prompt(RETOLD, shell.config)
    shell = session()
    command = COMMANDS["/set_ngramstorage"]
    if attempt(lambda: command.run(shell, f"basic {one}") or True, "ngram_order"):
        shell.run_prompt(RETOLD, shell.config)


def number_flags() -> Iterator[Any]:
    for command, parser in parsers():
        for action in parser._actions:
            if action.type in (int, float) or type(action.type).__name__ == "Number":
                flag = action.option_strings[0]
                yield pytest.param(parser, action, id=f"{command.split()[-1]}{flag}")


@pytest.mark.parametrize(("parser", "action"), [*number_flags()])
def test_a_flag_is_refused_in_one_line_and_its_help_shows_the_range(
    parser: argparse.ArgumentParser, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = action.option_strings[0]
    needed = [a.option_strings[0] for a in parser._actions if a.required and a.option_strings]
    groups = [g for g in parser._mutually_exclusive_groups if g.required]
    needed += [g._group_actions[0].option_strings[0] for g in groups]
    words = [w for name in needed for w in (name, "x")]
    placed = [a for a in parser._actions if a.required and not a.option_strings]
    words += [next(iter(a.choices)) if a.choices else "x" for a in placed]
    for word in WORDS:
        try:
            value = getattr(parser.parse_args([*words, f"{flag}={word}"]), action.dest)
        except SystemExit:
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert len(said) < 400
            assert flag in said
            assert RANGE.search(said), said
        else:
            assert math.isfinite(value)
            assert abs(value) < 2**63
    assert re.search(r"\((> )?-?\d\S* … (< )?\d\S*\)", parser._get_formatter()._expand_help(action))


@pytest.mark.parametrize("name", [n for n in SETTINGS if n not in ELSEWHERE])
def test_an_axis_of_a_grid_is_refused_or_works(name: str, tmp_path: Path) -> None:
    for value in VALUES[:20] + NO_NUMBERS[:5]:
        for place in ({"axes": {name: [value]}}, {"settings": {name: value}}):
            table = toy_table(tmp_path, experiment=[], references=[], **place)
            grid = attempt(lambda t=table: read_grid(t), name)
            for cell in grid.cells if grid else ():
                generate(**(cell.config.to_dict() | {"length": 6, "stop": ()}))


@pytest.mark.parametrize("name", ["max_prompts", "max_length", "order_seed", "seeds"])
def test_a_number_of_a_grid_is_refused_or_in_its_range(name: str, tmp_path: Path) -> None:
    for value in VALUES[:20] + NO_NUMBERS[:5]:
        given = [value] if name == "seeds" else value
        grid = attempt(lambda g=given: read_grid(toy_table(tmp_path, **{name: g})))
        if grid is not None:
            assert all(abs(n) < 2**63 for n in (*grid.seeds, grid.order_seed))
            assert grid.prompts


# --- everything else that takes numbers -----------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "name"), [(s, n) for s, kind in SECTIONS.items() for n in numbers_of(kind)]
)
def test_a_number_of_a_recipe_is_refused_or_finite(
    section: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = RECIPE
    if section in ("t5", "distillation"):
        which = "seq2seq_drafter" if section == "t5" else "drafter"
        source = recipes.recipe_path(which).read_text(encoding="utf-8")
    named = () if name == "tokens_per_step" else (name,)  # it bounds the lengths, too
    for value in VALUES[:20] + NO_NUMBERS[:5]:
        table = tomllib.loads(source)
        part = {"t5": table["model"], "": table, "data": table["data"][0]}.get(section)
        (part if part is not None else table[section])[name] = value
        monkeypatch.setattr(recipes.tomllib, "loads", lambda text, t=table: t)
        recipe = attempt(lambda: load_recipe("drafter"), *named)
        if recipe is not None:
            part = {"t5": recipe.model, "": recipe, "data": recipe.data[0]}.get(section)
            assert abs(getattr(part or getattr(recipe, section), name)) <= 10**12


@pytest.mark.parametrize("kind", SECTIONS.values(), ids=lambda kind: kind.__name__)
def test_every_number_of_a_recipe_declares_a_finite_range(kind: type) -> None:
    from foredraft.ranges import hints_of, range_of

    for name in numbers_of(kind):
        legal = range_of(hints_of(kind)[name])
        assert legal is not None
        assert math.isfinite(legal.low + legal.high)
