"""What the documents show runs, exists, and is the same in both languages."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from docs.site import theory
from docs.site.flags import parsers
from docs.site.generate import figures as drawn
from foredraft.cli import main as program
from foredraft.cli.commands import COMMANDS
from foredraft.engine import Engine
from foredraft.loading.loader import BUNDLED
from tests.documents import (
    CHECKS,
    QUOTE,
    ROOT,
    Pages,
    blocks,
    formulas_without_derivation,
    language_of,
    one_language_only,
    read,
    stale,
    typed_numbers,
    unknown_commands,
    unlike_the_source,
    unparsable_commands,
    wrong_citations,
)
from tests.documents import broken_links as broken

PAGES = read()
ENGLISH = [name for name in PAGES if language_of(name) == "en"]
# A speed, a ratio or a cost differs from machine to machine; all else must not.
# A page shows … there.
MACHINE_DEPENDENT = r"[\d.…]+(?= tokens/s\b)|(?:\d+\.\d+|…)(?=x)|(?<=draft cost ratio )[\d.…]+"


def without_figures(transcript: str) -> str:
    return re.sub(MACHINE_DEPENDENT, "#", transcript).strip()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check.__name__))
def test_documents_are_sound(check: Callable[[Pages], list[str]]) -> None:
    assert check(PAGES) == []


def test_figures_are_what_their_scripts_draw() -> None:
    for path, svg in drawn().items():
        assert path.read_text(encoding="utf-8") == svg, path.name


@pytest.mark.parametrize("cost", theory.COSTS)
@pytest.mark.parametrize("alpha", theory.ALPHAS)
def test_best_gamma_is_the_best_of_all(alpha: float, cost: float) -> None:
    ratios = [theory.speedup(alpha, cost, gamma) for gamma in range(80)]
    best = theory.best_gamma(alpha, cost)
    assert ratios[best] == max(ratios)
    assert (best > 0) == (alpha > cost)
    assert theory.oracle(alpha, cost) >= ratios[best] - 1e-12


@pytest.fixture(scope="module")
def one_engine() -> Any:
    """Load the bundled pair once: the documents load it in every example."""
    loaded: dict[tuple[Any, ...], Engine] = {}
    load = Engine.load.__func__  # type: ignore[attr-defined]

    def once(
        cls: type[Engine], target: str = BUNDLED, drafter: str | None = BUNDLED, **more: Any
    ) -> Engine:
        key = (target, drafter, *map(str, more.values()))
        if key not in loaded:
            loaded[key] = load(cls, target, drafter, **more)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "load", classmethod(once))
        patch.setattr(Engine, "warm_up", lambda self: None)
        yield


@pytest.mark.parametrize("name", [n for n in ENGLISH if blocks(PAGES[n], "python")])
def test_python_of_a_page_runs_from_top_to_bottom(name: str, one_engine: Any) -> None:
    scope = {"__name__": "__main__"}
    for code in blocks(PAGES[name], "python"):
        if QUOTE.match(code):
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), scope)
        expected = re.findall(r"^# → (.*)$", code, re.MULTILINE)
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        assert [line for line in lines if line in expected] == expected, (code, printed.getvalue())


def sessions() -> list[Any]:
    """Return every shown session of the shell."""
    shown = [(n, code) for n in ENGLISH for code in blocks(PAGES[n], "text")]
    return [
        pytest.param(code, id=f"{n}-{i}") for i, (n, code) in enumerate(shown) if code[:2] == "> "
    ]


@pytest.mark.parametrize("shown", sessions())
def test_shell_sessions_are_what_the_shell_prints(
    shown: str,
    one_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [line[2:] for line in shown.splitlines() if line.startswith("> ")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    program.infer(["--device", "cpu"])
    assert without_figures(capsys.readouterr().out) == without_figures(shown)


def transcripts() -> list[Any]:
    """Return every shown command with its output."""
    found = []
    for name in ENGLISH:
        for code in blocks(PAGES[name], "console"):
            for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
                found.append(pytest.param(command, output, id=f"{name}-{command}"))
    return found


@pytest.mark.parametrize(("command", "output"), transcripts())
def test_transcripts_are_what_the_commands_print(
    command: str, output: str, one_engine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)
    assert words[:2] == ["uv", "run"], "a transcript begins with uv run"
    run = {"foredraft": program.main, "infer.py": program.infer}[words[2]]
    with contextlib.suppress(SystemExit):
        run(words[3:])
    assert without_figures(capsys.readouterr().out) == without_figures(output)


def test_the_example_that_measures_prints_a_cost_ratio(
    one_engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "where_time_goes.py"))
    monkeypatch.setitem(example["milliseconds"].__globals__, "REPEATS", 1)
    monkeypatch.setitem(example["main"].__globals__, "CONTEXT", 8)
    example["main"]()
    assert "cost ratio c = " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_every_slash_command_is_explained_on_the_front_page(name: str) -> None:
    table = [line for line in PAGES[name].splitlines() if line.startswith("| `/")]
    documented = {word for line in table for word in re.findall(r"`(/\w+)", line)}
    assert documented == set(COMMANDS)


@pytest.mark.parametrize("name", ["docs/api-options.md", "docs/en/api-options.md"])
def test_every_flag_and_command_is_in_the_reference(name: str) -> None:
    text = PAGES[name]
    for command, its in parsers():
        assert f"**`{command}`**" in text
        for action in its._actions:
            if action.help != "==SUPPRESS==" and "--help" not in action.option_strings:
                assert all(f"`{flag}`" in text for flag in action.option_strings), command
    assert all(f"| `{name}" in text for name in COMMANDS)


# --- the checks notice ----------------------------------------------------------------------------

THEORY = "docs/en/02-speculative-theory.md"
MUTATIONS: dict[str, tuple[Callable[[Pages], list[str]], str, str, str]] = {
    "heading-level": (
        one_language_only,
        THEORY,
        "\n## Block verification",
        "\n### Block verification",
    ),
    "unfilled": (
        stale,
        "docs/en/plan.md",
        "<!-- begin ablation -->\n\n",
        "<!-- begin ablation -->\n<!-- end ablation -->\n<!-- begin nothing -->\n\n",
    ),
    "measured-number": (stale, THEORY, "3.326 ± 0.048", "3.426 ± 0.048"),
    "computed-number": (stale, THEORY, "6 · 2.47×", "7 · 2.47×"),
    "number-outside": (
        typed_numbers,
        THEORY,
        "\n## How it is proved",
        "\n| x | 1.5 |\n\n## How it is proved",
    ),
    "code": (one_language_only, THEORY, "range(5_000)", "range(5_001)"),
    "formula": (
        one_language_only,
        THEORY,
        "\\frac{1 - \\alpha^{\\gamma+1}}",
        "\\frac{1 - \\alpha^{\\gamma}}",
    ),
    "figure": (one_language_only, THEORY, "speedup.en.svg", "round.en.svg"),
    "derivation": (
        formulas_without_derivation,
        "docs/en/06-tricks-and-optimizations.md",
        "\n### Confidence\n",
        "\n### Certainty\n",
    ),
    "page": (one_language_only, "docs/en/refer.md", "", ""),
    "flag": (unparsable_commands, THEORY, "verify --samples 20000", "verify --sample 20000"),
    "flag-in-prose": (unknown_commands, "README.md", "(`--level`)", "(`--levels`)"),
    "slash-command": (unknown_commands, "README.md", "`/seed v`", "`/seeds v`"),
    "reference": (stale, "docs/en/api-options.md", "`--text-only`", "`--only-text`"),
    "link": (broken, "README.md", "(docs/en/02-speculative-theory.md)", "(docs/en/02-theory.md)"),
    "citation": (
        wrong_citations,
        THEORY,
        "`verification/block.py:pass_probabilities`",
        "`verification/block.py:pass_chances`",
    ),
    "quoted-source": (
        unlike_the_source,
        "docs/en/03-speculative-impl.md",
        "self.context.rollback_to(len(self.tokens) - 1)",
        "self.context.rollback_to(len(self.tokens))",
    ),
}  # name → check, page, what stands there, what is put in its place


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_one_change_by_hand_is_noticed(mutation: str) -> None:
    check, page, old, new = MUTATIONS[mutation]
    changed = dict(PAGES)
    if old:
        assert old in PAGES[page], "the mutation has nothing to change"
        changed[page] = PAGES[page].replace(old, new, 1)
    else:
        del changed[page]
    assert check(changed)
