"""What a row says of a generation, against counts by hand and the statistics of the house."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foredraft.bench.grid import Task
from foredraft.bench.machine import PeakMemory, describe_machine, describe_model, weights_hash
from foredraft.bench.measure import Place, References, config_for, measure, text_hash
from foredraft.bench.rows import Row
from foredraft.engine import Engine
from foredraft.loading.runtime import can_fuse
from foredraft.models import DecoderOnlyModel, EncoderDecoderModel, Network
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel
from foredraft.tracing import summarize
from tests.bench.toy_grid import toy_grid
from tests.tiny import build
from tests.toy_engine import CERTAINTY, toy_drafter, toy_engine, toy_target


def task(folder: Path, label: str, condition: str) -> Task:
    tasks = [t for block in toy_grid(folder).blocks() for t in block.tasks]
    wanted = (label, condition, "toy-01", 1)
    return next(
        t
        for t in tasks
        if (t.cell.label, t.cell.condition.split("(")[0], t.item.id, t.seed) == wanted
    )


def row(folder: Path, label: str, sampler: str = "greedy", engine: Engine | None = None) -> Row:
    one = task(folder, label, f"sampler={sampler}")
    return measure(engine or toy_engine(), one, Place("toy"), References())


def test_numbers_are_those_of_the_summary(tmp_path: Path) -> None:
    one = task(tmp_path, "speculative gamma=4", "sampler=greedy")
    done = toy_engine().generate(one.item.prompt, config_for(one.cell, one.item, one.seed))
    expected, found = summarize(done.records), row(tmp_path, "speculative gamma=4")
    for name in ("num_steps", "num_drafted_tokens", "acceptance_rate", "mean_acceptance_length"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.text_hash == text_hash(done.text)
    drafted = [int(n) for n in (found.drafted_by_position or "").split()]
    kept = [int(n) for n in (found.kept_by_position or "").split()]
    assert sum(drafted) == found.num_drafted_tokens
    assert sum(kept) == found.num_accepted_tokens
    shares = tuple(k / d for k, d in zip(kept, drafted, strict=True))
    assert shares == expected.acceptance_by_position


def test_one_counting_rule_for_every_method(tmp_path: Path) -> None:
    for label in ("target", "speculative gamma=4", "EGAG", "NASD"):
        found = row(tmp_path, label)
        assert found.latency_seconds is not None
        assert found.num_emitted_tokens == 12
        assert found.throughput_tokens_per_second == 12 / found.latency_seconds


def test_greedy_text_is_compared_with_target_ar(tmp_path: Path) -> None:
    found = row(tmp_path, "speculative gamma=4")
    assert (found.matches_baseline, found.target_logprob_per_token) == ("yes", None)


def test_a_text_that_differs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: References, engine: Engine, task: Task) -> list[int]:
        done = engine.generate(task.item.prompt, config_for(task.cell, task.item, 1))
        return [done.tokens[0] + 1, *done.tokens[1:]]

    monkeypatch.setattr(References, "tokens", other)
    assert row(tmp_path, "speculative gamma=4").matches_baseline == "no"


def test_drawn_text_has_the_targets_log_likelihood(tmp_path: Path) -> None:
    # The nucleus cuts everything but the said token, to which this target gives CERTAINTY.
    engine = toy_engine(target=toy_drafter())
    found = row(tmp_path, "speculative gamma=4", "nucleus", engine)
    assert found.matches_baseline is None
    assert found.target_logprob_per_token == pytest.approx(math.log(CERTAINTY), rel=1e-5)


def test_entropy_is_traced_where_it_was_measured(tmp_path: Path) -> None:
    trace = row(tmp_path, "EGAG").trace
    assert trace is not None
    assert all(step.split(":")[0].isdigit() for step in trace.split())
    assert row(tmp_path, "speculative gamma=4").trace is None


def test_what_goes_wrong_is_a_failed_row(tmp_path: Path) -> None:
    found = row(tmp_path, "target", engine=toy_engine(target=toy_target(max_length=2)))
    assert found.status == "failed"
    assert found.error is not None
    assert found.error.startswith("ContextOverflow: the prompt has")
    assert found.throughput_tokens_per_second is None


def test_peak_memory_is_of_the_time_since_it_was_asked_for() -> None:
    held = bytearray(b"x") * 300_000_000
    del held
    cpu, _ = PeakMemory().peaks()
    if cpu is None:
        pytest.skip("this system does not let a process reset its high-water mark")
    memory = PeakMemory()
    held = bytearray(b"x") * 300_000_000
    after, _ = memory.peaks()
    assert after is not None
    assert after - cpu > 200_000_000
    assert len(held)


RUNTIMES: dict[str, Callable[[Any], Network]] = {
    "transformers": DecoderOnlyModel,
    "native": NativeModel,
    "bfloat16": lambda network: NativeModel(network.bfloat16()),
    "fused": FusedModel,
    "seq2seq": lambda network: EncoderDecoderModel(build("t5")),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_changed_weight_changes_the_hash(runtime: str) -> None:
    if runtime == "fused" and not can_fuse():
        pytest.skip("no C compiler here")
    network = copy.deepcopy(build("llama"))
    before = weights_hash(RUNTIMES[runtime](copy.deepcopy(network)))
    assert before is not None
    assert before == weights_hash(RUNTIMES[runtime](copy.deepcopy(network)))
    if runtime == "seq2seq":
        return
    for name, _ in network.named_parameters():
        changed = copy.deepcopy(network)
        changed.get_parameter(name).data.view(-1)[-1] += 1
        assert weights_hash(RUNTIMES[runtime](changed)) != before, name


def test_the_machine_is_described_with_versions() -> None:
    found = describe_machine()
    assert found["versions"]["torch"]
    assert found["cores"] >= 1
    assert describe_model(toy_engine().target)["name"] == "toy-target"
