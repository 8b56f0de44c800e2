"""The scripts: a page each, the same options, syntax a parser accepts, rows that are right."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foredraft.bench import shell_runs
from foredraft.bench.measure import text_hash
from foredraft.bench.shell_runs import EXPERIMENTS, SHELL_COLUMNS, default_prompts, run_shell
from foredraft.errors import ConfigError
from tests.toy_engine import PROMPT, RETOLD

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
TOY = [sys.executable, "-m", "tests.toy_shell"]
DOCUMENTED = ["Target AR", "Speculative", "EGAG", "NASD"]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def powershell_tree(text: bytes) -> Any:
    language = pytest.importorskip("tree_sitter_powershell", reason="no PowerShell grammar")
    tree_sitter = pytest.importorskip("tree_sitter", reason="no parser for PowerShell")
    return tree_sitter.Parser(tree_sitter.Language(language.language())).parse(text).root_node


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from nodes(child)


def test_a_parser_accepts_the_powershell() -> None:
    text = (SCRIPTS / "run_ablation.ps1").read_bytes()
    assert not powershell_tree(text).has_error
    assert powershell_tree(text.replace(b"finally {", b"finally")).has_error  # it can refuse


def test_the_powershell_takes_the_documented_parameters() -> None:
    root = powershell_tree((SCRIPTS / "run_ablation.ps1").read_bytes())
    found = [n.text.decode() for n in nodes(root) if n.type == "script_parameter"]
    names = [re.search(r"\$(\w+)", text)[1] for text in found]  # type: ignore[index]
    assert names == ["Prompt", "Runner", "Out"]


@pytest.mark.parametrize("name", ["run_ablation.sh", "run_ablation.ps1"])
def test_a_script_is_a_page_with_the_documented_defaults(name: str) -> None:
    text = (SCRIPTS / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert '"uv run infer.py --device cuda"' in text
    assert '"scripts/ablation_results.csv"' in text


def bash(*words: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("bash")
    if found is None:
        pytest.skip("needs bash")
    command = [found, str(SCRIPTS / "run_ablation.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("words", [("--prompts", "x"), ("--out",)])
def test_bash_refuses_what_it_does_not_know(words: tuple[str, ...]) -> None:
    done = bash(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_bash_hands_its_options_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    done = bash("--prompt", "Où est-il ?", "--runner", "uv run infer.py", "--out", "x.csv")
    assert done.stdout.splitlines() == [
        *(str(ROOT), "run", "python", "-m", "foredraft.bench.shell_runs"),
        *("--runner", "uv run infer.py", "--out", str(tmp_path / "x.csv")),
        *("--prompt", "Où est-il ?"),
    ]
    plain = bash().stdout.splitlines()
    assert plain[-2:] == ["--out", "scripts/ablation_results.csv"]


def test_the_shell_gives_a_row_a_method_and_prompt() -> None:
    """One test: the shell takes a while, and another process would run it again."""
    rows = run_shell(TOY, [PROMPT, RETOLD])
    assert [e.name for e in EXPERIMENTS] == DOCUMENTED
    assert [(r["prompt"], r["method"]) for r in rows] == [
        (prompt, method) for prompt in (PROMPT, RETOLD) for method in DOCUMENTED
    ]
    assert {tuple(row) for row in rows} == {SHELL_COLUMNS}
    for prompt in (PROMPT, RETOLD):  # every method gives the same text from the same seed
        assert len({r["text_hash"] for r in rows if r["prompt"] == prompt}) == 1
    assert {row["seed"] for row in rows} == {42}
    plain, fixed, egag, nasd = rows[:4]  # each runs with its own settings
    assert plain["acceptance_rate"] is None
    assert plain["mean_acceptance_length"] == 1
    assert 3 <= fixed["mean_gamma"] <= 4  # nothing is drafted after an end token
    assert fixed["mean_normalized_entropy"] is None
    assert egag["mean_normalized_entropy"] > 0
    assert egag["mean_gamma"] != 4
    assert nasd["mean_normalized_entropy"] is None
    for row in rows:
        speed = row["num_emitted_tokens"] / row["latency_seconds"]
        assert row["throughput_tokens_per_second"] == pytest.approx(speed)


def test_the_command_writes_the_csv_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [dict.fromkeys(SHELL_COLUMNS, 1.0) | {"method": name} for name in DOCUMENTED]
    rows[0]["acceptance_rate"] = None
    asked: list[Any] = []

    def shell(runner: list[str], prompts: list[str]) -> list[dict[str, Any]]:
        asked.append((runner, prompts))
        return rows

    monkeypatch.setattr(shell_runs, "run_shell", shell)
    out = tmp_path / "deep" / "results.csv"
    shell_runs.main(["--prompt", PROMPT, "--runner", "run 'a b'", "--out", str(out)])
    assert asked == [(["run", "a b"], [PROMPT])]
    with out.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["method"] for row in written] == DOCUMENTED
    assert written[0]["acceptance_rate"] == ""
    printed = capsys.readouterr().out
    assert all(method in printed for method in DOCUMENTED)


@pytest.mark.parametrize("prompt", ["/help", " ", "two\nlines"])
def test_what_the_shell_would_not_read_as_a_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(ConfigError, match="a prompt must be one line"):
        run_shell(TOY, [prompt])


def test_a_shell_that_does_not_run_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    failing = f"'{sys.executable}' -c 'import sys; print(\"error: no such device\"); sys.exit(2)'"
    with pytest.raises(SystemExit) as end:
        shell_runs.main(["--prompt", PROMPT, "--runner", failing])
    assert end.value.code == 2
    assert "exit code 2: error: no such device" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="cannot run"):
        run_shell(["./no-such-runner"], [PROMPT])


def test_a_shell_that_saves_nothing_is_one_sentence() -> None:
    deaf = [sys.executable, "-c", "import sys; sys.stdin.read(); print('error: no save')"]
    with pytest.raises(ConfigError, match=r"saved no result for Target AR on .*: error: no save"):
        run_shell(deaf, [PROMPT])


def test_the_prompts_of_the_script_fit_on_a_line() -> None:
    assert len(default_prompts()) == 9
    assert not any("\n" in prompt or prompt.startswith("/") for prompt in default_prompts())


def test_hashes_are_of_the_text_alone() -> None:
    assert text_hash("a") == text_hash("a") != text_hash("b")
    assert len(text_hash("\ud800")) == 16  # a broken byte of the prompt is no reason to fail
