"""One generation, measured: the clock, the memory, the text and its quality → a row.

Everything but the generation itself happens outside the timed part.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from time import perf_counter

import torch

from foredraft.bench.cells import Cell
from foredraft.bench.grid import Task
from foredraft.bench.machine import PeakMemory, synchronize
from foredraft.bench.prompt_sets import PromptItem
from foredraft.bench.rows import COLUMNS, FAILED, NEAR_TIE, NO, YES, Row
from foredraft.config import DecodingConfig
from foredraft.core import Completion, StepRecord
from foredraft.decoding import first_difference
from foredraft.engine import Engine
from foredraft.errors import ModelError
from foredraft.tracing import Summary, summarize

WARM_UP_TOKENS = 24
SUMMARIZED = [f.name for f in fields(Summary) if f.name in COLUMNS]


@dataclass(frozen=True)
class Place:
    """Where a row is measured."""

    device: str  # name of the device
    shared: bool = False  # whether other workers use it at the same time


def config_for(cell: Cell, item: PromptItem, seed: int) -> DecodingConfig:
    """Return the settings of one generation."""
    return cell.config.replace(length=item.length, seed=seed)


def warm_up(engine: Engine, cell: Cell, item: PromptItem) -> None:
    """Decode a few tokens with a cell: first passes pay for allocations, not for work."""
    short = min(item.length, WARM_UP_TOKENS)
    engine.generate(item.prompt, cell.config.replace(length=short), method=cell.method)


class References:
    """What Target AR generates where a text must equal it: made once a block, and not timed."""

    def __init__(self) -> None:
        self._tokens: dict[str, list[int]] = {}

    def tokens(self, engine: Engine, task: Task) -> list[int] | None:
        """Return the tokens; None where texts are drawn, or come from the draft model."""
        if not task.cell.is_deterministic or task.cell.method == "drafter":
            return None
        plain = task.cell.baseline
        if plain.id not in self._tokens:
            config = config_for(plain, task.item, task.seed)
            done = engine.generate(task.item.prompt, config, method=plain.method)
            self._tokens[plain.id] = done.tokens
        return self._tokens[plain.id]


def measure(engine: Engine, task: Task, place: Place, references: References) -> Row:
    """Run one task; whatever goes wrong becomes a failed row."""
    try:
        return _measured(engine, task, place, references.tokens(engine, task))
    except Exception as error:  # recorded and excluded, never silent
        return _row(task, place, status=FAILED, error=f"{type(error).__name__}: {error}")


def failed(task: Task, device: str, reason: str) -> Row:
    """Return the row of a task that never came back."""
    return _row(task, Place(device), status=FAILED, error=reason)


def _row(task: Task, place: Place, **values: object) -> Row:
    cell, item = task.cell, task.item
    about = (cell.id, cell.label, cell.condition, cell.method, item.id, item.kind, task.seed)
    return Row(
        task.order,
        *about,
        device=place.device,
        shared_device=place.shared,
        **values,  # type: ignore[arg-type]
    )


def _measured(engine: Engine, task: Task, place: Place, reference: Sequence[int] | None) -> Row:
    config, memory = config_for(task.cell, task.item, task.seed), PeakMemory()
    synchronize()
    begin = perf_counter()
    done = engine.generate(task.item.prompt, config, method=task.cell.method)
    synchronize()
    seconds = perf_counter() - begin
    peak_cpu, peak_cuda = memory.peaks()

    found = summarize(done.records)
    drafted, kept = _by_position(done.records)
    row = _row(
        task,
        place,
        **{name: getattr(found, name) for name in SUMMARIZED},
        throughput_tokens_per_second=len(done.tokens) / seconds if seconds > 0 else None,
        latency_seconds=seconds,
        drafted_by_position=drafted,
        kept_by_position=kept,
        finish_reason=str(done.finish_reason),
        matches_baseline=_matches(engine, task, done, reference),
        target_logprob_per_token=None if reference is not None else _logprob(engine, task, done),
        peak_cpu_bytes=peak_cpu,
        peak_cuda_bytes=peak_cuda,
        text_hash=text_hash(done.text),
        trace=_trace(done.records) if task.traced else None,
    )
    _check_finite(row)
    return row


def _check_finite(row: Row) -> None:
    """Raise where a figure of the row is no finite number: its logits were none, or the clock's."""
    for name, value in vars(row).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(
                f"{name} is {value}, which is no finite number: the logits of a model are not "
                "finite; load it in another precision (--dtype), or repair its weights"
            )


def text_hash(text: str) -> str:
    """Return sixteen hexadecimal digits of the text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _matches(
    engine: Engine, task: Task, done: Completion, reference: Sequence[int] | None
) -> str | None:
    if reference is None:
        return None
    prompt = engine.encode(task.item.prompt, chat=task.cell.config.chat)
    difference = first_difference(engine.target.model, prompt, done.tokens, list(reference))
    if difference is None:
        return YES
    return NEAR_TIE if difference.is_near_tie else NO


def _logprob(engine: Engine, task: Task, done: Completion) -> float:
    """Return the mean ln p of the emitted tokens, one pass over the whole text."""
    text = engine.target.model.open(engine.encode(task.item.prompt, chat=task.cell.config.chat))
    tokens = [*text.begin, *done.tokens[:-1]]
    logits = text.extend(tokens, keep=len(done.tokens))  # [emitted, vocab]
    chosen = torch.tensor(done.tokens, device=logits.device)[:, None]  # [emitted, 1]
    return float(logits.float().log_softmax(-1).gather(1, chosen).mean())


def _by_position(records: Sequence[StepRecord]) -> tuple[str | None, str | None]:
    """Count, for each position of a draft, the steps that drafted it and those that kept it."""
    longest = max((len(r.drafted) for r in records), default=0)
    drafted = [sum(len(r.drafted) > i for r in records) for i in range(longest)]
    kept = [sum(r.num_accepted > i for r in records) for i in range(longest)]
    return (" ".join(map(str, drafted)) or None, " ".join(map(str, kept)) or None)


def _trace(records: Sequence[StepRecord]) -> str | None:
    steps = [r for r in records if r.normalized_entropy is not None]
    return " ".join(f"{r.gamma}:{r.normalized_entropy:.3f}" for r in steps) or None
