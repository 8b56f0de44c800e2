"""Recorded outputs of a target: read from a run, or from a JSONL of prompts and responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foredraft.core import FinishReason
from foredraft.errors import ConfigError, ForedraftError, foreign, quoted
from foredraft.files import Json, read_lines
from foredraft.text import encode_prompt

UNBOUNDED = 10**9  # the most tokens that a generation may have
SPARE = 1024  # ids that a network may have beyond those of its tokenizer
FORMS = (
    'write {"prompt": "…", "response": "…"}, {"prompt_tokens": […], "tokens": […]}, or save a '
    "greedy run with /save or `foredraft generate --json`"
)


@dataclass(frozen=True)
class Recording:
    """What a target answered to a prompt.

    Attributes:
        prompt: its tokens; of an encoder–decoder what the encoder reads.
        tokens: the output, at least one token.
        limit: the length limit it was generated under, in tokens; near it drafts are shorter.
        begin: start tokens of an encoder–decoder's decoder; None: the prompt itself.
    """

    prompt: list[int]
    tokens: list[int]
    limit: int
    begin: list[int] | None = None

    @property
    def beginning(self) -> list[int]:
        """What the output follows."""
        return self.prompt if self.begin is None else self.begin

    @property
    def vocab_size(self) -> int:
        """The smallest vocabulary that holds all of its tokens."""
        return max([*self.prompt, *self.beginning, *self.tokens]) + 1


def read_recordings(
    file: Path, tokenizer: Any, *, begin: list[int] | None = None
) -> list[Recording]:
    """Return the recordings of a file.

    Of a run's lines the `target` method's are taken, or those of another lossless method where a
    prompt has none; a config line gives length and chat template.

    Args:
        file: JSON lines.
        tokenizer: the target's; turns text into tokens.
        begin: of an encoder–decoder target the start tokens of its decoder.

    Raises:
        ConfigError: the file cannot be read, holds no recording, or one that was not greedy.
    """
    config: dict[str, Any] = {}
    found: dict[object, Recording] = {}
    for number, line in _records(read_lines(file), file):
        record = _as_ours(line)
        if "config" in record:
            config = _config(record["config"], number, file)
        elif record.get("method") != "drafter":
            key = number if "method" not in record else str(record.get("prompt"))
            if key in found and record.get("method") != "target":
                continue
            try:
                one = _recording(record, config, tokenizer, keeps_end=begin is not None)
                found[key] = replace(one, begin=begin)
            except ForedraftError as error:
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
        except json.JSONDecodeError as error:
            raise _unreadable(file, number, f"no JSON at character {error.pos + 1}") from error
        except (ValueError, RecursionError, MemoryError) as error:  # thousands of digits, of [
            raise _unreadable(file, number, "no JSON that can be read") from error
        if not isinstance(record, dict):
            raise _unreadable(file, number, "no JSON object")
        yield number, record


def _as_ours(record: dict[str, Json]) -> dict[str, Json]:
    """Return an answer of vLLM or llama.cpp that holds its tokens as a line of ours.

    Raises:
        ConfigError: llama.cpp says that it was sampled.
    """
    choices = record.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict) and "token_ids" in choice:  # vLLM, `return_token_ids`
        prompt = record.get("prompt_token_ids") or choice.get("prompt_token_ids")
        return {"prompt_tokens": prompt, "tokens": choice["token_ids"]} | _reason(choice)
    settings = record.get("generation_settings")
    if isinstance(settings, dict) and "timings" in record:  # llama.cpp, `return_tokens`
        temperature = settings.get("temperature", 0)
        if isinstance(temperature, int | float) and temperature > 0:
            raise _sampled("an answer", f"temperature {temperature}")
        return {name: record[name] for name in ("prompt", "tokens") if record.get(name)}
    return record


def _reason(choice: dict[str, Json]) -> dict[str, Json]:
    return {"finish_reason": choice["finish_reason"]} if "finish_reason" in choice else {}


def _sampled(what: str, how: str) -> ConfigError:
    return ConfigError(
        f"{what} was sampled with {how}; only under greedy does the text decide what is kept: "
        "record again with --sampler greedy, elsewhere at temperature 0"
    )


def _unreadable(file: Path, number: int, reason: object) -> ConfigError:
    return ConfigError(
        f"line {number} of {quoted(str(file), 300)} is no recording ({reason}); {FORMS}"
    )


def _config(config: Any, number: int, file: Path) -> dict[str, Any]:
    """Return the settings of a run, those that are read checked."""
    if not isinstance(config, dict):
        raise _unreadable(file, number, "its config is no JSON object")
    sampler = str(config.get("sampler", "greedy"))
    if not sampler.startswith("greedy"):
        raise _sampled(quoted(str(file), 300), quoted(sampler))
    if not _is_whole(config.get("length", UNBOUNDED), 1):
        raise _unreadable(file, number, f"its length is {quoted(config['length'])}")
    if not isinstance(config.get("chat", False), bool):
        raise _unreadable(file, number, f"its chat is {quoted(config['chat'])}")
    return config


def _recording(
    record: dict[str, Any], config: dict[str, Any], tokenizer: Any, *, keeps_end: bool
) -> Recording:
    prompt, tokens = record.get("prompt_tokens"), record.get("tokens")
    if not prompt:
        chat = config.get("chat", False)
        prompt = encode_prompt(tokenizer, _text(record, "prompt"), chat=chat, keeps_end=keeps_end)
    if tokens is None:
        with foreign("the tokenizer", "write tokens instead"):
            tokens = tokenizer(_text(record, "response"), add_special_tokens=False)["input_ids"]
    for ids in (prompt, tokens):
        _check_tokens(ids, len(tokenizer) + SPARE)
    reason = record.get("finish_reason", FinishReason.LENGTH)
    cut = reason in (FinishReason.LENGTH, FinishReason.CONTEXT)
    limit = len(tokens) if cut else config.get("length", UNBOUNDED)
    return Recording(list(prompt), list(tokens), limit)


def _text(record: dict[str, Any], name: str) -> str:
    text = record.get(name)
    if not isinstance(text, str):
        raise ConfigError(f"its {name} is no text" if name in record else f"it has no {name}")
    return text


def _check_tokens(tokens: Any, size: int) -> None:
    if not isinstance(tokens, list) or not tokens or not all(_is_whole(t, 0) for t in tokens):
        raise ConfigError("its tokens must be whole numbers ≥ 0, at least one")
    if max(tokens) >= size:
        raise ConfigError(
            f"token {quoted(max(tokens))} is outside the target's vocabulary 0 … {size - 1}"
        )


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low
