"""The prompts of the benchmarks: seventy of four kinds, written for this project.

No corpus holds them, so they are held out. One JSON object a line: `id`, `prompt`, `length`; the
file's name is the kind. A file of one's own has the same form.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, Json, read_lines
from foredraft.ranges import Count, Length, checked
from foredraft.registry import nearest

PROMPTS_DIR = Path(__file__).parent / "prompts"
KINDS = ("dialogue", "translation", "long", "code")
FRENCH = "french"  # what an encoder–decoder model reads: the sentence, without an instruction
INSTRUCTION = "Translate to English: "
SETS = (*KINDS, FRENCH)
DEFAULT_LENGTH = 60


@dataclass(frozen=True)
class PromptItem:
    """One prompt of a benchmark."""

    id: str  # unique among all prompts of a run
    kind: str  # dialogue, translation, long, code, or the name of the file it came from
    prompt: str  # text
    length: Length = DEFAULT_LENGTH  # most tokens to generate

    def __post_init__(self) -> None:
        for name in ("id", "kind", "prompt"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(f"{name} must be text that is not empty, not {quoted(value)}")
        checked("length", self.length, Length)


def load_prompts(
    names: Iterable[str] = KINDS, *, max_prompts: int | None = None, max_length: int | None = None
) -> tuple[PromptItem, ...]:
    """Return the prompts of bundled sets or `.jsonl` files, in order.

    There are `max_prompts` of each kind, and `max_length` tokens of each prompt, at most.

    Raises:
        ConfigError: no such set or file, a line that is no prompt, or the same id twice.
    """
    most = checked("max_prompts", max_prompts, Count | None)
    longest = checked("max_length", max_length, Length | None)
    items = tuple(item for name in names for item in _load(name))
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise ConfigError(f"prompt id {quoted(item.id)} occurs twice; ids must be unique")
        seen.add(item.id)
    if not items:
        raise ConfigError(f"no prompts; name at least one set of: {', '.join(SETS)}")
    counts, chosen = Counter[str](), list[PromptItem]()
    for item in items:
        counts[item.kind] += 1
        if most is None or counts[item.kind] <= most:
            chosen.append(replace(item, length=min(item.length, longest or item.length)))
    return tuple(chosen)


def _load(name: str) -> list[PromptItem]:
    if name == FRENCH:
        return _french()
    if name in KINDS:
        return read_prompts(PROMPTS_DIR / f"{name}.jsonl")
    if not name.endswith(".jsonl"):
        raise ConfigError(
            f"unknown prompt set {quoted(name)}{nearest(name, SETS)}; "
            f"legal: {', '.join(SETS)}, or a .jsonl file"
        )
    return read_prompts(Path(name).expanduser())


def _french() -> list[PromptItem]:
    translations = read_prompts(PROMPTS_DIR / "translation.jsonl")
    return [
        PromptItem(p.id.replace("translation-fr", FRENCH), FRENCH, p.prompt[len(INSTRUCTION) :], 40)
        for p in translations
        if "-fr-" in p.id
    ]


def read_prompts(file: Path) -> list[PromptItem]:
    """Return the prompts of a JSONL file; `id` and `length` may be missing.

    Raises:
        ConfigError: the file cannot be read, or a line is no prompt.
    """
    numbered = enumerate(read_lines(file), start=1)
    return [_item(line, file, number) for number, line in numbered if line.strip()]


def _item(line: str, file: Path, number: int) -> PromptItem:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise _no_prompt(file, number, "it is no JSON") from None
    if not isinstance(record, dict):
        raise _no_prompt(file, number, "it is no JSON object")
    legal = [f.name for f in fields(PromptItem)]
    for key in record:
        if key not in legal:
            raise _no_prompt(file, number, f"unknown key {quoted(key)}{nearest(key, legal)}")
    if "prompt" not in record:
        raise _no_prompt(file, number, "it has no key 'prompt'")
    named: dict[str, Json] = {"id": f"{file.stem}-{number:02}", "kind": file.stem} | record
    try:
        return PromptItem(**named)
    except ConfigError as error:
        raise _no_prompt(file, number, str(error)) from error


def _no_prompt(file: Path, number: int, reason: str) -> ConfigError:
    return ConfigError(
        f"line {number} of {quoted(str(file), PATH_LIMIT)} is no prompt ({reason}); write "
        '{"id": "a-01", "prompt": "Once upon a time", "length": 60}'
    )
