"""Bad recordings, devices that are not there, streams that are closed or full: one sentence."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from foredraft.bench.recordings import Recording, read_recordings
from foredraft.cli.main import infer, main
from foredraft.errors import ConfigError, ForedraftError
from foredraft.loading.device import resolve_device
from tests.cli.conftest import Run, loaded, run
from tests.toy_engine import PROMPT, tokenizer

__all__ = ["loaded", "run"]  # fixtures
ROOT = Path(__file__).parents[2]

# --- recordings -----------------------------------------------------------------------------------

ODD: list[Any] = [5, 1.5, True, None, [], ["a"], {}, {"a": 1}, "", "\x00", "\ud800", 10**30, -1]
GOOD = {
    "prompt": PROMPT,
    "response": PROMPT,
    "prompt_tokens": [1, 2],
    "tokens": [3, 4],
    "method": "target",
    "finish_reason": "length",
    "config": {"length": 9, "sampler": "greedy", "chat": False},
}
RAW = {
    "deep lists": "[" * 100_000,
    "deep objects": '{"prompt":' * 100_000,
    "a huge number": '{"prompt_tokens": [1], "tokens": [' + "9" * 5000 + "]}",
    "a huge token": '{"prompt_tokens": [1], "tokens": [1' + "0" * 30 + "]}",
    "a token beyond the vocabulary": '{"prompt_tokens": [100000], "tokens": [1]}',
    "no number": '{"prompt_tokens": [NaN], "tokens": [Infinity]}',
    "no prompt": '{"response": "x"}',
    "half a line": '{"prompt": "a',
    "a string": '"prompt"',
    "a zero": "\x00",
}


@pytest.mark.parametrize("line", RAW.values(), ids=RAW)
def test_a_line_that_is_no_recording_is_one_sentence(line: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    code, out, err = run("replay", str(file))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: line 1 of ")
    assert "is no recording" in err
    assert len(err) < 1000


def attempt(file: Path) -> tuple[list[Recording], str]:
    """Return the recordings of a file, or the sentence that refuses it."""
    try:
        return read_recordings(file, tokenizer()), ""
    except ForedraftError as error:
        return [], str(error)


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize("value", ODD, ids=lambda v: ascii(v)[:12])
def test_no_value_of_a_field_is_a_traceback(field: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    for others in (GOOD, {k: v for k, v in GOOD.items() if "tokens" not in k}):
        lines = [{"config": GOOD["config"]}, {k: v for k, v in others.items() if k != "config"}]
        (lines[0] if field == "config" else lines[1])[field] = value
        file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        found, refusal = attempt(file)
        assert "\n" not in refusal
        assert len(refusal) < 1000
        assert all(isinstance(t, int) for r in found for t in [*r.prompt, *r.tokens, r.limit])


@pytest.mark.parametrize("name", ["length", "sampler", "chat"])
@pytest.mark.parametrize("value", ODD, ids=lambda v: ascii(v)[:12])
def test_no_value_of_a_setting_is_a_traceback(name: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    record = {"prompt": PROMPT, "tokens": [1, 2], "finish_reason": "eos"}
    lines = [{"config": {name: value}}, record]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found, refusal = attempt(file)
    assert "\n" not in refusal
    assert bool(found) is (refusal == "")
    assert all(isinstance(one.limit, int) and one.limit >= 1 for one in found)


# --- devices --------------------------------------------------------------------------------------

DEVICES = (
    *("mps", "xpu", "meta", "privateuseone", "hpu", "xla", "mtia", "vulkan", "hip", "ipu", "ve"),
    *("mkldnn", "opengl", "opencl", "ideep", "fpga", "maia", "lazy", "cuda:7", "cuda:-1", "cpu:x"),
    *("", "gpu", "CPU", "cuda:", "\x1b[2J", "x" * 5000),
)


@pytest.mark.parametrize("name", DEVICES, ids=lambda name: ascii(name)[:16])
def test_a_device_that_is_not_there_is_one_sentence(name: str, run: Run) -> None:
    backend = getattr(torch, name.split(":")[0], None) if name.isalnum() else None
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    if name in ("xpu", "mtia") and backend is not None and backend.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError) as refusal:
        resolve_device(name)
    assert len(str(refusal.value)) < 300
    for flag in ("--device", "--drafter-device"):
        code, out, err = run("generate", "--prompt", PROMPT, flag, name or " ")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "cpu" in err


def test_a_device_that_is_there_is_used() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")


# --- streams --------------------------------------------------------------------------------------

FULL = Path("/dev/full")
COMMANDS = {
    "models": ["models"],
    "help": ["--help"],
    "generate": ["generate", "--prompt", PROMPT],
    "text": ["generate", "--prompt", PROMPT, "--text-only"],
    "json": ["generate", "--prompt", PROMPT, "--json"],
    "shell": ["chat", "--prompt", PROMPT],
}


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("argv", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("loaded")
def test_a_full_output_is_one_sentence(
    argv: list[str], buffered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = io.StringIO()
    raw = FULL.open("wb", buffering=0)
    stream = io.TextIOWrapper(io.BufferedWriter(raw) if buffered else raw, "utf-8")  # type: ignore[arg-type]
    stream.reconfigure(write_through=not buffered)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(SystemExit) as end:
        main(argv)
    monkeypatch.undo()
    with suppress(OSError):
        stream.close()
    raw.close()
    assert end.value.code == 2
    assert errors.getvalue() == "error: cannot write the output: No space left on device\n"


@pytest.mark.usefixtures("loaded")
def test_a_piped_shell_ends_where_its_output_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    lines = io.TextIOWrapper(io.BytesIO(b"Once\n" * 1000), encoding="utf-8")
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdin", lines)
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(SystemExit) as end:
        infer([])
    sys.stdout.close()
    assert end.value.code == 2
    assert errors.getvalue() == "error: cannot write the output: No space left on device\n"
    assert lines.buffer.read().count(b"Once") > 900  # it did not go on


@pytest.mark.usefixtures("loaded")
def test_closed_streams_are_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", None)
        code, out, err = run(entry=infer)
        assert (code, out) == (2, "")
        assert err == (
            "error: standard input is closed; pipe lines into it, or use --prompt TEXT\n"
        )
        assert run("--prompt", PROMPT, entry=infer)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        errors = io.StringIO()
        patch.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as end:
            main(["models"])
    assert end.value.code == 2
    assert errors.getvalue().startswith("error: standard output is closed; ")


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_real_streams_of_a_real_process() -> None:
    """Every combination at once, each a process of its own: imports take seconds."""
    cases = {
        "models >/dev/full": (2, "error: cannot write the output: No space left on device\n"),
        "--help >/dev/full": (2, "error: cannot write the output: No space left on device\n"),
        "models >&-": (2, "error: standard output is closed; send it to a file, or to /dev/null\n"),
        "models <&- 2>&- >/dev/null": (0, ""),
        "nonsense 2>/dev/full": (2, ""),
        "chat <&-": (2, "error: standard input is closed; pipe lines into it, or use --prompt"),
    }
    started = {
        words: subprocess.Popen(
            ["bash", "-c", f"{sys.executable} -m foredraft {words}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in cases
    }
    for words, process in started.items():
        out, err = process.communicate(timeout=300)
        code, told = cases[words]
        assert (process.returncode, out) == (code, ""), (words, err)
        assert err.startswith(told), words
        assert err.count("\n") == bool(told), words


@pytest.mark.usefixtures("loaded")
def test_warnings_are_one_escaped_line(run: Run) -> None:
    run("generate", "--prompt", PROMPT, "--json")
    told = warnings.formatwarning("a\x1b[2J\nb", UserWarning, "file.py", 1)
    assert told == "warning: a\\x1b[2J\\nb\n"
