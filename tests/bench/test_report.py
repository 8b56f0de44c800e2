"""The report: everything it must say, in one file, and — in a real browser — inside its margins."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from foredraft.bench import pictures
from foredraft.bench.analysis import analyse
from foredraft.bench.folder import RunFolder
from foredraft.bench.grid import Grid
from foredraft.bench.report import html, table, write_report
from tests.bench.toy_grid import run_toy, toy_grid

PICTURES = {
    *("throughput-1", "throughput-2", "acceptance-1", "acceptance-2"),
    *("speedup-by-gamma", "gamma-and-entropy"),
}
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Elements that stick out of the page, and pictures that were not drawn.
OUTSIDE = """
return [...document.body.querySelectorAll('*')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width > 0 && (r.left < -0.5 || r.right > innerWidth + 0.5
    || e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
       && getComputedStyle(e).display !== 'inline');
}).map(e => e.outerHTML.slice(0, 120));
"""
DRAWN = "return [...document.images].map(i => i.complete && i.naturalWidth > 0 && i.width > 200);"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Grid]:
    folder = tmp_path_factory.mktemp("report")
    grid = toy_grid(folder)
    run_toy(folder / "run", grid)
    kept = RunFolder(folder / "run", grid, resume=True)
    write_report(analyse(grid, kept.rows), kept.manifest, kept.path)
    return kept, grid


def test_the_summary_holds_every_finding_of_the_page(run: tuple[RunFolder, Grid]) -> None:
    folder, grid = run
    summary = json.loads((folder.path / "summary.json").read_text(encoding="utf-8"))
    assert summary["machine"] == folder.manifest["sittings"][-1]["machine"]
    findings = analyse(grid, folder.rows).findings
    assert summary["findings"] == json.loads(json.dumps([asdict(f) for f in findings]))


def page_of(run: tuple[RunFolder, Grid]) -> str:
    return (run[0].path / "report.html").read_text(encoding="utf-8")


def test_every_picture_is_in_the_page_twice_and_in_the_folder(run: tuple[RunFolder, Grid]) -> None:
    assert {f.stem for f in (run[0].path / "figures").glob("*.svg")} == PICTURES
    page = page_of(run)
    assert page.count("<figure>") == len(PICTURES)
    assert page.count("data:image/svg+xml;base64,") == 2 * len(PICTURES)  # light and dark


def test_the_page_needs_nothing_but_itself(run: tuple[RunFolder, Grid]) -> None:
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,30})', page_of(run))
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "<script" not in page_of(run)
    assert "@import" not in page_of(run)


def test_the_page_says_what_was_found_and_how(run: tuple[RunFolder, Grid]) -> None:
    page = page_of(run)
    for cell in run[1].cells:
        assert cell.label in page
    assert re.search(r"faster|slower|no difference found", page)
    for words in ("40 of 40 rows", "none failed", "bootstrap", run[1].fingerprint, "torch"):
        assert words in page


def test_failures_and_shared_devices_are_said(run: tuple[RunFolder, Grid]) -> None:
    rows = run[0].rows
    rows[0] = replace(rows[0], status="failed", error="<no> memory")
    rows[1] = replace(rows[1], shared_device=True)
    page = html(analyse(run[1], rows), run[0].manifest, [])
    assert "of which 1 failed" in page
    assert "&lt;no&gt; memory" in page
    assert "other workers shared" in page


def test_a_report_without_matplotlib_has_no_pictures(
    run: tuple[RunFolder, Grid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foredraft.bench.report.can_draw", lambda: False)
    page = write_report(analyse(run[1], run[0].rows), run[0].manifest, tmp_path)
    assert "<figure>" not in page.read_text(encoding="utf-8")
    assert not (tmp_path / "figures").exists()


def test_an_empty_run_has_a_report_too(run: tuple[RunFolder, Grid]) -> None:
    analysis = analyse(run[1], [])
    assert pictures.draw_all(analysis) == []
    assert "0 of 40 rows" in html(analysis, {}, [])


def test_cells_of_a_table_are_escaped_and_missing_ones_are_dashes() -> None:
    shown = table([{"a": ("<b>", ""), "n": ("1", "soft")}, {"a": ("c", "")}])
    assert "&lt;b&gt;" in shown
    assert shown.count("–") == 1


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium, where the machine has one."""
    webdriver = pytest.importorskip("selenium.webdriver")
    found = [shutil.which(n) for n in ("chromium", "chromium-browser", "google-chrome")]
    binary, driver = next(filter(None, found), None), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(driver)
    chromium = webdriver.Chrome(options=options, service=service)
    yield chromium
    chromium.quit()


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_chromium_draws_every_figure_and_nothing_overflows(
    run: tuple[RunFolder, Grid], browser: Any, tmp_path: Path, width: int, dark: bool
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get((run[0].path / "report.html").as_uri())
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script(DRAWN) == [True] * len(PICTURES)
    assert browser.execute_script(OUTSIDE) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert page == ("rgb(22, 24, 29)" if dark else "rgb(255, 255, 255)")
    picture = tmp_path / f"report-{width}.png"
    assert browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 10_000
