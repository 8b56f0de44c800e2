"""The page about the server: its `curl` lines do what they show."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.house import Served, serving

ROOT = Path(__file__).parents[2]
PAGES = ("docs/en/server.md", "docs/server.md")
ROOT_SHOWN = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def commands(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [f"curl{line}".strip() for block in blocks for line in block.split("curl")[1:]]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in PAGES for command in commands(page)]
)
def test_what_is_shown_is_answered(served: Served, page: str, command: str) -> None:
    shown = command.replace(ROOT_SHOWN, served.url)
    assert shown != command
    done = subprocess.run(
        ["bash", "-c", shown], capture_output=True, text=True, timeout=60, check=True
    )
    if '"stream": true' in command:
        *pieces, end = [line for line in done.stdout.split("\n") if line]
        assert end == "data: [DONE]"
        assert json.loads(pieces[-1].removeprefix("data: "))["usage"]["completion_tokens"]
    elif command.endswith("/metrics"):
        assert "foredraft_requests_running" in done.stdout
    else:
        answer = json.loads(done.stdout)
        assert "error" not in answer


def test_both_pages_show_the_same_commands() -> None:
    english, chinese = map(commands, PAGES)
    assert english == chinese
    assert len(english) >= 6
