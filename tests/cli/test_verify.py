"""`foredraft verify`: what it prints, its exit codes, and that it can be interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from foredraft.cli.main import main
from foredraft.errors import VocabularyMismatch
from foredraft.loading.runtime import can_fuse

QUICK = ["verify", "--length", "6", "--prompt", "Once upon a time", "--device", "cpu"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    try:
        main([*QUICK, *arguments])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_bundled_pair_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys, "--samples", "400", "--method", "speculative", "--verifier", "block"
    )
    assert code == 0
    assert out.splitlines()[-1] == "passed"
    assert "greedy parity  speculative · block" in out
    assert "would count as a near-tie" in out
    assert "smallest detectable total variation 0." in out
    assert "checking distribution, speculative · block" in err


def test_the_mutant_fails_and_the_difference_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--samples", "2500", "--mutant", "redraw", "--method", "speculative")
    assert code == 1
    assert out.splitlines()[-1] == "FAILED"
    (line,) = [line for line in out.splitlines() if line.startswith("FAIL ")]
    assert "distribution   speculative · mutant redraw" in line
    assert "total variation about 0." in line
    assert "times instead of" in line


def test_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "--samples", "200", "--method", "ngram", "--method", "egag", "--json"
    )
    report = json.loads(out)
    assert code == 0
    assert report["passed"] is True
    assert report["plan"]["methods"] == ["ngram", "egag"]
    assert {f["check"] for f in report["findings"]} == {
        "vocabulary",
        "cache parity",
        "greedy parity",
        "distribution",
    }


def test_too_few_samples_are_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--samples", "3", "--method", "ngram", "--verifier", "rejection")
    assert code == 1
    assert out.splitlines()[-1] == "undecided: see the lines marked ?"


def test_two_tokenizers_of_an_encoder_decoder_are_a_finding(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **settings: object) -> None:
        raise VocabularyMismatch("the tokenizers differ")

    monkeypatch.setattr("foredraft.cli.verify.load_engine", refuse)
    code, out, _ = run(capsys)
    assert code == 1
    assert "FAIL vocabulary" in " ".join(out.split())
    assert "the tokenizers differ" in out


def test_a_named_drafter_is_looked_at_even_if_no_method_needs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run(capsys, "--method", "ngram", "--drafter", "/nowhere")
    assert code == 2
    assert "no model folder '/nowhere'" in err


def test_an_interrupt_while_loading_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foredraft.engine.load", interrupted)
    code, out, _ = run(capsys)
    assert code == 130
    assert "interrupted: what is missing above was not checked" in out


@pytest.mark.slow
def test_a_failure_is_one_even_if_nobody_reads_it() -> None:
    arguments = ["--samples", "2500", "--mutant", "redraw", "--method", "speculative"]
    command = [sys.executable, "-m", "foredraft", *QUICK, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samples", "0"], "--samples: the value must lie in [1, 1000000000], not 0"),
        (["--samples", "many"], "must be a whole number in [1, 1000000000], not 'many'"),
        (["--level", "1"], "--level: the value must lie in (0, 1), not 1.0"),
        (["--method", "beam"], "invalid choice: 'beam'"),
        (["--verifier", "blok"], "unknown verifier 'blok' (did you mean 'block'?)"),
        (["--mutant", "hulk"], "unknown mutant 'hulk'"),
        (["--sampler", "greedy"], "sampler must draw, not 'greedy'"),
        (["--prompt", ""], "prompt is empty"),
        (["--target", "/nowhere"], "no model folder '/nowhere'"),
    ],
)
def test_what_cannot_be_checked_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert words in err


def test_mutants_are_a_hidden_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "--samples" in out
    assert "mutant" not in out


@pytest.mark.slow
def test_an_interrupt_reports_what_there_is() -> None:
    command = [sys.executable, "-m", "foredraft", *QUICK, "--samples", "10000000"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # A job in the background of a script is born deaf to Ctrl-C, and so are its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "distribution" in line:
                break
        time.sleep(2 if can_fuse() else 8)  # a sample or two
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted: what is missing above was not checked" in out
    assert "distribution   speculative · rejection" in out
    assert "passed" not in out
