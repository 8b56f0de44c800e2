"""The shell on the toy engine, as a process of its own: `python -m tests.toy_shell`."""

from __future__ import annotations

import sys

from specdec.cli.shell import Shell, piped_lines
from specdec.cli.view import View
from specdec.config import DecodingConfig
from tests.toy_engine import toy_engine

if __name__ == "__main__":
    if "--fail" in sys.argv:
        print("error: no such device", file=sys.stderr)
        raise SystemExit(2)
    Shell(toy_engine(), DecodingConfig(), View()).run(piped_lines(), echo=True)
