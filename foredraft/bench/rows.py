"""Rows: one generation each, its CSV form, and a file of them that survives being killed."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, get_args, get_type_hints

from foredraft.errors import ConfigError, quoted

OK, FAILED = "ok", "failed"
YES, NEAR_TIE, NO = "yes", "near-tie", "no"  # does the text equal that of Target AR?


@dataclass(frozen=True)
class Row:
    """What one generation did. A number that it cannot give is None: an empty field of the CSV.

    Attributes:
        order: place in the schedule.
        cell, label, condition, method: see `Cell`.
        prompt_id, kind: see `PromptItem`.
        seed: of the generation.
        status: ok, or failed: excluded from every statistic, and counted.
        error: why it failed.
        throughput_tokens_per_second: emitted / latency: every token, the end token too, and all
            the time, reading the prompt too; one rule for all methods.
        latency_seconds: wall time of the whole generation, device synchronised at both ends.
        tokens_per_second, acceptance_rate, conditional_acceptance_rate, mean_acceptance_length,
            mean_gamma, mean_normalized_entropy, draft_cost_ratio, num_steps, num_draft_calls,
            num_drafted_tokens, num_accepted_tokens, num_emitted_tokens: see `Summary`.
        drafted_by_position, kept_by_position: steps that drafted position i, and that kept it.
        finish_reason: end token, length, ….
        matches_baseline: yes, no, or near-tie (rounding); only where texts must be equal.
        target_logprob_per_token: mean ln p of the emitted tokens under the target at temperature 1;
            only where texts are drawn.
        peak_cpu_bytes: most memory the process held during the generation.
        peak_cuda_bytes: most memory PyTorch held on the device.
        text_hash: of the text.
        device: where it ran.
        shared_device: whether other workers ran there too; its timings then mean little.
        trace: `gamma:entropy` of every step, of the first seed, where entropy was measured.
    """

    order: int
    cell: str
    label: str
    condition: str
    method: str
    prompt_id: str
    kind: str
    seed: int
    status: str = OK
    error: str | None = None
    throughput_tokens_per_second: float | None = None
    latency_seconds: float | None = None
    tokens_per_second: float | None = None
    acceptance_rate: float | None = None
    conditional_acceptance_rate: float | None = None
    mean_acceptance_length: float | None = None
    mean_gamma: float | None = None
    mean_normalized_entropy: float | None = None
    draft_cost_ratio: float | None = None
    num_steps: int | None = None
    num_draft_calls: int | None = None
    num_drafted_tokens: int | None = None
    num_accepted_tokens: int | None = None
    num_emitted_tokens: int | None = None
    drafted_by_position: str | None = None
    kept_by_position: str | None = None
    finish_reason: str | None = None
    matches_baseline: str | None = None
    target_logprob_per_token: float | None = None
    peak_cpu_bytes: int | None = None
    peak_cuda_bytes: int | None = None
    text_hash: str | None = None
    device: str | None = None
    shared_device: bool = False
    trace: str | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """Unique in a run: cell id, prompt id, seed."""
        return self.cell, self.prompt_id, self.seed


COLUMNS = tuple(f.name for f in fields(Row))
# What differs between two runs of the same grid, and nothing else does.
TIMINGS = (
    *("throughput_tokens_per_second", "latency_seconds", "tokens_per_second", "draft_cost_ratio"),
    *("peak_cpu_bytes", "peak_cuda_bytes", "device", "shared_device"),
)
_HINTS = get_type_hints(Row)


def to_line(row: Row) -> str:
    """Return the row as one CSV line, with its line end."""
    return _line([_written(value) for value in asdict(row).values()])


def _line(values: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    return " ".join(str(value).split())  # one row, one line: a torn one can be told


def _read(name: str, text: str) -> Any:
    kinds = get_args(_HINTS[name]) or (_HINTS[name],)
    if text == "" and type(None) in kinds:
        return None
    if kinds[0] is bool:
        return text == "True"
    return kinds[0](text)


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a CSV file, in the order of the file.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        lines = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {quoted(str(file), 300)}: {error}") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ConfigError(
            f"{quoted(str(file), 300)} does not have the columns of this version's runs; "
            "choose another --out"
        )
    try:
        return [
            Row(**{n: _read(n, v) for n, v in zip(COLUMNS, line, strict=True)})
            for line in lines[1:]
        ]
    except ValueError as error:
        raise ConfigError(f"{quoted(str(file), 300)} holds a line that is no row") from error


class RowFile:
    """A CSV file of rows: each is on disk before the next begins.

    Args:
        file: created with its header if it is not there; a torn last line is cut off.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._held: BinaryIO | None = None
        if not file.exists():
            file.write_text(_line(COLUMNS), encoding="utf-8")
        whole = file.read_bytes().rpartition(b"\n")
        if whole[2]:
            file.write_bytes(whole[0] + whole[1])

    def rows(self) -> list[Row]:
        """Return the rows that are there."""
        return read_rows(self.file)

    def lock(self) -> None:
        """Keep other processes from locking the file; on systems without `flock` nothing happens.

        Raises:
            ConfigError: another process holds the lock.
        """
        if importlib.util.find_spec("fcntl") is None:
            return
        fcntl = importlib.import_module("fcntl")
        self._held = self.file.open("rb")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
            raise ConfigError(
                f"another process is writing to {quoted(str(self.file), 300)}; "
                "wait for its end, or choose another --out"
            ) from None

    def unlock(self) -> None:
        """Give the lock back; the end of the process does so too."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def add(self, row: Row) -> None:
        """Append a row in one write."""
        with self.file.open("ab") as out:
            out.write(to_line(row).encode())

    def sort(self) -> None:
        """Put the rows into the order of the schedule, whoever finished first."""
        ordered = sorted(self.rows(), key=lambda row: row.order)
        text = _line(COLUMNS) + "".join(map(to_line, ordered))
        beside = self.file.with_suffix(".tmp")
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, self.file)
