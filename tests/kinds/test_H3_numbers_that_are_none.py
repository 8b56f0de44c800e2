"""No verdict, ratio, advice or model comes from numbers that are not finite, or from no time."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foredraft.bench.advise import advise
from foredraft.bench.analysis import analyse
from foredraft.bench.folder import RunFolder
from foredraft.bench.intervals import compare
from foredraft.bench.recordings import Recording
from foredraft.bench.replay import Replay
from foredraft.bench.rows import Row
from foredraft.bench.run import run_grid
from foredraft.bench.timed import Clock, CostTable, TimedModel
from foredraft.checks import Plan, check
from foredraft.cli.main import main
from foredraft.engine import Engine
from foredraft.errors import ConfigError, ForedraftError, ModelError
from foredraft.loading import LoadedModel
from foredraft.models import Context, TableModel
from foredraft.zoo import bundled_path, streams, training
from foredraft.zoo.evaluation import Measured
from foredraft.zoo.publish import publish
from foredraft.zoo.run import Run
from foredraft.zoo.training import Progress, prepare, train
from tests.bench.test_advise import PROMPTS
from tests.bench.toy_grid import run_toy, toy_crew, toy_grid
from tests.toy_engine import toy_drafter, toy_engine, toy_target
from tests.zoo.tiny_recipe import make_run

NAN, INF = math.nan, math.inf
BAD = (NAN, INF)


class Damaged(TableModel):
    """A table some of whose logits are no numbers, from a given length on.

    Args:
        inner: the table.
        value: what is there instead.
        since: tokens held.
    """

    def __init__(self, inner: TableModel, value: float, since: int) -> None:
        super().__init__(inner._table)
        self._value, self._since = value, since

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        logits = super().logits(context, tokens, keep).clone()
        for row in range(keep):
            if context.length - keep + 1 + row >= self._since:
                logits[row, 3] = self._value
        return logits


def damaged(value: float, since: int = 0, *, target: bool = True, drafter: bool = False) -> Engine:
    """Return the toy engine with damage in one model or both."""
    plain = toy_engine()
    assert plain.drafter is not None

    def with_damage(one: LoadedModel, model: TableModel, is_damaged: bool) -> LoadedModel:
        return replace(one, model=Damaged(model, value, since) if is_damaged else model)

    return Engine(
        with_damage(plain.target, toy_target(), target),
        with_damage(plain.drafter, toy_drafter(), drafter),
    )


# --- verify ---------------------------------------------------------------------------------------

SMALL = Plan(samples=200, length=6, prompts=("Sing",), verifiers=("rejection", "coupled"))


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("who", ["target", "drafter"])
@pytest.mark.parametrize("since", [0, 4])
@pytest.mark.parametrize("method", ["speculative", "egag", "ngram"])
def test_a_damaged_model_fails_its_checks(value: float, who: str, since: int, method: str) -> None:
    engine = damaged(value, since, target=who == "target", drafter=who == "drafter")
    if who == "drafter" and method == "ngram":
        return  # it is not asked
    report = check(engine, replace(SMALL, methods=(method,)))
    assert report.failed
    assert not report.passed
    (finding,) = [f for f in report.findings if f.passed is False]
    assert "finite" in finding.sentence
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["passed"] is False


@pytest.fixture(scope="module")
def nan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled target with one NaN in a norm."""
    folder = tmp_path_factory.mktemp("damaged") / "model"
    shutil.copytree(bundled_path("target"), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "norm" in name)
    weights[name][3] = NAN
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_command_says_fail_and_why(
    nan_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["verify", "--target", str(nan_folder), "--samples", "50", "--length", "4"])
    printed = capsys.readouterr()
    assert left.value.code in (1, 2)  # 2: refused as it was loaded
    assert "finite" in printed.out + printed.err
    assert "passed" not in printed.out
    assert "Traceback" not in printed.err


# --- ablate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", BAD)
def test_rows_of_a_damaged_model_fail_and_give_no_ratio(tmp_path: Path, value: float) -> None:
    grid = toy_grid(tmp_path)
    folder = RunFolder(tmp_path / "run", grid, resume=False)
    run_grid(folder, toy_crew(grid, damaged(value)))
    assert {row.status for row in folder.rows} == {"failed"}
    assert all("finite" in (row.error or "") for row in folder.rows)
    findings = analyse(grid, folder.rows).findings
    assert all(f.num_failed and not f.comparisons and not f.means for f in findings)


FLOATS = [f.name for f in fields(Row) if "float" in str(f.type)]


@pytest.mark.parametrize("column", FLOATS)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_no_mean_or_ratio_holds_what_is_no_number(
    tmp_path: Path, column: str, value: float
) -> None:
    grid = toy_grid(tmp_path)
    run_toy(tmp_path / "run", grid)
    rows = RunFolder(tmp_path / "run", grid, resume=True).rows
    changed = [replace(row, **{column: value}) if i % 3 == 0 else row for i, row in enumerate(rows)]
    for given in (changed, [replace(row, **{column: value}) for row in rows]):
        found = analyse(grid, given)
        shown = json.dumps([vars(f) for f in found.findings], default=vars, allow_nan=False)
        assert "nan" not in shown.lower()


@pytest.mark.parametrize("speed", [0.0, -1.0, NAN, INF, None])
def test_no_ratio_comes_from_no_speed(tmp_path: Path, speed: float | None) -> None:
    grid = toy_grid(tmp_path)
    run_toy(tmp_path / "run", grid)
    rows = [
        replace(row, throughput_tokens_per_second=speed) if row.method == "target" else row
        for row in RunFolder(tmp_path / "run", grid, resume=True).rows
    ]
    assert all("target" not in f.comparisons for f in analyse(grid, rows).findings)
    if speed is not None:
        assert compare({"a": 1.0}, {"a": speed}) is None


def test_a_clock_that_stands_still_gives_no_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foredraft.bench.measure.perf_counter", lambda: 1.0)
    grid = toy_grid(tmp_path)
    run_toy(tmp_path / "run", grid)
    rows = RunFolder(tmp_path / "run", grid, resume=True).rows
    assert {row.throughput_tokens_per_second for row in rows} == {None}
    assert all(not f.comparisons for f in analyse(grid, rows).findings)


# --- advise and replay ----------------------------------------------------------------------------


def timed(draft: float, verify: float) -> tuple[Engine, Clock]:
    clock, plain = Clock(), toy_engine()
    assert plain.drafter is not None
    target = TimedModel(toy_target(), lambda rows: verify, clock)
    drafter = TimedModel(toy_drafter(), lambda rows: draft * rows, clock)
    return Engine(replace(plain.target, model=target), replace(plain.drafter, model=drafter)), clock


@pytest.mark.parametrize("draft", [0.1, 0.0, NAN, INF])
@pytest.mark.parametrize("verify", [1.0, 0.0, NAN, INF])
def test_no_advice_follows_from_no_time(draft: float, verify: float) -> None:
    if (draft, verify) == (0.1, 1.0):
        return
    engine, clock = timed(draft, verify)
    with pytest.raises(ForedraftError, match=r"no advice follows|must lie in"):
        advise(engine, PROMPTS, length=12, repeats=1, clock=clock)


@pytest.mark.parametrize("value", BAD)
def test_no_advice_follows_from_a_damaged_model(value: float) -> None:
    for engine in (damaged(value), damaged(value, target=False, drafter=True)):
        with pytest.raises(ModelError, match="finite"):
            advise(engine, PROMPTS, length=12, repeats=1)


@pytest.mark.parametrize("name", [f.name for f in fields(CostTable)])
@pytest.mark.parametrize("value", [NAN, INF, -1.0, 1e300])
def test_no_cost_is_none(name: str, value: float) -> None:
    recording = [Recording([1, 2], [1, 2, 3], 3)]
    with pytest.raises(ConfigError, match=f"{name} must lie in"):
        Replay(recording, costs=CostTable(**{name: value})).run("suffix", ["fixed"])


def test_a_pass_without_a_cost_is_no_unit() -> None:
    with pytest.raises(ConfigError, match="verify must lie in"):
        Replay([Recording([1], [2], 1)], costs=CostTable(verify=0.0)).run("suffix", ["fixed"])


# --- train ----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small_held_out_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HELD_OUT_TOKENS", 10 * 257)


def ignore(progress: Progress, loss: float) -> None:
    """Report nothing."""


def spoil_at(step: int, spoil: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step of training meet a number that is none."""
    build, count = training.build_loss, [0]

    def spoilt(network: Any, *args: Any) -> Any:
        loss = build(network, *args)

        def one(batch: Any) -> tuple[Tensor, Tensor]:
            count[0] += 1
            found, shown = loss(batch)
            if count[0] < step:
                return found, shown
            if spoil is not in_loss:
                spoil(network)
                return found, shown
            return found * NAN, shown

        return one

    monkeypatch.setattr(training, "build_loss", spoilt)


def in_loss(network: Any) -> None:
    """See `spoil_at`."""


def in_gradients(network: Any) -> None:
    next(iter(network.parameters())).register_hook(lambda gradient: gradient * INF)


def in_weights(network: Any) -> None:
    def fill(weight: Tensor) -> None:
        weight.data.fill_(INF)  # behind the gradient's back, as a step of the optimiser would

    list(network.parameters())[-1].register_post_accumulate_grad_hook(fill)


@pytest.mark.parametrize("spoil", [in_loss, in_gradients, in_weights])
def test_training_ends_at_the_first_number_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], None]
) -> None:
    run = make_run(tmp_path)

    def interrupt(progress: Progress, loss: float) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, interrupt)
    good = run.checkpoint_path.read_bytes()
    spoil_at(2, spoil, monkeypatch)
    with pytest.raises(ModelError, match=r"training has diverged at step 5: .* learning_rate"):
        train(run, ignore)
    assert run.checkpoint_path.read_bytes() == good
    assert not run.out_dir.exists()


def test_the_command_ends_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    spoil_at(2, in_loss, monkeypatch)
    flags = ["--run-dir", str(run.run_dir), "--out", str(run.out_dir), "--data", str(run.data_dir)]
    with pytest.raises(SystemExit) as left:
        main(["train", str(run.recipe_path), *flags, "--no-compile", "--device", "cpu"])
    errors = capsys.readouterr().err
    assert (left.value.code, errors.count("\n")) == (2, 1)
    assert "learning_rate" in errors
    assert not run.out_dir.exists()


def finished(tmp_path: Path) -> tuple[Run, Any, Progress]:
    run = make_run(tmp_path)
    return run, *train(run, ignore)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_nothing_that_is_no_number_is_published(tmp_path: Path, value: float) -> None:
    run, network, progress = finished(tmp_path)
    for name, weight in network.named_parameters():
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.view(-1)[0] = value
        with pytest.raises(ModelError, match="not finite"):
            publish(run, network, prepare(run), progress, Measured())
        assert not run.out_dir.exists(), name
        weight.data = kept


def test_a_checkpoint_or_a_teacher_that_holds_none_is_refused(tmp_path: Path) -> None:
    run, _, _ = finished(tmp_path)
    held = torch.load(run.checkpoint_path, weights_only=True)
    next(iter(held["model"].values())).view(-1)[0] = NAN
    torch.save(held, run.checkpoint_path)
    with pytest.raises(
        ModelError, match=r"checkpoint\.pt' has weights that are not finite; delete"
    ):
        train(run, ignore)
