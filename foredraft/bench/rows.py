"""Rows: one generation each, its CSV form, and a file of them that survives being killed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_args, get_type_hints

from foredraft.errors import ConfigError, quoted
from foredraft.escape import FORMULA, for_cell, for_line
from foredraft.files import PATH_LIMIT, Json, append_whole, lines_of, read_text, write_whole

OK, FAILED = "ok", "failed"
YES, NEAR_TIE, NO = "yes", "near-tie", "no"  # does the text equal that of Target AR?


@dataclass(frozen=True)
class Row:
    """What one generation did. A number that it cannot give is None: an empty field of the CSV.

    What has no comment here is told at `Cell`, `PromptItem` or `Summary`.
    """

    order: int  # place in the schedule
    cell: str
    label: str
    condition: str
    method: str
    prompt_id: str
    kind: str
    seed: int
    status: str = OK  # or failed: excluded from every statistic, and counted
    error: str | None = None  # why it failed
    # Emitted / latency: every token, the end token too, and all the time, reading the prompt too;
    # one rule for all methods.
    throughput_tokens_per_second: float | None = None
    latency_seconds: float | None = None  # wall time, device synchronised at both ends
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
    drafted_by_position: str | None = None  # steps that drafted position i
    kept_by_position: str | None = None  # steps that kept it
    finish_reason: str | None = None  # end token, length, …
    matches_baseline: str | None = None  # yes, no, near-tie (rounding); where texts must be equal
    # Mean ln p of the emitted tokens under the target at temperature 1; where texts are drawn.
    target_logprob_per_token: float | None = None
    peak_cpu_bytes: int | None = None  # most memory the process held during the generation
    peak_cuda_bytes: int | None = None  # most memory PyTorch held on the device
    text_hash: str | None = None
    device: str | None = None
    shared_device: bool = False  # other workers ran there too; its timings then mean little
    trace: str | None = None  # `gamma:entropy` of every step, of the first seed, where measured

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
BOOLS = {"True": True, "False": False}
EMPTY = "'"  # text of no characters, where an empty cell is None
GUARDED = re.compile(rf"'+(?:{FORMULA.pattern}|\Z)")
ESCAPED = re.compile(r"\\(\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
LONGEST = (1 << 31) - 1  # characters of a cell; a trace is long
_HINTS = get_type_hints(Row)


def to_line(row: Row) -> str:
    """Return the row as one CSV line, with its line end."""
    return _line([_written(name, value) for name, value in asdict(row).items()])


def _line(values: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def cell_of(text: str) -> str:
    r"""Return text as a cell: one line, no formula, and `text_of` gives the text back.

    What a line cannot hold is written out (`\n`, `\u2028`), a backslash twice; what a spreadsheet
    would compute gets a `'` in front, and so does what begins with such a `'` itself.
    """
    line = for_line(text.replace("\\", "\\\\"))
    return f"'{line}" if GUARDED.match(line) else for_cell(line)


def text_of(cell: str) -> str:
    """Return the text that `cell_of` made a cell of."""
    return ESCAPED.sub(_character, cell[GUARDED.match(cell) is not None :])


def _character(found: re.Match[str]) -> str:
    return "\\" if found[1] == "\\" else found[0].encode().decode("unicode_escape")


def _kinds(name: str) -> tuple[type, ...]:
    return get_args(_HINTS[name]) or (_HINTS[name],)


def _written(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    if value == "" and type(None) in _kinds(name):
        return EMPTY
    return cell_of(str(value))


def _read(name: str, cell: str) -> Json:
    kinds = _kinds(name)
    if cell == "" and type(None) in kinds:
        return None
    if kinds[0] is bool:
        return BOOLS[cell]
    return text_of(cell) if kinds[0] is str else kinds[0](cell)


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a CSV file, in the order of the file; a torn last line is no row.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    shown = quoted(str(file), PATH_LIMIT)
    csv.field_size_limit(LONGEST)
    try:
        lines = list(csv.reader(lines_of(read_text(file, torn=True))))
        if not lines or tuple(lines[0]) != COLUMNS:
            raise ConfigError(
                f"{shown} does not have the columns of this version's runs; choose another --out"
            )
        return [
            Row(**{n: _read(n, v) for n, v in zip(COLUMNS, line, strict=True)})
            for line in lines[1:]
        ]
    except (ValueError, KeyError, csv.Error):
        raise ConfigError(
            f"{shown} holds a line that is no row; take it out, or choose another --out"
        ) from None


class RowFile:
    """A CSV file of rows: each is written before the next begins.

    The first writer makes it. Only who holds its folder may write; a reader changes nothing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def rows(self) -> list[Row]:
        """Return the rows that are there."""
        return read_rows(self.file) if self.file.exists() else []

    def begin(self) -> None:
        """Make the file with its header, if it is not there; errors as for `add`."""
        if not self.file.exists():
            write_whole(self.file, _line(COLUMNS))

    def add(self, row: Row) -> None:
        """Append a row, or leave the file as it was.

        Raises:
            OSError: it cannot be written, e.g. for want of room.
        """
        self.begin()
        append_whole(self.file, to_line(row).encode())

    def sort(self) -> None:
        """Put the rows into the order of the schedule, whoever finished first; errors as `add`."""
        ordered = sorted(self.rows(), key=lambda row: row.order)
        write_whole(self.file, _line(COLUMNS) + "".join(map(to_line, ordered)))
