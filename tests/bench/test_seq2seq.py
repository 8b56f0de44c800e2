"""An encoder–decoder pair is measured like any other."""

from __future__ import annotations

from pathlib import Path

from foredraft.bench.rows import Row
from foredraft.bench.worker import Worker
from foredraft.engine import Engine
from foredraft.loading import LoadedModel
from foredraft.loading.pairing import fit_drafter, fit_target
from tests.bench.toy_grid import toy_grid
from tests.tiny import TEXT_VOCAB, build, tokenizer


def engine() -> Engine:
    target = fit_target(build("t5", vocab_size=TEXT_VOCAB))
    drafter = fit_drafter(build("t5", 1, vocab_size=TEXT_VOCAB), target)
    return Engine(*(LoadedModel("tiny", model, tokenizer(), ()) for model in (target, drafter)))


def test_every_cell_of_a_grid_runs_on_an_encoder_decoder_pair(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path, seeds=[1], max_prompts=1)
    worker = Worker(engine, grid.cells)
    rows: list[Row] = [row for block in grid.blocks() for row in worker.run(block)]
    assert [row.error for row in rows] == [None] * len(grid.cells)
    greedy = [row for row in rows if row.condition == "sampler=greedy"]
    drawn = [row for row in rows if row.condition != "sampler=greedy"]
    assert {row.matches_baseline for row in greedy} == {"yes"}
    assert all((row.target_logprob_per_token or 0) < 0 for row in drawn)
    assert all(model["sha256"] for model in worker.describe())
