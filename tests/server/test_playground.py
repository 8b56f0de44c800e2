"""The playground in headless Chromium: a run, its colours and bars, by keyboard, at two widths."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.house import Served, serving

webdriver = pytest.importorskip("selenium.webdriver")
FIGURES = Path(__file__).parents[2] / "docs" / "figures"
PROMPT = "Once upon a time there was a dog. Once upon a time there was a"
PAGE = Path(__file__).parents[2] / "foredraft" / "server" / "playground.html"
pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no Chromium here"
)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(allows_trace=True) as one:
        yield one


def browser(width: int, *, dark: bool) -> Any:
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--lang=en"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    return driver


def run(driver: Any, url: str) -> None:
    """Type a prompt and run it, all by keyboard; wait until both texts are there."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(f"{url}/?lang=en#drafting=model")
    prompt = driver.find_element("id", "prompt")
    prompt.send_keys(Keys.CONTROL, "a")
    prompt.send_keys(PROMPT)
    prompt.send_keys(Keys.CONTROL, Keys.ENTER)
    WebDriverWait(driver, 60).until(lambda d: state(d) in ("done", "error"))
    assert state(driver) == "done", driver.find_element("id", "status").text


def state(driver: Any) -> str:
    return str(driver.execute_script("return document.body.dataset.state"))


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (400, False), (400, True)]
)
def test_a_run_is_shown(
    served: Served, width: int, dark: bool, request: pytest.FixtureRequest
) -> None:
    driver = browser(width, dark=dark)
    try:
        run(driver, served.url)
        kinds = {
            kind: len(driver.find_elements("css selector", f"#out-spec .tok.{kind}"))
            for kind in ("accepted", "recovered", "bonus", "plain")
        }
        assert kinds["accepted"] > 0
        assert kinds["recovered"] + kinds["bonus"] > 0
        assert driver.find_elements("css selector", "#coin *"), "the bars are there"
        assert driver.find_elements("css selector", "#time svg"), "and whose time it was"
        assert "same text" in driver.find_element("id", "equal").text.lower()
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width, "nothing is wider than the window"
        spec, plain = (driver.find_element("id", name) for name in ("out-spec", "out-plain"))
        assert spec.is_displayed()
        assert plain.is_displayed()
        asked = [
            found[1]
            for entry in driver.get_log("performance")
            if '"Network.requestWillBeSent"' in entry["message"]
            for found in [re.search(r'"url":"(\w+://[^/"]+)', entry["message"])]
            if found
        ]
        assert set(asked) == {served.url}, "no request leaves the machine"
        severe = [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
        assert [e for e in severe if "favicon" not in e] == []
        if request.config.getoption("--save-figures"):
            name = f"playground-{'dark' if dark else 'light'}-{width}.png"
            driver.save_screenshot(str(FIGURES / name))
    finally:
        driver.quit()


def test_steps_are_walked_through_by_keyboard_and_a_link_reproduces_the_run(
    served: Served,
) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = browser(1280, dark=False)
    try:
        run(driver, served.url)
        tokens = driver.find_elements("css selector", "#out-spec .tok:not(.rejected)")
        said = "".join(token.get_attribute("textContent") for token in tokens)
        before = driver.find_element("id", "coin").text
        driver.execute_script("arguments[0].focus()", tokens[0])
        for _ in range(3):
            driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        assert driver.find_element("id", "coin").text != before
        link = driver.current_url
        driver.get("about:blank")
        driver.get(link)
        assert driver.find_element("id", "prompt").get_attribute("value") == PROMPT
        driver.find_element("id", "run").send_keys(Keys.ENTER)
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(driver, 60).until(lambda d: state(d) in ("done", "error"))
        again = driver.find_elements("css selector", "#out-spec .tok:not(.rejected)")
        assert "".join(token.get_attribute("textContent") for token in again) == said
    finally:
        driver.quit()


def test_the_page_brings_all_that_it_needs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"'](https?:)?//", page)
    assert "innerHTML" not in page, "what a model says is no markup"
    assert "@import" not in page


def test_the_page_is_kept_from_everything_else(served: Served) -> None:
    response = served.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert response.text == PAGE.read_text(encoding="utf-8")
