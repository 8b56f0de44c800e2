"""Small things: a quiet Ctrl-C, eighty columns, pasted blocks, private and whole files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from foredraft.cli.commands import COMMANDS
from foredraft.cli.prompt import build_session
from foredraft.cli.shell import terminal_lines
from foredraft.config import DecodingConfig
from tests.cli.transcript import open_shell, printed
from tests.toy_engine import PROMPT, RETOLD, SINGER, STORY

ROOT = Path(__file__).parents[2]

# --- Ctrl-C during imports ------------------------------------------------------------------------

DOORS = {
    "infer.py": "runpy.run_path('infer.py', run_name='__main__')",
    "python -m foredraft": "runpy.run_module('foredraft', run_name='__main__', alter_sys=True)",
    "foredraft": "from foredraft.__main__ import main; main()",
}
INTERRUPT = """
import os, runpy, signal, sys
class Impatience:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, ".")
sys.argv = ["foredraft", "generate", "--help"]
sys.meta_path.insert(0, Impatience())
{door}
"""


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("module", ["foredraft.cli.main", "torch", "numpy"])
def test_an_interrupt_while_modules_load_is_quiet(door: str, module: str) -> None:
    code = INTERRUPT.format(module=module, door=DOORS[door])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_installed_command_is_one_of_these_doors() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'foredraft = "foredraft.__main__:main"' in text


# --- eighty columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1, 4, 12, 64])
def test_help_and_stats_fit_eighty_columns_and_cut_nothing(gamma: int) -> None:
    long = "topknucleus(temperature=0.123456789, top_k=12345, top_p=0.123456789)"
    shell = open_shell(config=DecodingConfig(gamma=gamma, length=100))
    shell.run([f"/compare {RETOLD}"], echo=False)
    shell.config = shell.config.replace(sampler=long, drafting="hybrid(suffix, model)")
    begin = len(printed(shell))
    shell.run(["/help", "/stats", "/set_ngramstorage onelevel 64", "/help"], echo=False)
    lines = printed(shell)[begin:].splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(" ".join(lines).split())
    for command in COMMANDS.values():
        assert command.help in words
    assert long in words
    for result in shell.results:
        for rate in result.summary.acceptance_by_position:
            assert f"{rate:.2f}" in words


def test_every_line_of_the_statistics_begins_with_its_name() -> None:
    shell = open_shell(config=DecodingConfig(gamma=64, length=150))
    shell.run([f"/compare {SINGER}"], echo=False)
    table = printed(shell).split("\nstatistic")[1].splitlines()[1:]
    assert {line.split()[0] for line in table} == {
        *shell.results[0].summary.to_dict(),
        "speedup",
    }
    assert sum(line.startswith("acceptance_by_position") for line in table) > 1


# --- pasted blocks --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


def paste(keyboard: PipeInput, block: str) -> None:
    keyboard.send_text(f"\x1b[200~{block}\x1b[201~\r")


def test_a_block_that_begins_with_a_command_is_run_line_by_line(keyboard: PipeInput) -> None:
    paste(keyboard, f"/gamma 3\n/nonsense\n\n/length 9\n{SINGER}\n/seed 7")
    keyboard.send_text("\x04")
    shell = open_shell()
    shell.run(terminal_lines(), echo=False)
    assert (shell.config.gamma, shell.config.length, shell.config.seed) == (3, 9, 7)
    assert shell.prompt == SINGER
    assert printed(shell).count("error: unknown command '/nonsense'") == 1


@pytest.mark.parametrize(
    "block",
    [
        f"{PROMPT}\n/quit\n/gamma 3",
        "// a comment\n/gamma 3\nint main() {}",
        " /gamma 3\n/length 9",
        "def f():\n\treturn 1",
    ],
)
def test_any_other_block_is_one_prompt_and_runs_no_command(block: str, keyboard: PipeInput) -> None:
    paste(keyboard, block)
    keyboard.send_text("/seed 7\r\x04")
    shell = open_shell(config=DecodingConfig(length=3))
    shell.run(terminal_lines(), echo=False)
    assert shell.prompt == block.strip()
    assert shell.config == DecodingConfig(length=3, seed=7)


def test_a_block_that_begins_with_an_unknown_command_is_refused_whole(keyboard: PipeInput) -> None:
    paste(keyboard, "/usr/bin/env\n/gamma 3\nOnce upon\n/quit")
    keyboard.send_text("/seed 7\r\x04")
    shell = open_shell()
    shell.run(terminal_lines(), echo=False)
    assert printed(shell) == (
        "error: unknown command '/usr/bin/env'; /help lists all commands\nseed: 7\n"
    )
    assert shell.prompt == ""


def test_a_tab_separates_a_command_from_its_value() -> None:
    shell = open_shell()
    shell.run(["/gamma\t3", "/seed   8 "], echo=False)
    assert printed(shell) == "gamma: 3\nseed: 8\n"


# --- the history ----------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(os.name == "nt", reason="files have no such modes here")
@pytest.mark.parametrize("existed", [False, True])
def test_only_its_owner_reads_the_history(
    existed: bool, state_home: Path, keyboard: PipeInput
) -> None:
    file = state_home / "foredraft" / "history"
    if existed:
        file.parent.mkdir(parents=True)
        file.write_text("# then\n+kept\n", encoding="utf-8")
        file.chmod(0o644)
    keyboard.send_text(f"{PROMPT}\r\x04")
    assert list(terminal_lines()) == [PROMPT]
    assert mode(file) == 0o600
    assert file.read_text(encoding="utf-8").count("+") == 1 + existed
    if not existed:
        assert mode(file.parent) == 0o700


def test_a_line_that_cannot_be_kept_is_still_run(
    keyboard: PipeInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FileHistory, string: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileHistory, "store_string", full)
    keyboard.send_text(f"{PROMPT}\r{PROMPT}\r\x04")
    assert list(terminal_lines()) == [PROMPT, PROMPT]


@pytest.mark.parametrize("kind", ["folder", "no home", "NUL"])
def test_where_no_history_can_be_kept_there_is_one_in_memory(
    kind: str, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "folder":
        (state_home / "foredraft" / "history").mkdir(parents=True)
    elif kind == "no home":
        monkeypatch.delenv("XDG_STATE_HOME")

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
    else:
        monkeypatch.setattr(os, "environ", {"XDG_STATE_HOME": "a\0b"})
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        assert isinstance(build_session(COMMANDS).history, InMemoryHistory)


# --- saved files ----------------------------------------------------------------------------------


def test_save_overwrites_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    file = tmp_path / "my run.jsonl"
    file.write_text("precious\n", encoding="utf-8")
    shell = open_shell()
    shell.run([PROMPT, f"/save {file}"], echo=False)
    assert printed(shell).splitlines()[-1] == (
        f"error: '{file}' is there already; to write it, give /overwrite {file}"
    )
    assert file.read_text(encoding="utf-8") == "precious\n"
    shell.run([f"/overwrite {file}"], echo=False)
    assert STORY in file.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["my run.jsonl"]


def test_save_replaces_files_only_and_writes_through_links(tmp_path: Path) -> None:
    shell = open_shell()
    link, file = tmp_path / "link", tmp_path / "file"
    file.write_text("old", encoding="utf-8")
    link.symlink_to(file)
    shell.run(
        [PROMPT, f"/overwrite {link}", "/overwrite /dev/null", f"/overwrite {tmp_path}"], echo=False
    )
    assert link.is_symlink()
    assert STORY in file.read_text(encoding="utf-8")
    assert not Path("/dev/null").is_file()
    refused = printed(shell).splitlines()[-2:]
    assert all(
        line.endswith("is there already; to write it, give another name") for line in refused
    )


def test_a_disk_that_fills_up_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text("old\n", encoding="utf-8")
    shell = open_shell()
    shell.run([PROMPT], echo=False)

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    shell.run([f"/overwrite {file}"], echo=False)
    assert printed(shell).endswith(f"error: cannot write '{file}': No space left on device\n")
    assert file.read_text(encoding="utf-8") == "old\n"


# --- the package ----------------------------------------------------------------------------------


def test_the_package_says_that_it_is_typed() -> None:
    assert (files("foredraft") / "py.typed").is_file()
    assert "Typing :: Typed" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
