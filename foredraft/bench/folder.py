"""The folder of a run: its rows, its manifest, and the promise that two grids never mix in it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from foredraft.bench.grid import Grid
from foredraft.bench.machine import Model, describe_machine, load_average
from foredraft.bench.rows import OK, Row, RowFile
from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, Json, only_writer, read_text, write_whole, writing

RUNS, MANIFEST, REPORT = "runs.csv", "manifest.json", "report.html"
SUMMARY = "summary.json"
Manifest = dict[str, Json]
COUNTING_RULE = (
    "throughput = emitted tokens, the end token included / wall seconds of the whole generation, "
    "reading the prompt included, device synchronised at both ends; the same for every method. "
    "Every cell is warmed up; the cells of a prompt run one after another in random order."
)
REMEDY = "the rows that are there stay; make room or allow it, then continue with --resume"


class RunFolder:
    """Where a run is kept. Reading changes nothing; who writes holds the folder alone.

    With `resume` what is there is continued, or read; else the folder must hold no run.

    Raises:
        ConfigError: the folder holds another grid, or this one without `resume`, or it cannot be
            written.
    """

    def __init__(self, path: Path, grid: Grid, *, resume: bool) -> None:
        self.path, self.grid = path, grid
        self._resume = resume
        self._rows = RowFile(path / RUNS)
        self._lock: ExitStack | None = None
        with writing(path, "choose another --out"):
            self._manifest = self._checked()
            if self._manifest is None:
                path.mkdir(parents=True, exist_ok=True)

    def _checked(self) -> Manifest | None:
        """Return the manifest, if this run may go on from it; None where there is none."""
        there = self._read_manifest()
        if there is not None:
            self._check_same(there)
        elif (self.path / RUNS).exists():
            raise self._refusal(f"holds a {RUNS} without its {MANIFEST}; choose another --out")
        elif self._resume:
            raise self._refusal(
                "holds no run to resume or to report; leave the flag out to begin one"
            )
        return there

    def _check_same(self, there: Manifest) -> None:
        if there["fingerprint"] != self.grid.fingerprint:
            raise self._refusal(
                "holds the run of another grid "
                f"({quoted(there['grid'].get('name'))}, {quoted(there['fingerprint'])}; this one "
                f"is {quoted(self.grid.name)}, {self.grid.fingerprint!r}); choose another --out"
            )
        if not self._resume:
            raise self._refusal(
                "holds a run of this grid already; continue it with --resume, or choose another "
                "--out"
            )

    def _refusal(self, why: str) -> ConfigError:
        return ConfigError(f"{quoted(str(self.path), PATH_LIMIT)} {why}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only process that writes here.

        Raises:
            ConfigError: another one is; or what has been written since forbids this run.
        """
        self._hold()
        try:
            yield
        finally:
            self._let_go()

    def _hold(self) -> None:
        if self._lock is not None:
            return
        with ExitStack() as stack:
            stack.enter_context(only_writer(self.path, "this run"))
            self._manifest = self._checked()
            if self._manifest is None:
                self._manifest = {
                    "fingerprint": self.grid.fingerprint,
                    "counting_rule": COUNTING_RULE,
                    "planned_rows": self.grid.num_rows,
                    "grid": self.grid.to_dict(),
                }
                self._write_manifest()
            with writing(self._rows.file, REMEDY):
                self._rows.begin()
            self._resume = True  # from here on the run is ours
            self._lock = stack.pop_all()

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def manifest(self) -> Manifest:
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
        """Keep a row; when this returns, the death of the process no longer harms it.

        Raises:
            ConfigError: it cannot be written; the rows before it stay.
        """
        with writing(self._rows.file, REMEDY):
            self._rows.add(row)

    def begin(self, models: list[Model], how: str) -> None:
        """Note a sitting: when, where, with which models; no other process may write until `end`.

        Raises:
            ConfigError: earlier rows came from other weights, or another process is writing.
        """
        self._hold()
        known = self.manifest.setdefault("models", models)
        if known != models:
            raise ConfigError(
                f"the rows in {quoted(str(self.path), PATH_LIMIT)} came from other models "
                f"({_names(known)}; now {_names(models)}); choose another --out"
            )
        sitting = {"started": _now(), "how": how, "machine": describe_machine()}
        self.manifest.setdefault("sittings", []).append(sitting)
        self._write_manifest()

    def end(self, *, interrupted: bool) -> None:
        """Close the sitting, and put the rows in order; errors as for `add`."""
        with writing(self._rows.file, REMEDY):
            self._rows.sort()
        rows, load = self.rows, load_average()
        sitting = {"ended": _now(), "interrupted": interrupted, "load_average_at_end": load}
        self.manifest["sittings"][-1] |= sitting
        failed = sum(row.status != OK for row in rows)
        self.manifest.update(rows=len(rows), failed=failed)
        self._write_manifest()
        self._let_go()

    def _read_manifest(self) -> Manifest | None:
        file = self.path / MANIFEST
        if not file.exists():
            return None
        try:
            found = json.loads(read_text(file))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("grid"), dict):
            raise ConfigError(
                f"{quoted(str(file), PATH_LIMIT)} is no manifest of a run; choose another --out"
            )
        return {"fingerprint": None} | found

    def _write_manifest(self) -> None:
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False)
        with writing(self.path / MANIFEST, REMEDY):
            write_whole(self.path / MANIFEST, text + "\n")


def _names(models: list[Model]) -> str:
    return ", ".join(f"{m['name']} {str(m['sha256'])[:12]} {m['dtype']}" for m in models)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
