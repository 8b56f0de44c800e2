"""Components from outside: found by every command, exact, or refused in one sentence."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from docs.site.flags import parsers
from docs.site.reference import REGISTRIES, components
from foredraft import plugins
from foredraft.bench.worker import Pair
from foredraft.cli.commands import COMMANDS
from foredraft.drafting import DRAFTERS
from foredraft.errors import ConfigError
from foredraft.gamma import GAMMA_POLICIES, FixedGamma
from foredraft.loading import LoadOptions
from foredraft.loading.runtime import RUNTIME_CHOICES
from foredraft.plugins import load_plugins, placed
from foredraft.verification import VERIFIERS, Verifier
from tests.cli.conftest import Run, loaded, run
from tests.cli.transcript import open_shell, printed
from tests.test_drafting_laws import EXACT, Parts, every_verifier, policy_of
from tests.toy_engine import PROMPT, STORY

__all__ = ["loaded", "run"]  # fixtures
ROOT = Path(__file__).parents[1]
EXAMPLE = str(ROOT / "examples" / "own_drafter.py")
SPEC = "echo(period=2)"


@pytest.fixture(autouse=True)
def registries_and_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no component behind."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.endswith(("own_drafter", "own_drafter.py", "mine.py")):
            del sys.modules[name]


def installed(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Let a package that announces a plugin be installed."""
    entry = EntryPoint(name, value, plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints([entry]))


# --- the example ----------------------------------------------------------------------------------


def test_the_example_is_short_and_the_package_does_not_know_it() -> None:
    assert len(Path(EXAMPLE).read_text(encoding="utf-8").splitlines()) < 40
    assert "echo" not in DRAFTERS.names


@every_verifier
def test_the_example_is_exact(verifier: Verifier) -> None:
    load_plugins([EXAMPLE])
    assert Parts(verifier, lambda: FixedGamma(3), SPEC).bias(5) < EXACT
    assert Parts(verifier, lambda: FixedGamma(3), f"hybrid({SPEC}, model)").bias(5) < EXACT


@pytest.mark.parametrize("policy", GAMMA_POLICIES.names)
def test_the_example_is_exact_with_every_policy(policy: str) -> None:
    load_plugins([EXAMPLE])
    parts = Parts(VERIFIERS.create("block"), policy_of(policy), SPEC, clock="erratic")
    assert parts.bias(4) < EXACT


# --- the table of CONTRIBUTING.md -----------------------------------------------------------------

KINDS = {  # its flag, its command, its registry, and one that is there
    "sampler": ("--sampler", "/processor", "SAMPLERS", "multinomial"),
    "gamma policy": ("--policy", "/policy", "GAMMA_POLICIES", "fixed"),
    "verifier": ("--verifier", "/verifier", "VERIFIERS", "block"),
    "drafter": ("--drafting", "/drafting", "DRAFTERS", "suffix"),
}


def files_to_change() -> dict[str, list[str]]:
    """Return, of each kind of part, the files that the table names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| a ")]
    return {row[1].strip()[2:]: re.findall(r"`([\w/]+\.py)`", row[2] + row[3]) for row in rows}


def test_the_table_has_every_kind_of_part_and_files_that_are_there() -> None:
    table = files_to_change()
    assert (
        set(table)
        == {registry.kind for registry in REGISTRIES} | {"runtime"}
        == {*KINDS, "runtime"}
    )
    for kind, files in table.items():
        assert len(files) == 3, kind
        assert all(Path(ROOT, file.replace("NAME", "__init__")).is_file() for file in files), kind


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_needs_its_own_file_and_its_import_alone(
    kind: str, run: Run, tmp_path: Path
) -> None:
    """The file lies elsewhere and `--import` is its import; nothing else knows of it."""
    own, room, _ = files_to_change()[kind]
    flag, command, parts, known = KINDS[kind]
    assert Path(own).parent == Path(room).parent
    module = room.removesuffix("/__init__.py").replace("/", ".")
    text = f"@{parts}.register('mine')\nclass Mine({parts}.get('{known}')): 'Is mine.'\n"
    file = tmp_path / "mine.py"
    file.write_text(f"from {module} import {parts}\n{text}", encoding="utf-8")
    words = ("generate", "--prompt", PROMPT, "--method", "speculative", "--text-only", flag, "mine")
    assert flag in run("generate", "--help")[1]
    assert f"unknown {kind} 'mine'" in run(*words)[2]
    assert run(*words, "--import", str(file)) == (0, f"{STORY}\n", "")
    assert "mine" in COMMANDS[command].choices()
    shell = open_shell()
    shell.run([f"{command} mine"], echo=False)
    assert "mine" in printed(shell)
    assert f"| {kind} | `mine" in components(str)
    if flag in run("verify", "--help")[1]:
        words = ("verify", "--samples", "9", "--length", "4", "--prompt", PROMPT, "--json")
        report = json.loads(run(*words, "--import", str(file), flag, "mine")[1])
        assert "mine" in (report["plan"]["sampler"], *report["plan"]["verifiers"])
        assert all(f["passed"] for f in report["findings"] if f["check"] == "greedy parity")


def test_the_files_of_a_runtime_name_the_runtimes() -> None:
    _, choice, law = files_to_change()["runtime"]
    for file in (choice, law):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert all(f'"{name}"' in text for name in RUNTIME_CHOICES), file


# --- where it is used -----------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded")
def test_a_command_drafts_with_what_it_imports(run: Run) -> None:
    words = ("--method", "speculative", "--json", "--drafting", SPEC)
    code, out, _ = run("generate", "--prompt", PROMPT, "--import", EXAMPLE, *words)
    assert code == 0
    line = json.loads(out)
    assert line["text"] == STORY
    assert line["num_drafted_tokens"] > 0
    assert line["num_draft_calls"] == 0


def test_everything_that_decodes_has_the_flag() -> None:
    having = {command for command, its in parsers() if "--import" in its._option_string_actions}
    commands = ("generate", "chat", "serve", "advise", "replay", "verify", "ablate")
    assert having == {"uv run infer.py", *(f"foredraft {name}" for name in commands)}


def test_the_shell_knows_what_was_imported() -> None:
    shell = open_shell()
    load_plugins([EXAMPLE])
    shell.run(["/drafting", f"/drafting {SPEC}"], echo=False)
    refused, changed = printed(shell).splitlines()
    assert refused.endswith(", echo")
    assert changed == f"drafting: {SPEC}"


def test_an_installed_plugin_is_loaded_unasked(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.syspath_prepend(str(Path(EXAMPLE).parent))
    installed(monkeypatch, "circles", "own_drafter")
    code, out, _ = run("ablate", "quick", "--dry-run")
    assert (code, bool(out)) == (0, True)
    assert "echo" in DRAFTERS.names


def test_a_worker_imports_what_its_grid_needs() -> None:
    options = LoadOptions(device="cpu")
    Pair("bundled", None, options, options, (EXAMPLE,)).load()
    assert DRAFTERS.spec(DRAFTERS.create(SPEC)) == SPEC


def test_a_path_holds_in_every_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(EXAMPLE).parent)
    assert placed("own_drafter.py") == EXAMPLE
    assert placed("a.module") == "a.module"
    load_plugins(["own_drafter.py", EXAMPLE, "./own_drafter.py"])
    assert DRAFTERS.names.count("echo") == 1


# --- what is refused ------------------------------------------------------------------------------

BROKEN = {
    "no_such_module": "ModuleNotFoundError",
    "no_such_file.py": "FileNotFoundError",
    "": "ValueError",
    ".relative": "TypeError",
}


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_imported_is_one_sentence(name: str, run: Run) -> None:
    code, out, err = run("generate", "--prompt", PROMPT, "--import", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: importing {name!r} failed with {BROKEN[name]} ")
    assert err.endswith("; give a module that Python finds, or a path that ends in .py\n")


@pytest.mark.parametrize("text", ["syntax error", "1 / 0", "raise BaseException"])
def test_a_file_that_fails_can_be_mended_and_imported(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^importing '.*mine\.py' failed with \w+"):
        load_plugins([str(file)])
    file.write_text("CORRECTED = True  # another size, else Python takes what it has cached\n")
    load_plugins([str(file)])


def test_a_broken_plugin_is_named(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    installed(monkeypatch, "circles", "no_such_package.here")
    code, out, err = run("ablate", "quick", "--dry-run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: loading the plugin 'circles' (no_such_package.here) failed with ")
    assert err.endswith("; update its package, or uninstall it\n")


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = Path(EXAMPLE).read_text(encoding="utf-8")
    file.write_text(text.replace('register("echo")', 'register("suffix")'), encoding="utf-8")
    taken = (
        r"mine\.py\.Echo cannot be the drafter 'suffix', which is foredraft.*Suffix; choose another"
    )
    with pytest.raises(ConfigError, match=taken):
        load_plugins([str(file)])
