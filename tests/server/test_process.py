"""`foredraft serve` as a process: its start, readers who leave or sleep, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from foredraft.cli.main import main
from foredraft.cli.serve import key_of
from foredraft.errors import ConfigError
from tests.server.house import SECONDS, Served, serving

PROMPT = "Once upon a time"
COMMAND = [sys.executable, "-m", "foredraft", "serve", "--port", "0"]


@contextmanager
def process(*flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; give the process and the root of its server."""
    running = subprocess.Popen(
        [*COMMAND, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        found = re.search(r"http://\S+?(?=/ )", line)
        assert found, line + (running.stderr.read() if running.stderr else "")
        url = found[0]
        while True:
            try:
                httpx.get(url + "/health")
                break
            except httpx.ConnectError:
                time.sleep(0.02)
        yield running, url
    finally:
        running.kill()
        running.wait()
        for pipe in (running.stdout, running.stderr):
            assert pipe is not None
            pipe.close()


def test_a_signal_lets_running_texts_end_and_takes_no_new_ones() -> None:
    many = [f"{PROMPT} {i}" for i in range(16)]  # none of them may end before the signal comes
    body: dict[str, Any] = {"prompt": many, "max_tokens": 900, "temperature": 1.3, "seed": 1}
    with process("--drain-seconds", "30") as (running, url):
        stream = httpx.stream("POST", url + "/v1/completions", json=body | {"stream": True})
        with stream as response, httpx.Client() as kept:
            kept.get(url + "/health")
            lines = response.iter_lines()
            next(lines)
            running.send_signal(signal.SIGTERM)
            time.sleep(0.15)
            refused = kept.post(url + "/v1/completions", json=body)
            health = kept.get(url + "/health")
            assert refused.status_code == health.status_code == 503
            assert refused.headers["retry-after"]
            assert health.json()["status"] == "draining"
            *_, last = filter(None, lines)
        assert last == "data: [DONE]"
        assert running.wait(20) == 0


@pytest.mark.slow
def test_what_does_not_end_in_time_is_ended_and_told() -> None:
    body = {"prompt": [PROMPT] * 16, "max_tokens": 1000, "temperature": 2, "stream": True}
    with process("--drain-seconds", "0") as (running, url):
        with httpx.stream("POST", url + "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            running.send_signal(signal.SIGINT)
            events = [line.removeprefix("data: ") for line in lines if line]
        assert "shut down" in json.loads(events[-1])["error"]["message"]
        assert running.wait(20) == 0


@pytest.mark.slow
def test_a_key_of_the_environment_and_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("of the file\n")
    assert key_of(None) is None
    monkeypatch.setenv("FOREDRAFT_API_KEY", "of the environment")
    assert key_of(None) == "of the environment"
    assert key_of(str(key)) == "of the file"
    key.write_text("two\nlines")
    with pytest.raises(ConfigError, match="one line"):
        key_of(str(key))
    with process() as (_, url):
        assert httpx.get(url + "/v1/models").status_code == 401
        headers = {"authorization": "Bearer of the environment"}
        assert httpx.get(url + "/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "99999"], "[0, 65535]"),
        (["--max-parallel", "0"], "[1, 1024]"),
        (["--host", "203.0.113.7"], "cannot listen"),
        (["--api-key-file", "/no/such/file"], "cannot read"),
        (["--drafter", "none", "--drafting", "model"], "draft model"),
        (["--max-parallel", "1000", "--max-queue", "x"], "whole number"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", "--port", "0", *flags])
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert words in said
    assert len(said.strip().split("\n")) == 1


def test_a_place_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as left:
            main(["serve", "--port", port])
    assert left.value.code == 2
    assert port in capsys.readouterr().err


def connected(served: Served, body: dict[str, Any]) -> socket.socket:
    """Return a connection on which a request was sent; nothing of the answer is read."""
    host, port = served.url.removeprefix("http://").split(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect((host, int(port)))
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    sock.sendall(head.encode() + f"content-length: {len(data)}\r\n\r\n".encode() + data)
    return sock


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("prompt", [PROMPT, " ".join(["Once upon a time"] * 90)])
def test_who_leaves_ends_his_text_within_a_step(streams: bool, prompt: str) -> None:
    body = {"prompt": prompt, "max_tokens": 600, "temperature": 2.0, "stream": streams}
    with serving(max_parallel=1) as served:
        first, queued = connected(served, body), connected(served, body)
        end = time.monotonic() + 10
        while served.get("/health").json()["waiting"] != 1:
            assert time.monotonic() < end
        queued.close()
        while served.get("/health").json()["waiting"]:
            assert time.monotonic() < end
        first.close()
        served.wait_until_idle()
        text = served.post("/v1/completions", prompt=PROMPT, max_tokens=3, temperature=0)
        assert text.status_code == 200


def test_a_full_queue_is_said_and_empties() -> None:
    body = {"prompt": PROMPT, "max_tokens": 1000, "temperature": 2.0}
    with serving(max_parallel=1, max_queue=1) as served:
        waiting = [connected(served, body) for _ in range(2)]
        end = time.monotonic() + 10
        while served.get("/health").json()["waiting"] != 1:
            assert time.monotonic() < end
        refused = served.post("/v1/completions", prompt=PROMPT)
        assert refused.status_code == 429
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "queue_full"
        for one in waiting:
            one.close()
        served.wait_until_idle()
        assert served.post("/v1/completions", prompt=PROMPT).status_code == 200


def test_a_slow_reader_blocks_nobody_and_is_given_up() -> None:
    from foredraft.server import Limits

    body = {
        **{"prompt": [PROMPT] * 24, "max_tokens": 900, "temperature": 2.0},
        **{"stream": True, "trace": True, "verifier": "rejection"},
    }
    with serving(Limits(reader_seconds=0.3), allows_trace=True, max_parallel=25) as served:
        slow = connected(served, body)
        start = time.monotonic()
        quick = served.post("/v1/completions", prompt=PROMPT, max_tokens=5, temperature=0)
        assert quick.status_code == 200
        assert time.monotonic() - start < SECONDS / 2
        served.wait_until_idle(SECONDS)
        slow.close()
