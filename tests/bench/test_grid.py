"""Grids: how axes become cells, the order of the schedule, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from foredraft.bench.grid_file import load_grid, read_grid
from foredraft.errors import ConfigError
from tests.bench.toy_grid import toy_grid, toy_table

SAMPLERS = ("greedy", "nucleus(temperature=0.8, top_p=0.9)")


def test_the_documented_matrix_is_what_it_says() -> None:
    grid = load_grid("documented")
    assert Counter(i.kind for i in grid.prompts) == {
        "dialogue": 20,
        "translation": 20,
        "long": 10,
        "code": 20,
    }
    assert len(grid.seeds) == 3
    assert {c.config.sampler for c in grid.cells} == set(SAMPLERS)
    greedy = [c for c in grid.cells if c.config.sampler == "greedy"]
    fixed = [c for c in greedy if c.method == "speculative" and not c.config.egag]
    egag = [c for c in greedy if c.config.egag]
    nasd = [c for c in greedy if c.method == "ngram"]
    assert [c.config.gamma for c in fixed] == [2, 4, 6, 8]
    assert {(c.config.egag_gamma_max, c.config.egag_ema) for c in egag} == {
        (g, e) for g in (4, 6, 8) for e in (0.0, 0.9)
    }
    assert {(c.config.ngram_order, c.config.top_k_filler) for c in nasd} == {
        (n, k) for n in (3, 4, 5) for k in (1, 3, 5)
    }
    assert len(greedy) == 4 + 6 + 9 + 1  # and Target AR
    assert grid.num_rows == 2 * 20 * 70 * 3


def test_one_axis_at_a_time_moves_one_axis_at_a_time(tmp_path: Path) -> None:
    axes = {"gamma": [4, 2, 8], "verifier": ["rejection", "block"], "sampler": list(SAMPLERS)}
    table = toy_table(tmp_path, axes=axes, experiment=[], references=[], mode="one_at_a_time")
    cells = [c for c in read_grid(table).cells if c.method == "speculative"]
    assert [(c.config.gamma, c.config.verifier, c.config.sampler) for c in cells] == [
        (4, "rejection", SAMPLERS[0]),
        (2, "rejection", SAMPLERS[0]),
        (8, "rejection", SAMPLERS[0]),
        (4, "block", SAMPLERS[0]),
        (4, "rejection", SAMPLERS[1]),
    ]
    whole = read_grid({**table, "mode": "product"}).cells
    assert len([c for c in whole if c.method == "speculative"]) == 3 * 2 * 2


def test_methods_and_policies_are_axes_like_any_other(tmp_path: Path) -> None:
    axes = {"method": ["target", "speculative"], "policy": ["fixed", "confidence(threshold=0.3)"]}
    grid = toy_grid(tmp_path, axes=axes, experiment=[], references=[])
    assert [c.label for c in grid.cells] == [
        "target",  # once: plain decoding has no policy
        "speculative policy=fixed",
        "speculative policy=confidence(threshold=0.3)",
    ]


def test_every_cell_is_compared_with_target_ar_under_its_own_sampler(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path)
    for cell in grid.cells:
        assert cell.baseline in grid.cells
        assert cell.baseline.config.sampler == cell.config.sampler


def test_coupled_cells_have_a_coupled_baseline_and_must_match_it(tmp_path: Path) -> None:
    axes = {"verifier": ["rejection", "coupled"], "sampler": ["multinomial(temperature=1.0)"]}
    grid = toy_grid(tmp_path, axes=axes, experiment=[], references=[])
    coupled = next(c for c in grid.cells if c.method != "target" and "coupled" in c.label)
    assert coupled.is_deterministic
    assert coupled.baseline.config.verifier == "coupled"
    assert len([c for c in grid.cells if c.method == "target"]) == 2


def test_the_schedule_runs_every_cell_of_a_prompt_together_in_random_order(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path)
    blocks = grid.blocks()
    ids = [[task.cell.id for task in block.tasks] for block in blocks]
    assert all(sorted(i) == sorted(c.id for c in grid.cells) for i in ids)
    assert len({tuple(i) for i in ids}) > 1  # not the same order each time
    assert [t.order for b in blocks for t in b.tasks] == list(range(grid.num_rows))
    assert len({t.key for b in blocks for t in b.tasks}) == grid.num_rows
    assert blocks == toy_grid(tmp_path).blocks()


def test_whatever_decides_the_rows_is_in_the_fingerprint(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seeds": [1]},
        {"order_seed": 5},
        {"max_length": 7},
        {"max_prompts": 1},
        {"settings": {"first_target": False}},
    ]
    prints = {toy_grid(tmp_path, **change).fingerprint for change in changes}
    assert len(prints) == len(changes)
    assert toy_grid(tmp_path).fingerprint in prints


def test_the_grid_may_be_cut_to_fewer_and_shorter_prompts() -> None:
    grid = load_grid("quick")
    assert Counter(i.kind for i in grid.prompts) == dict.fromkeys(
        ("dialogue", "translation", "long", "code"), 3
    )
    assert max(i.length for i in grid.prompts) == 60
    assert [i.kind for i in load_grid("quick", ["french"]).prompts] == ["french"] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sedes": [1]}, "no key 'sedes' (did you mean 'seeds'?)"),
        ({"seeds": []}, "seeds must be different and at least one"),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"seeds": [-1]}, "seed must lie in"),
        ({"axes": {"gama": [1]}}, "unknown axis 'gama' (did you mean 'gamma'?)"),
        ({"axes": {"gamma": []}}, "needs a list of at least one value"),
        ({"axes": {"gamma": [2, 2]}}, "holds a value twice"),
        ({"axes": {"gamma": [0]}}, "must lie in"),
        ({"axes": {"policy": ["fixd"]}}, "did you mean 'fixed'"),
        ({"axes": {"sampler": ["nucleus(top_p=2.0)"]}}, "top_p"),
        ({"axes": {"method": ["speculativ"]}}, "did you mean 'speculative'"),
        ({"axes": {"seed": [1]}}, "list the seeds in `seeds`"),
        ({"axes": {"length": [9]}}, "max_length"),
        ({"axes": {"reset_in_between": [False]}}, "must not depend on the rows before it"),
        ({"axes": {"draft_model": [3]}}, "draft_model must be a name"),
        ({"mode": "diagonal"}, "unknown mode 'diagonal'"),
        ({"max_length": 0}, "max_length must lie in"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": "code"}, "prompts must be a list"),
        ({"references": ["fixed"]}, "is no cell"),
        ({"experiment": [3]}, "experiment must be a table"),
        ({"experiment": [{"methods": "x"}]}, "an experiment has no key 'methods'"),
        (
            {"experiment": [{"name": "a"}, {"name": "a", "settings": {"gamma": 2}}]},
            "two different cells are called",
        ),
    ],
)
def test_a_bad_grid_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    table = toy_table(tmp_path, **{"experiment": [], "references": [], **change})
    with pytest.raises(ConfigError) as refusal:
        read_grid(table)
    assert words in str(refusal.value)


def test_a_file_that_is_no_grid_is_refused_with_the_names_of_those_there_are(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    for source in (str(broken), "documentd"):
        with pytest.raises(ConfigError, match="documented, quick"):
            load_grid(source)
