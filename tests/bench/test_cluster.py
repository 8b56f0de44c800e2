"""Spreading over a cluster: who sits where, what a missing Ray says, and a worker that dies."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foredraft.bench.cluster import Seat, import_ray, seats_of
from foredraft.errors import ConfigError

ROOT = Path(__file__).parents[2]


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


NODES = [node("a", CPU=8.0, GPU=2.0), node("b", CPU=4.0), node("dead", alive=False, CPU=9.0)]


def test_every_gpu_gets_one_worker() -> None:
    assert seats_of(NODES, on_cpu=False, count=None) == [Seat("a", 0), Seat("a", 1)]


def test_without_gpus_every_machine_gets_one_worker() -> None:
    assert seats_of(NODES, on_cpu=True, count=None) == [Seat("a", None), Seat("b", None)]
    assert seats_of(NODES[1:], on_cpu=False, count=None) == [Seat("b", None)]


def test_workers_that_share_a_device_are_marked() -> None:
    seats = seats_of(NODES, on_cpu=True, count=3)
    assert seats == [Seat("a", None, True), Seat("b", None), Seat("a", None, True)]


def test_gpus_are_not_shared_and_a_cluster_needs_a_device() -> None:
    assert seats_of(NODES, on_cpu=False, count=2) == [Seat("a", 0), Seat("a", 1)]
    with pytest.raises(ConfigError, match=r"must lie in \[1, 2\]"):
        seats_of(NODES, on_cpu=False, count=3)
    with pytest.raises(ConfigError, match="must lie in"):
        seats_of(NODES, on_cpu=True, count=0)
    with pytest.raises(ConfigError, match="no machine with a free processor"):
        seats_of([], on_cpu=True, count=None)


def test_a_missing_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="--extra cluster"):
        import_ray()


@pytest.mark.slow
def test_a_worker_that_is_killed_has_its_cells_redone(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra `cluster`")
    # Ray in a process of its own: it leaves threads and warnings behind.
    command = [sys.executable, "-m", "tests.bench.ray_killing", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] is True
    assert found["rows"] == found["planned"]
    assert found["same_as_without_ray"] is True
    assert found["shared"] == [True]
