"""What is left of speculation as texts share a pass: speed-up against the number of texts."""

from __future__ import annotations

import math

from docs.figures.svg import Drawing
from docs.site.pass_times import NAMES, gamma, speedups

WORDS = {
    "zh": {
        "title": "共用一次前向计算的文本数与投机的加速比",
        "y": "由测得的前向时间算出的加速比（γ = {gamma}）",
        "x": "共用一次前向计算的文本数",
        "plain": "普通解码",
        "comma": "，",
    },
    "en": {
        "title": "Texts that share a forward pass, and the speed-up of speculation",
        "y": "speed-up computed from measured pass times (γ = {gamma})",
        "x": "texts that share a forward pass",
        "plain": "plain decoding",
        "comma": ", ",
    },
}
CURVES = (("smollm2", 0.9), ("smollm2", 0.8), ("smollm2", 0.6), ("bundled", 0.8))
TICKS = (1, 2, 4, 8, 16)
TALLEST = 4.0
LEFT, TOP, WIDTH, HEIGHT = 60, 50, 400, 260


def _at(texts: float, ratio: float) -> tuple[float, float]:
    """Return where a point lies; the number of texts is logarithmic."""
    across = math.log(texts) / math.log(TICKS[-1])
    return LEFT + WIDTH * across, TOP + HEIGHT * (1 - min(ratio, TALLEST) / TALLEST)


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words, names = WORDS[language], NAMES[language]
    picture = Drawing(720, 370, words["title"])
    picture.text(20, 28, words["y"].format(gamma=gamma()), "bold")
    for ratio in range(int(TALLEST) + 1):
        picture.line([_at(1, ratio), _at(TICKS[-1], ratio)], "grid" if ratio != 1 else "line")
        picture.text(LEFT - 10, _at(1, ratio)[1] + 5, str(ratio), "end small")
    for texts in TICKS:
        picture.text(_at(texts, 0)[0], TOP + HEIGHT + 20, str(texts), "mid small")
    picture.text(LEFT + WIDTH / 2, TOP + HEIGHT + 44, words["x"], "mid")
    picture.text(LEFT + WIDTH + 8, _at(1, 1)[1] + 5, words["plain"], "small")
    for i, (name, alpha) in enumerate(CURVES):
        curve = speedups(name, alpha)
        picture.line([_at(*point) for point in curve], f"curve c{i}")
        for point in curve:
            picture.dot(*_at(*point), f"c{i}")
        y = TOP + 14 + 22 * i
        x = LEFT + WIDTH + 20
        picture.line([(x, y - 4), (x + 24, y - 4)], f"curve c{i}")
        picture.text(x + 30, y, f"{names[name]}{words['comma']}α = {alpha}", "small")
    return str(picture)
