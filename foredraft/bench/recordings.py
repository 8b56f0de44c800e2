"""Recorded outputs of a target: read from a run, or from a JSONL of prompts and responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foredraft.core import FinishReason
from foredraft.errors import ConfigError, quoted
from foredraft.text import encode_prompt

UNBOUNDED = 1 << 30
FORMS = (
    'write {"prompt": "…", "response": "…"}, {"prompt_tokens": […], "tokens": […]}, or save a '
    "greedy run with /save or `foredraft generate --json`"
)


@dataclass(frozen=True)
class Recording:
    """What a target answered to a prompt.

    Attributes:
        prompt: its tokens.
        tokens: the output, at least one token.
        limit: the length limit it was generated under, in tokens; near it drafts are shorter.
    """

    prompt: list[int]
    tokens: list[int]
    limit: int

    @property
    def vocab_size(self) -> int:
        """The smallest vocabulary that holds all of its tokens."""
        return max([*self.prompt, *self.tokens]) + 1


def read_recordings(file: Path, tokenizer: Any) -> list[Recording]:
    """Return the recordings of a file.

    Of a run's lines the `target` method's are taken, or those of another lossless method where a
    prompt has none; a config line gives length and chat template.

    Args:
        file: JSON lines.
        tokenizer: the target's; turns text into tokens.

    Raises:
        ConfigError: the file cannot be read, holds no recording, or one that was not greedy.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {quoted(str(file), 300)}: {error}") from error
    config: dict[str, Any] = {}
    found: dict[object, Recording] = {}
    for number, record in _records(lines, file):
        if "config" in record:
            config = record["config"]
            _check_greedy(config, file)
        elif record.get("method") != "drafter":
            try:
                key = number if "method" not in record else str(record.get("prompt"))
                if key not in found or record.get("method") == "target":
                    found[key] = _recording(record, config, tokenizer)
            except (KeyError, TypeError, ValueError) as error:
                raise _unreadable(file, number, error) from error
    if not found:
        raise ConfigError(f"{quoted(str(file), 300)} holds no recorded output; {FORMS}")
    return list(found.values())


def _records(lines: list[str], file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise _unreadable(file, number, error) from error
        if not isinstance(record, dict):
            raise _unreadable(file, number, "no JSON object")
        yield number, record


def _unreadable(file: Path, number: int, reason: object) -> ConfigError:
    return ConfigError(
        f"line {number} of {quoted(str(file), 300)} is no recording ({reason}); {FORMS}"
    )


def _check_greedy(config: dict[str, Any], file: Path) -> None:
    sampler = str(config.get("sampler", "greedy"))
    if not sampler.startswith("greedy"):
        raise ConfigError(
            f"{quoted(str(file), 300)} was sampled with {sampler}; only under greedy does the text "
            "decide what is kept: record again with --sampler greedy"
        )


def _recording(record: dict[str, Any], config: dict[str, Any], tokenizer: Any) -> Recording:
    chat = bool(config.get("chat", False))
    prompt = record.get("prompt_tokens") or encode_prompt(tokenizer, record["prompt"], chat=chat)
    tokens = record.get("tokens")
    if tokens is None:
        tokens = tokenizer(record["response"], add_special_tokens=False)["input_ids"]
    if not tokens or not all(isinstance(t, int) and t >= 0 for t in [*prompt, *tokens]):
        raise ValueError("its tokens must be whole numbers ≥ 0, at least one")
    reason = record.get("finish_reason", FinishReason.LENGTH)
    cut = reason in (FinishReason.LENGTH, FinishReason.CONTEXT)
    limit = len(tokens) if cut else int(config.get("length", UNBOUNDED))
    return Recording(list(prompt), list(tokens), limit)
