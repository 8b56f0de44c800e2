"""The shell on the toy engine, as a process of its own: `python -m tests.toy_shell`."""

from __future__ import annotations

from foredraft.cli.shell import Shell, piped_lines
from foredraft.cli.view import View
from foredraft.config import DecodingConfig
from tests.toy_engine import toy_engine

if __name__ == "__main__":
    Shell(toy_engine(), DecodingConfig(seed=42), View()).run(piped_lines(), echo=True)
