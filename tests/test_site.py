"""The site: it builds without a warning, needs nothing from elsewhere, and a browser shows it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"(https?:)?//[^\"]*\""
)
PAGES = {"zh": "02-speculative-theory.html", "en": "en/02-speculative-theory.html"}
PATIENCE = 120  # seconds for a page or an answer, on a machine that has other work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(
        importlib.util.find_spec("mkdocs") is None,
        reason="mkdocs is not installed; it comes with `uv sync --group docs`",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, with warnings as errors and every proxy a dead end."""
    folder = tmp_path_factory.mktemp("site")
    dead = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | dead | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\"?https?:|@import", style.read_text(encoding="utf-8")), style


def test_formulas_are_mathml_on_every_page(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "arithmatex" not in text, page.name
        assert not re.search(r"<m[iont]+[^>]*>\\", text), page.name  # a command not understood
    for name in PAGES.values():
        assert (site / name).read_text(encoding="utf-8").count("<math") > 50


def test_chinese_text_has_no_gaps_at_line_breaks(site: Path) -> None:
    text = (site / PAGES["zh"]).read_text(encoding="utf-8")
    assert not re.search(r"[\u4e00-\u9fff]\n[\u4e00-\u9fff]", text)


def test_both_languages_can_be_searched(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert '"lang":["zh","en"]' in index
    assert "en/02-speculative-theory.html" in index


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a headless Chromium with an empty profile."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium; Debian has it as chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,2000"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    with contextlib.suppress(Exception):
        driver.quit()


@pytest.mark.parametrize("language", PAGES)
def test_a_browser_shows_text_figures_and_formulas(
    language: str, address: str, browser: Any, tmp_path: Path
) -> None:
    browser.get(f"{address}/{PAGES[language]}")
    text = browser.find_element("css selector", "article").text
    assert {"zh": "逐 token 拒绝", "en": "Token rejection"}[language] in text
    assert "\\frac" not in text
    assert "$$" not in text
    assert browser.execute_script("return document.documentElement.lang") == language
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().width)"
    )
    assert len(sizes) > 50
    assert all(width > 0 for width in sizes)
    fractions = browser.execute_script(  # a fraction that is laid out is higher than a line
        "return [...document.querySelectorAll('.formula mfrac')]"
        ".map(m => m.getBoundingClientRect().height)"
    )
    assert min(fractions) > 15
    images = browser.execute_script(
        "return [...document.querySelectorAll('article img')].map(i => i.naturalWidth)"
    )
    assert len(images) == 2
    assert all(width > 100 for width in images)
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert all(name.startswith(address) for name in loaded if not name.startswith("data:"))
    picture = tmp_path / f"{language}.png"
    assert browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize(("language", "word"), [("zh", "残差"), ("en", "residual")])
def test_search_finds_a_word(language: str, word: str, address: str, browser: Any) -> None:
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(browser, PATIENCE)
    browser.get(f"{address}/{PAGES[language]}")
    browser.execute_script("document.querySelector('#__search').click()")
    field = browser.find_element("css selector", "input.md-search__input")
    wait.until(lambda _: field.is_displayed())
    field.send_keys(word)
    found = wait.until(lambda b: b.find_elements("css selector", ".md-search-result__link"))
    assert found[0].get_attribute("href").startswith(address)
