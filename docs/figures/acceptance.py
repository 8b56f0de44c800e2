"""Mean acceptance length by verification rule, from `benchmarks/results/verifiers.json`."""

from __future__ import annotations

from docs.figures.svg import Drawing
from docs.site.measured import results

WORDS = {
    "zh": {"title": "平均接受长度 τ（实测，± 一个标准误差）", "cell": "温度 {0}，γ = {1}"},
    "en": {
        "title": "Mean acceptance length τ (measured, ± one standard error)",
        "cell": "temperature {0}, γ = {1}",
    },
}
LEFT, WIDTH, ROW, TOP = 190, 420, 44, 74
LOWEST, HIGHEST = 1.0, 5.0


def _at(tau: float) -> float:
    return LEFT + WIDTH * (tau - LOWEST) / (HIGHEST - LOWEST)


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words, found = WORDS[language], results("verifiers.json")["rows"]
    rows = list(dict.fromkeys((c["temperature"], c["gamma"]) for c in found))
    rules = list(dict.fromkeys(c["verifier"] for c in found))
    bottom = TOP + ROW * len(rows)
    picture = Drawing(640, bottom + 36, words["title"])
    picture.text(20, 26, words["title"], "bold")
    for i, rule in enumerate(rules):
        picture.dot(200 + 110 * i, 48, f"c{i}")
        picture.text(210 + 110 * i, 53, rule, "small")
    for tau in (1.0, 2.0, 3.0, 4.0, 5.0):
        picture.line([(_at(tau), TOP), (_at(tau), bottom)], "grid")
        picture.text(_at(tau), bottom + 20, f"{tau:g}", "mid small")
    for j, (temperature, gamma) in enumerate(rows):
        picture.text(20, TOP + ROW * j + 27, words["cell"].format(temperature, gamma), "small")
    for cell in found:
        i, j = rules.index(cell["verifier"]), rows.index((cell["temperature"], cell["gamma"]))
        y, error = TOP + ROW * j + 8 + 9 * i, cell["standard_error"]
        picture.line([(_at(cell["tau"] - error), y), (_at(cell["tau"] + error), y)], f"curve c{i}")
        picture.dot(_at(cell["tau"]), y, f"c{i}")
    return str(picture)
