"""A process that answers a line of JSON with a line of JSON, as its parent sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

Answer = dict[str, Any]


class Worker:
    """A process that says one line when it is ready, then a line for each request.

    Args:
        command: the program and its arguments.
        env: what its environment has besides ours.

    Attributes:
        started: what it said when it was ready, with the wall `seconds` until then.

    Raises:
        SystemExit: it ended instead.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict(env or {}),
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for whoever ends it
        )
        try:
            self.started = self._answer()
        except BaseException:
            self.close()
            raise
        self.started["seconds"] = time.perf_counter() - begin

    def ask(self, request: Answer) -> Answer:
        """Return the answer to a request.

        Raises:
            SystemExit: it ended instead.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended; what it said stands above")
        found: Answer = json.loads(line)
        return found

    def close(self) -> None:
        """End the process, and whatever it has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own
        self._process.kill()
        self._process.communicate()
