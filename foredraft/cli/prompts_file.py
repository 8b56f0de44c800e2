"""Files of prompts: one a line, or JSON Lines whose objects hold `prompt`."""

from __future__ import annotations

import json
from pathlib import Path

from foredraft.errors import ConfigError, quoted
from foredraft.files import PATH_LIMIT, read_lines

JSON_LINES = ".jsonl"


def read_prompts(name: str) -> dict[int, str]:
    """Return line number → prompt; blank lines hold none.

    Args:
        name: of a file; where it ends in `.jsonl`, its lines are objects.

    Raises:
        ConfigError: it cannot be read, or holds no prompts, or a line that is none.
    """
    try:
        file = Path(name).expanduser()
    except RuntimeError:  # ~nobody
        raise ConfigError(f"there is no home for {quoted(name, PATH_LIMIT)}; give a path") from None
    lines = {number: line for number, line in enumerate(read_lines(file), start=1) if line.strip()}
    if not lines:
        raise ConfigError(f"{quoted(name, PATH_LIMIT)} holds no prompts; write one a line")
    if file.suffix != JSON_LINES:
        return lines
    return {number: _prompt(line, place(number, name)) for number, line in lines.items()}


def place(number: int, name: str) -> str:
    """Return a line of a file as messages name it."""
    return f"line {number} of {quoted(name, PATH_LIMIT)}"


def _prompt(line: str, where: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        prompt = None
    if not isinstance(prompt, str):
        raise ConfigError(
            f'{where} is no prompt; write {{"prompt": "Once upon a time"}}, or name the file '
            "otherwise: a prompt a line"
        )
    return prompt
