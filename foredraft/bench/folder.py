"""The folder of a run: its rows, its manifest, and the promise that two grids never mix in it."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from foredraft.bench.grid import Grid
from foredraft.bench.machine import describe_machine
from foredraft.bench.rows import Row, RowFile
from foredraft.errors import ConfigError, quoted

RUNS, MANIFEST, REPORT = "runs.csv", "manifest.json", "report.html"
SUMMARY = "summary.json"
COUNTING_RULE = (
    "throughput = emitted tokens, the end token included / wall seconds of the whole generation, "
    "reading the prompt included, device synchronised at both ends; the same for every method. "
    "Every cell is warmed up; the cells of a prompt run one after another in random order."
)


class RunFolder:
    """Where a run is kept.

    Args:
        path: created if it is not there.
        grid: what the run is of.
        resume: continue what is there; else the folder must hold no run.

    Raises:
        ConfigError: the folder holds another grid, or this one without `resume`, or it cannot be
            written.
    """

    def __init__(self, path: Path, grid: Grid, *, resume: bool) -> None:
        self.path, self.grid = path, grid
        self._manifest = self._read_manifest()
        if self._manifest is not None:
            self._check_same(resume)
        elif (path / RUNS).exists():
            raise ConfigError(
                f"{quoted(str(path), 300)} holds a {RUNS} without its {MANIFEST}; "
                "choose another --out"
            )
        elif resume:
            raise ConfigError(
                f"{quoted(str(path), 300)} holds no run to resume; leave out --resume to begin one"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            if self._manifest is None:
                self._manifest = self._first_manifest()
                self._write_manifest()
            self._rows = RowFile(path / RUNS)
        except OSError as error:
            raise ConfigError(f"cannot write {quoted(str(path), 300)}: {error}") from error

    def _check_same(self, resume: bool) -> None:
        there = self.manifest
        if there.get("fingerprint") != self.grid.fingerprint:
            raise ConfigError(
                f"{quoted(str(self.path), 300)} holds the run of another grid "
                f"({there.get('grid', {}).get('name')}, {there.get('fingerprint')}; this one is "
                f"{self.grid.name}, {self.grid.fingerprint}); choose another --out"
            )
        if not resume:
            raise ConfigError(
                f"{quoted(str(self.path), 300)} holds a run of this grid already; "
                "continue it with --resume, or choose another --out"
            )

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of the run."""
        assert self._manifest is not None
        return self._manifest

    @property
    def rows(self) -> list[Row]:
        """The rows that are there."""
        return self._rows.rows()

    @property
    def done(self) -> set[tuple[str, str, int]]:
        """Keys of the rows that are there."""
        return {row.key for row in self.rows}

    def add(self, row: Row) -> None:
        """Keep a row, on disk before this returns."""
        self._rows.add(row)

    def begin(self, models: list[dict[str, Any]], how: str) -> None:
        """Note a sitting: when, where, with which models; no other process may write until `end`.

        Raises:
            ConfigError: earlier rows came from other weights, or another process is writing.
        """
        known = self.manifest.setdefault("models", models)
        if known != models:
            raise ConfigError(
                f"the rows in {quoted(str(self.path), 300)} came from other models "
                f"({_names(known)}; now {_names(models)}); choose another --out"
            )
        self._rows.lock()
        sitting = {"started": _now(), "how": how, "machine": describe_machine()}
        self.manifest.setdefault("sittings", []).append(sitting)
        self._write_manifest()

    def end(self, *, interrupted: bool) -> None:
        """Close the sitting, and put the rows in order."""
        self._rows.sort()
        self._rows.unlock()
        load = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
        rows = self.rows
        self.manifest["sittings"][-1] |= {
            "ended": _now(),
            "interrupted": interrupted,
            "load_average_at_end": load,
        }
        self.manifest["rows"] = len(rows)
        self.manifest["failed"] = sum(row.status != "ok" for row in rows)
        self._write_manifest()

    def _first_manifest(self) -> dict[str, Any]:
        return {
            "fingerprint": self.grid.fingerprint,
            "counting_rule": COUNTING_RULE,
            "planned_rows": self.grid.num_rows,
            "grid": self.grid.to_dict(),
        }

    def _read_manifest(self) -> dict[str, Any] | None:
        file = self.path / MANIFEST
        if not file.exists():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {quoted(str(file), 300)}: {error}") from error
        return found if isinstance(found, dict) else {}

    def _write_manifest(self) -> None:
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False)
        beside = self.path / "manifest.tmp"
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, self.path / MANIFEST)


def _names(models: list[dict[str, Any]]) -> str:
    return ", ".join(f"{m['name']} {str(m['sha256'])[:12]} {m['dtype']}" for m in models)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
