"""The site: it builds without a warning, needs nothing from elsewhere, and a browser shows it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from docs.site.markdown import headings
from tests.documents import figures, formulas

ROOT = Path(__file__).parents[1]
PATIENCE = 120  # seconds for an answer, on a machine that has other work
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"(https?:)?//[^\"]*\""
)
PAGES = {"zh": "02-speculative-theory.html", "en": "en/02-speculative-theory.html"}
WIDTHS = (400, 1280)
SCHEMES = ("default", "slate")
READABLE = 4.5  # the contrast that WCAG 2 asks of text
LAYOUT = (ROOT / "tests" / "layout.js").read_text(encoding="utf-8")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def markdown_of(name: str) -> str:
    """Return what a page of the site is made from."""
    return (ROOT / "docs" / name).with_suffix(".md").read_text(encoding="utf-8")


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
        shown = (site / name).read_text(encoding="utf-8").count('<div class="formula"><math')
        assert shown == len(formulas(markdown_of(name))) > 5


def test_chinese_text_has_no_gaps_at_line_breaks(site: Path) -> None:
    text = (site / PAGES["zh"]).read_text(encoding="utf-8")
    assert not re.search(r"[\u4e00-\u9fff]\n[\u4e00-\u9fff]", text)


def test_folds_are_rendered_and_their_chinese_has_no_gaps(site: Path) -> None:
    num_folds = 0
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", html, flags=re.DOTALL)
        assert 'markdown="1"' not in text, page.name
        for fold in re.findall(r"<details>.*?</details>", text, re.DOTALL):
            num_folds += 1
            assert not re.search(r"\*\*|\]\(|```|\$", fold), (page.name, fold)
            assert not re.search(r"[\u4e00-\u9fff]\n[\u4e00-\u9fff]", fold), (page.name, fold)
    assert num_folds > 10


@pytest.fixture(scope="module")
def hooks() -> Any:
    """Load what mkdocs is told beside its settings."""
    pytest.importorskip("latex2mathml")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gaps_are_closed_in_text_and_kept_in_code(hooks: Any) -> None:
    closed = {
        "猫\n狗": "猫狗",
        "猫\n<strong>狗</strong>\n鱼": "猫<strong>狗</strong>鱼",
        "猫，\n<a href='x'>dog</a>\n（鱼）": "猫，<a href='x'>dog</a>（鱼）",
        "猫\ndog": "猫\ndog",
        "<pre>猫\n狗</pre>": "<pre>猫\n狗</pre>",
    }
    for text, expected in closed.items():
        assert hooks.without_gaps(text) == expected


def test_only_long_formulas_are_cut_and_never_within_brackets(hooks: Any) -> None:
    assert hooks.pieces("a = b") == ["a = b"]
    long = r"1 - \sum_{y = 1} \min(p = 1, q) = \max\left(0, p(y)\right) \ge 0"
    cut = [r"1 - \sum_{y = 1} \min(p = 1, q) ", r"= \max\left(0, p(y)\right) ", r"\ge 0"]
    assert hooks.pieces(long) == cut


def test_links_out_of_the_site_become_paths(hooks: Any) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="en/heads.md"))
    text = "[中文](../heads.md)\n[table](../../benchmarks/x.md#y) [other](../z.md) [here](a.md)"
    shown = "table (`benchmarks/x.md`) [other](../z.md) [here](a.md)"
    assert hooks.on_page_markdown(text, page=page) == shown


def test_both_languages_can_be_searched(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert '"lang":["zh","en"]' in index
    assert "en/02-speculative-theory.html" in index


@pytest.mark.parametrize("language", PAGES)
def test_a_browser_shows_text_figures_and_formulas(
    language: str, address: str, browser: Any, tmp_path: Path
) -> None:
    browser.get(f"{address}/{PAGES[language]}")
    source = markdown_of(PAGES[language])
    text = browser.find_element("css selector", "article").text
    assert all(words in text for level, words in headings(source) if level == 2)
    assert "\\frac" not in text
    assert "$$" not in text
    assert browser.execute_script("return document.documentElement.lang") == language
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('math')].filter(m => m.checkVisibility())"
        ".map(m => m.getBoundingClientRect().width)"
    )
    assert len(sizes) > 50
    assert all(width > 0 for width in sizes)
    fractions = browser.execute_script(  # a fraction that is laid out is higher than a line
        "return [...document.querySelectorAll('.formula mfrac')].filter(m => m.checkVisibility())"
        ".map(m => m.getBoundingClientRect().height)"
    )
    assert min(fractions) > 15
    images = browser.execute_script(
        "return [...document.querySelectorAll('article img')].map(i => i.naturalWidth)"
    )
    assert len(images) == len(figures(source)) > 1
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


def window(browser: Any, width: int) -> None:
    """Give the page a width; a window of Chromium itself is never narrower than 500."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture
def resized(browser: Any) -> Iterator[Any]:
    """Give the browser its own window back at the end."""
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", PAGES)
def test_every_page_fits_its_window_and_can_be_read(
    language: str, width: int, site: Path, address: str, resized: Any
) -> None:
    window(resized, width)
    pages = sorted((site / "en").glob("*.html") if language == "en" else site.glob("*.html"))
    assert len(pages) > 10
    wrong = []
    for page in pages:
        if page.name == "404.html":
            continue
        name = page.relative_to(site).as_posix()
        resized.get(f"{address}/{name}")
        resized.execute_script(LAYOUT)
        found = resized.execute_script("return look.layout()")
        for scheme in SCHEMES:
            resized.execute_script("document.body.dataset.mdColorScheme = arguments[0]", scheme)
            faint = resized.execute_script("return look.faint(arguments[0])", READABLE)
            found += [f"{scheme}: {complaint}" for complaint in faint]
        wrong += [f"{name}: {complaint}" for complaint in found]
    assert wrong == []
