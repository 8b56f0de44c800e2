"""What a run folder is of: every setting and file that decides the weights, written down first.

A run goes on only with what it began with. Files are known by what is in them, not by their names;
the recipe's name and prose, licences and the pace of checkpoints decide nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, Json, read_text, reason_of, write_whole, writing
from foredraft.zoo.corpus import file_of
from foredraft.zoo.run import Run, model_folder
from foredraft.zoo.teacher import teacher_weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECORD = "run.json"
DECIDE_NOTHING = ("name", "summary", "licence", "checkpoint_seconds")  # last parts of field names
PARTS = ("checkpoint.pt", "tokenizer", "train.bin", "heldout.bin", "continued.jsonl")
SHOWN = 3  # changed fields that a refusal names


def begin(run: Run) -> None:
    """Make the run folder with its record, or check that it is the folder of this very run.

    Raises:
        ConfigError: a file that the run needs is missing; or the folder is of another run, named by
            the fields that differ.
    """
    begin_in(run.run_dir, record_of(run), PARTS)


def begin_in(folder: Path, now: dict[str, Json], parts: Sequence[str]) -> None:
    """Do the same for a folder, what decides the weights, and names of what a run leaves there."""
    shown = quoted(str(folder), PATH_LIMIT)
    file = folder / RECORD
    if not file.exists():
        if any((folder / name).exists() for name in parts):
            raise ConfigError(
                f"{shown} holds parts of a run without its {RECORD}, so nobody knows of which; "
                "give another --run-dir"
            )
        with writing(folder, "make room or allow it, or give another --run-dir"):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(now, indent=1) + "\n")
        return
    there = _read(file)
    changed = [name for name in there | now if there.get(name) != now.get(name)]
    if changed:
        words = ", ".join(
            f"{name} {quoted(there.get(name))} (now {quoted(now.get(name))})"
            for name in changed[:SHOWN]
        )
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise ConfigError(
            f"the run in {shown} began with {words}{more}; give another --run-dir for a new run, "
            "or go on with what it began with"
        )


def _read(file: Path) -> dict[str, Json]:
    try:
        there = json.loads(read_text(file))
    except (ValueError, RecursionError):
        there = None
    if not isinstance(there, dict):
        raise ConfigError(
            f"{quoted(str(file), PATH_LIMIT)} is no record of a run; give another --run-dir"
        )
    return there


def record_of(run: Run) -> dict[str, Json]:
    """Return field → value of everything that decides the weights; files as size and hash.

    Raises:
        ConfigError: a file is missing or cannot be read.
    """
    recipe = run.recipe
    fields = flat(recipe)
    fields["model.architecture"] = type(recipe.model).__name__
    for number, source in enumerate(recipe.data):
        fields[f"data[{number}].path"] = content_of(file_of(source, run.data_dir))
    if recipe.tokenizer.from_model:
        folder = model_folder(recipe.tokenizer.from_model)
        fields["tokenizer.from_model"] = content_of(folder / "tokenizer.json")
    if recipe.distillation:
        fields["distillation.teacher"] = content_of(teacher_weights(recipe.distillation.teacher))
    return fields


def flat(recipe: DataclassInstance) -> dict[str, Json]:
    """Return the fields of a recipe that decide something, by names like `data[0].share`."""
    return dict(_flat("", asdict(recipe)))


def _flat(prefix: str, value: Json) -> Iterator[tuple[str, Json]]:
    """Yield the leaves of nested dicts and sequences by names like `data[0].share`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in DECIDE_NOTHING:
                yield from _flat(f"{prefix}.{name}" if prefix else name, inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _flat(f"{prefix}[{number}]", inner)
    else:
        yield prefix, value


def content_of(file: Path) -> str:
    """Return a file's size and the beginning of its SHA-256.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        status = file.stat()
        return f"{status.st_size} bytes, {_sha256(file, status.st_size, status.st_mtime_ns)}"
    except OSError as error:
        raise ConfigError(
            f"cannot read {quoted(str(file), PATH_LIMIT)}: {reason_of(error)}"
        ) from None


@functools.lru_cache(maxsize=256)
def _sha256(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as opened:
        return f"sha256 {hashlib.file_digest(opened, 'sha256').hexdigest()[:16]}"
