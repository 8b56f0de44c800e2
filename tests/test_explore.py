"""The interactive page: its numbers are those of chapter 2, by pointer and by keyboard."""

from __future__ import annotations

import re
from typing import Any

import pytest

from docs.site import theory

PAGES = {"zh": "explore.html", "en": "en/explore.html"}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def explore(address: str, browser: Any) -> Any:
    """Open the interactive page."""
    browser.get(f"{address}/{PAGES['en']}")
    return browser


def put(browser: Any, **values: float) -> None:
    """Move sliders."""
    for name, value in values.items():
        browser.execute_script(
            "const slider = document.getElementById(`explore-${arguments[0]}`);"
            "slider.value = arguments[1];"
            "slider.dispatchEvent(new Event('input', {bubbles: true}))",
            name,
            value,
        )


def shown(browser: Any) -> dict[str, str]:
    """Return the results on the page by their names."""
    cells = browser.find_elements("css selector", "[data-result]")
    return {cell.get_attribute("data-result"): cell.text for cell in cells}


def test_the_page_computes_what_chapter_2_computes(explore: Any) -> None:
    alphas, costs = [i / 100 for i in range(0, 100, 3)], [i / 100 for i in range(1, 101, 7)]
    computed = explore.execute_script(
        "const f = foredraft, [alphas, costs] = arguments;"
        "return alphas.map(a => costs.map(c => { const g = f.bestGamma(a, c);"
        "return [f.expectedTokens(a, 7), f.speedup(a, c, 7), g, f.speedup(a, c, g)] }))",
        alphas,
        costs,
    )
    for alpha, row in zip(alphas, computed, strict=True):
        for cost, (tau, ratio, best, its) in zip(costs, row, strict=True):
            assert tau == pytest.approx(theory.expected_tokens(alpha, 7))
            assert ratio == pytest.approx(theory.speedup(alpha, cost, 7))
            assert its == pytest.approx(theory.speedup(alpha, cost, theory.best_gamma(alpha, cost)))
            assert (best > 0) == (alpha > cost)


@pytest.mark.parametrize(
    ("alpha", "cost", "gamma"), [(0.8, 0.1, 4), (0, 0.01, 0), (0.99, 0.01, 16), (0.3, 0.4, 2)]
)
def test_sliders_show_tokens_speedup_and_the_best_gamma(
    alpha: float, cost: float, gamma: int, explore: Any
) -> None:
    put(explore, alpha=alpha, cost=cost, gamma=gamma)
    results, best = shown(explore), theory.best_gamma(alpha, cost)
    assert results["tau"] == f"{theory.expected_tokens(alpha, gamma):.2f}"
    assert results["speedup"] == f"{theory.speedup(alpha, cost, gamma):.2f}×"
    assert results["best"] == str(best)
    assert results["bestSpeedup"] == f"{theory.speedup(alpha, cost, best):.2f}×"
    assert results["breakEven"].startswith("yes" if alpha > cost else "no")


def test_acceptance_residual_and_output_are_those_of_the_rule(explore: Any) -> None:
    p, q = [0.5, 0.2, 0.3, 0.0], [0.1, 0.6, 0.3, 0.0]
    found = explore.execute_script(
        "const f = foredraft, [p, q] = arguments, r = f.residual(p, q);"
        "return {a: f.acceptance(p, q), r, out: f.emitted(p, q, r), bent: f.emitted(p, q, p),"
        "tv: f.totalVariation(p, q), equal: f.residual(p, p), moved: f.moved(p, 0, 0.75)}",
        p,
        q,
    )
    assert found["a"] == pytest.approx(0.6)
    assert found["tv"] == pytest.approx(0.4)
    assert found["r"] == pytest.approx([1, 0, 0, 0])
    assert found["out"] == pytest.approx(p)
    assert found["bent"] == pytest.approx([0.3, 0.28, 0.42, 0.0])
    assert found["equal"] == [0, 0, 0, 0]
    assert found["moved"] == pytest.approx([0.75, 0.1, 0.15, 0.0])


def test_the_simulation_settles_on_p_and_beside_it_without_the_residual(explore: Any) -> None:
    def distance() -> float:
        explore.execute_script(
            "for (let i = 0; i < 20; i++) document.getElementById('explore-draw').click()"
        )
        found = re.search(
            r"^([\d,]+) draws.*?(\d\.\d+) away.*?(\d\.\d+)\)$", shown(explore)["drawn"]
        )
        assert found is not None
        assert found[1].replace(",", "") == "20000"
        return float(found[2])

    assert float(shown(explore)["bias"]) == 0
    assert distance() < 0.01
    explore.find_element("id", "explore-lossy").click()
    assert shown(explore)["drawn"] == "nothing drawn yet"
    assert distance() == pytest.approx(float(shown(explore)["bias"]), abs=0.01)
    assert float(shown(explore)["bias"]) > 0.05


def test_bars_move_by_keyboard_and_by_pointer(explore: Any) -> None:
    chains = pytest.importorskip("selenium.webdriver").ActionChains
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

    def values(name: str) -> list[float]:
        grips = explore.find_elements("css selector", f"[id^=explore-{name}][role=slider]")
        assert all(grip.get_attribute("aria-label") for grip in grips)
        return [float(grip.get_attribute("aria-valuenow")) for grip in grips]

    before, accepted = values("p"), shown(explore)["acceptance"]
    explore.execute_script("document.getElementById('explore-p0').focus()")
    chains(explore).send_keys(keys.ARROW_UP, keys.PAGE_UP).perform()
    assert values("p")[0] == pytest.approx(before[0] + 0.11)
    assert sum(values("p")) == pytest.approx(1, abs=0.03)  # each shown with two digits
    assert shown(explore)["acceptance"] != accepted
    chains(explore).send_keys(keys.TAB, keys.HOME).perform()  # on to the next token of p
    assert values("p")[1] == 0
    grip = explore.find_element("css selector", "#explore-q2 .reach")
    explore.execute_script("arguments[0].scrollIntoView({block: 'center'})", grip)
    before = values("q")
    chains(explore).drag_and_drop_by_offset(grip, 0, -40).perform()
    assert values("q")[2] > before[2] + 0.1
    assert sum(values("q")) == pytest.approx(1, abs=0.03)


def test_sliders_obey_the_keyboard_and_results_are_read_out(explore: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    for slider in explore.find_elements("css selector", "#explore-speed input"):
        assert slider.accessible_name
        before = float(slider.get_attribute("value"))
        slider.send_keys(keys.ARROW_RIGHT)
        assert float(slider.get_attribute("value")) > before
    assert shown(explore)["tau"] == f"{theory.expected_tokens(0.81, 5):.2f}"
    assert len(explore.find_elements("css selector", "dl[aria-live=polite]")) == 2


@pytest.mark.parametrize("language", PAGES)
def test_the_interactive_page_speaks_its_language_and_fetches_nothing(
    language: str, address: str, browser: Any
) -> None:
    browser.get(f"{address}/{PAGES[language]}")
    text = browser.find_element("id", "explore-overlap").text
    assert ("残差分布" in text) == (language == "zh")
    assert "undefined" not in browser.find_element("css selector", "article").text
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert all(name.startswith(address) for name in loaded if not name.startswith("data:"))
