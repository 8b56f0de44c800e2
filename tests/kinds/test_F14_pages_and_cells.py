"""What files, models and errors say reaches the report, its pictures and the terminal escaped."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as XML

import pytest
from rich.progress import Progress as Bar

from foredraft.bench.analysis import Analysis, analyse
from foredraft.bench.folder import RunFolder
from foredraft.bench.grid import Grid
from foredraft.bench.grid_file import read_grid
from foredraft.bench.pictures import can_draw
from foredraft.bench.report import html, table, write_report
from foredraft.bench.rows import Row
from foredraft.cli import train as train_module
from foredraft.cli import verify as verify_module
from foredraft.cli.main import main
from foredraft.errors import ConfigError
from tests.bench.toy_grid import run_toy, toy_table
from tests.cli.conftest import Run, loaded, run

__all__ = ["loaded", "run"]  # fixtures

HOSTILE = (
    *("<script>alert(1)</script>", "</script><b>", '" onload="x', "' onload='x", "</title><i>"),
    *("&amp;&lt;", "\x1b[2J\x07", "\x00", "\u202e\u2028", "\ud800", "$x^2$", r"$\frac{", "_hidden"),
    *("[/]", "[bold]x", "</pre><u>", "]]>", "a\nb\tc", "\x7f\x9b", "--><s>"),
)
OUR_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "ul", "li", "pre"),
    *("h4", "details", "summary"),
    *("div", "figure", "picture", "source", "img", "figcaption", "table", "thead", "tbody"),
    *("tr", "th", "td"),
}
OUR_ATTRIBUTES = {"lang", "charset", "name", "content", "class", "media", "srcset", "src", "alt"}
OUR_ATTRIBUTES |= {"data-name"}


class Page(HTMLParser):
    """Notes what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.words = set[str](), set[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def hostile_run(tmp_path: Path, text: str) -> tuple[Grid, list[Row]]:
    """Return a small run in which every name and every text of a row is hostile."""
    changes = {"seeds": [1], "references": [f"{text} gamma=2"], "name": text or "grid"}
    experiment = [{"name": text, "method": "speculative", "axes": {"gamma": [2, 4]}}]
    grid = read_grid(toy_table(tmp_path, **changes, experiment=experiment))
    items = [replace(item, id=f"{text}{i}", kind=text) for i, item in enumerate(grid.prompts)]
    grid = replace(grid, prompts=tuple(items))
    run_toy(tmp_path / "run", grid)
    rows = RunFolder(tmp_path / "run", grid, resume=True).rows
    rows[0] = replace(rows[0], status="failed", error=text)
    return grid, rows


def assert_harmless(page: str) -> Page:
    found = Page(page)
    assert found.tags <= OUR_TAGS
    assert found.attributes <= OUR_ATTRIBUTES
    odd = {c for c in page if unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp")}
    assert odd <= {"\n"}
    page.encode("utf-8")
    return found


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_report_is_harmless_whatever_its_run_is_called(tmp_path: Path, text: str) -> None:
    grid, rows = hostile_run(tmp_path, text)
    manifest: dict[str, Any] = {"sittings": [{"machine": {"processor": text}}], "how": text}
    page = write_report(analyse(grid, rows), manifest, tmp_path).read_text(encoding="utf-8")
    found = assert_harmless(page)
    assert "Ablation: " in "".join(found.words)
    json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    for file in (tmp_path / "figures").glob("*.svg"):
        drawn = {e.tag.rpartition("}")[2] for e in XML.fromstring(file.read_bytes()).iter()}
        assert drawn.isdisjoint({"script", "b", "i", "u", "s", "foreignObject"})
    encoded = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
    assert bool(encoded) == can_draw()
    for picture in encoded:
        XML.fromstring(base64.b64decode(picture))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_cells_of_a_table_are_text(text: str) -> None:
    shown = table([{text: (text, "soft")}, {"other": (text, "")}])
    assert_harmless(shown)


def test_an_empty_report_of_a_hostile_grid_is_harmless(tmp_path: Path) -> None:
    grid, _ = hostile_run(tmp_path, "</title><script>")
    assert_harmless(html(Analysis(grid, (), ()), {"x": "</pre><script>"}, []))


# --- terminals ------------------------------------------------------------------------------------


@pytest.fixture
def hostile_grid(tmp_path: Path) -> str:
    prompts = tmp_path / "own.jsonl"
    prompts.write_text('{"prompt": "Sing", "length": 4}\n')
    file = tmp_path / "own.toml"
    name = r"\u001b]0;x\u0007\u202e"
    file.write_text(
        f'name = "own"\nprompts = ["{prompts}"]\n'
        f'[[experiment]]\nname = "{name}"\nmethod = "ngram"\n'
    )
    return str(file)


def test_what_ablate_prints_of_a_grid_is_harmless(
    run: Run, loaded: list[object], hostile_grid: str, tmp_path: Path
) -> None:
    out = tmp_path / "out\x1b[2J"
    for flags in (("--dry-run",), (), ("--report",), ("--resume",)):
        _, printed, errors = run("ablate", hostile_grid, "--out", str(out), *flags)
        assert not re.search("[\x1b\x07\u202e]", printed + errors), flags
        assert printed


@pytest.mark.parametrize("name", ["../up", "a/b", "", "\x1b[2J", "a\nb", "\0"])
def test_a_grid_may_not_name_a_folder_elsewhere(
    run: Run,
    loaded: list[object],
    hostile_grid: str,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # no folder of an earlier run may refuse in its place
    file = Path(hostile_grid)
    file.write_text(file.read_text().replace('"own"', json.dumps(name), 1))
    if not name:
        return  # then it is called after its file
    code, _, errors = run("ablate", hostile_grid)
    assert (code, errors.count("error:")) == (2, 1)
    assert "--out" in errors


def test_progress_shows_names_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with verify_module.progress_shown() as show:
        for text in HOSTILE:
            show(text, 1, 2)
    for make in (train_module.training_bar,):
        bar: Bar = make()
        for text in HOSTILE:
            bar.add_task(text, total=1, loss="–")
        bar.make_tasks_table(bar.tasks)  # reads `[/]` as mark-up, or does not


def test_a_recipe_may_not_name_a_folder_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.zoo.tiny_recipe import RECIPE, make_run

    made = make_run(tmp_path, RECIPE.replace('name = "tiny"', 'name = "../up"'))
    with pytest.raises(SystemExit):
        main(["train", str(made.recipe_path), "--data", str(made.data_dir), "--device", "cpu"])
    assert "--run-dir" in capsys.readouterr().err


def test_an_unreadable_trace_is_a_sentence(tmp_path: Path) -> None:
    grid, rows = hostile_run(tmp_path, "x")
    for column in ("trace", "drafted_by_position"):
        bad = [replace(row, **{column: "<b>"}) for row in rows]
        with pytest.raises(ConfigError, match="take the row out"):
            write_report(analyse(grid, bad), {}, tmp_path)
