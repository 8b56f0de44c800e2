"""What the documents show runs, exists, and is the same in both languages."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import runpy
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from docs.site import proofs, theory
from docs.site.flags import parsers
from docs.site.generate import figures as drawn
from foredraft.cli import main as program
from foredraft.cli.commands import COMMANDS
from foredraft.decoding import speculative
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
    monotonous_traces,
    one_language_only,
    pages_nobody_finds,
    read,
    speeds_nobody_measured,
    stale,
    typed_numbers,
    unknown_commands,
    unlike_a_chapter,
    unlike_the_source,
    unparsable_commands,
    wrong_citations,
)
from tests.documents import broken_links as broken

PAGES = read()
COMMAND_LINE = "docs/en/command-line.md"
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


def test_only_what_differs_beyond_noise_is_marked() -> None:
    measured = {"tau": 3.0, "standard_error": 0.04}
    near, far = ({"tau": tau, "standard_error": 0.03} for tau in (3.1, 3.2))
    ratio, error = proofs.quotient(near, measured)  # two standard errors: enough for one comparison
    assert (ratio, error) == pytest.approx((1.0333, 0.0170), abs=1e-4)
    assert not proofs.beyond_noise(ratio, error, comparisons=6)
    assert proofs.beyond_noise(1.034, error, comparisons=1)
    assert proofs.beyond_noise(*proofs.quotient(far, measured), comparisons=6)


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


def test_the_forty_lines_are_no_more_and_need_no_library() -> None:
    whole = blocks(PAGES["docs/en/00-forty-lines.md"], "python")[0]
    lines = [line for line in whole.splitlines() if line.strip()]
    assert len(lines) <= 40
    assert [line for line in lines if "import" in line] == ["import random"]


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


def test_the_example_that_measures_prints_what_the_first_chapter_shows(
    one_engine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "where_time_goes.py"))
    monkeypatch.setitem(example["milliseconds"].__globals__, "REPEATS", 1)
    example["main"]()
    printed = capsys.readouterr().out
    base = next(line for line in printed.splitlines() if " 1 new tokens" in line)
    assert base.endswith(" 1.00 x the pass over one"), "what all are compared with is timed once"
    shown = blocks(PAGES["docs/en/01-inference-basics.md"], "text")
    assert without_times(printed) in [without_times(code) for code in shown]


def without_times(printed: str) -> list[str]:
    return re.sub(r"\d+\.\d+", "…", printed).split()


@pytest.mark.parametrize("name", ["shared_step", "_accept"])
@pytest.mark.parametrize("page", ["docs/03-speculative-impl.md", "docs/en/03-speculative-impl.md"])
def test_what_the_third_chapter_calls_whole_is_whole(page: str, name: str) -> None:
    source = inspect.getsource(getattr(speculative, name))
    body = source.split('"""')[2].strip("\n")
    assert f"# decoding/speculative.py:{name}\n{body}\n" in blocks(PAGES[page], "python")


@pytest.mark.parametrize("name", ["docs/command-line.md", COMMAND_LINE])
def test_every_slash_command_is_explained(name: str) -> None:
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

THEORY, PROOFS = "docs/en/02-speculative-theory.md", "docs/en/02b-proofs.md"
CODE, FORTY = "docs/en/03-speculative-impl.md", "docs/en/00-forty-lines.md"
SIX_EMPTY = "".join(
    f"step   {i}  target: ' a'  [0/0 kept, stopped: unknown]\n" for i in range(3, 9)
)
MUTATIONS: dict[str, tuple[Callable[[Pages], list[str]], str, str, str]] = {
    "heading-level": (
        one_language_only,
        PROOFS,
        "\n## Block verification",
        "\n### Block verification",
    ),
    "unfilled": (
        stale,
        "docs/en/plan.md",
        "<!-- begin ablation -->\n\n",
        "<!-- begin ablation -->\n<!-- end ablation -->\n<!-- begin nothing -->\n\n",
    ),
    "measured-number": (stale, PROOFS, "3.326 ± 0.048", "3.426 ± 0.048"),
    "computed-number": (stale, THEORY, "6 · 2.47×", "7 · 2.47×"),
    "number-outside": (
        typed_numbers,
        PROOFS,
        "\n## How it is proved",
        "\n| x | 1.5 |\n\n## How it is proved",
    ),
    "code": (one_language_only, PROOFS, "range(5_000)", "range(5_001)"),
    "formula": (
        one_language_only,
        THEORY,
        "\\frac{1 - \\alpha^{\\gamma+1}}",
        "\\frac{1 - \\alpha^{\\gamma}}",
    ),
    "figure": (one_language_only, THEORY, "speedup.en.svg", "round.en.svg"),
    "derivation": (
        formulas_without_derivation,
        "docs/en/06b-draft-lengths.md",
        "\n## Confidence\n",
        "\n## Certainty\n",
    ),
    "derivation-of-a-drafter": (
        formulas_without_derivation,
        "docs/en/06b-draft-lengths.md",
        "\n## Auto: one optimiser\n",
        "\n## Auto\n",
    ),
    "page": (one_language_only, "docs/en/refer.md", "", ""),
    "flag": (unparsable_commands, PROOFS, "verify --samples 20000", "verify --sample 20000"),
    "flag-in-prose": (unknown_commands, COMMAND_LINE, "(`--level`)", "(`--levels`)"),
    "slash-command": (unknown_commands, COMMAND_LINE, "`/seed v`", "`/seeds v`"),
    "reference": (stale, "docs/en/api-options.md", "`--text-only`", "`--only-text`"),
    "link": (broken, COMMAND_LINE, "(02-speculative-theory.md)", "(02-theory.md)"),
    "citation": (
        wrong_citations,
        PROOFS,
        "`verification/block.py:pass_probabilities`",
        "`verification/block.py:pass_chances`",
    ),
    "quoted-source": (
        unlike_the_source,
        "docs/en/03-speculative-impl.md",
        "self.context.rollback_to(len(self.tokens) - 1)",
        "self.context.rollback_to(len(self.tokens))",
    ),
    "chapter-ending": (unlike_a_chapter, THEORY, "\n## Exercises\n", "\n## Questions\n"),
    "chapter-opening": (unlike_a_chapter, THEORY, "**Before this**", "Before this"),
    "exercise": (unlike_a_chapter, FORTY, "<details markdown", "<p markdown"),
    "speed": (speeds_nobody_measured, CODE, "… tokens/s", "62.8 tokens/s"),
    "empty-steps": (
        monotonous_traces,
        CODE,
        "step   3  accepted",
        SIX_EMPTY + "step   9  accepted",
    ),
    "lonely-page": (pages_nobody_finds, "docs/en/README.md", "(notation.md)", "(refer.md)"),
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
