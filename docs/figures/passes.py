"""The time of a target's pass against the tokens it reads, of a real and of the bundled model."""

from __future__ import annotations

import math

from docs.figures.svg import Drawing
from docs.site.pass_times import MODELS, NAMES, by_tokens, flat_until

WORDS = {
    "zh": {
        "title": "一次前向计算的时间与读入的 token 数",
        "y": "一次前向计算的时间（读 1 个 token 为 1）",
        "x": "一次前向计算读入的 token 数",
        "single": "逐个读入",
        "flat": "访存受限：时间主要用来读权重",
        "rising": "计算受限：按 token 数增长",
    },
    "en": {
        "title": "Time of a forward pass and the tokens it reads",
        "y": "time of a forward pass (1 = reading one token)",
        "x": "tokens that one forward pass reads",
        "single": "one by one",
        "flat": "memory-bound: reading the weights",
        "rising": "compute-bound: grows with the tokens",
    },
}
TICKS = (1, 2, 4, 8, 16, 32, 64)
TALLEST, LOWEST = 32, 0.5
LEFT, TOP, WIDTH, HEIGHT = 60, 50, 470, 290


def _at(tokens: float, ratio: float) -> tuple[float, float]:
    """Return where a point lies; both axes are logarithmic."""
    across = math.log(tokens) / math.log(TICKS[-1])
    up = math.log(ratio / LOWEST) / math.log(TALLEST / LOWEST)
    return LEFT + WIDTH * across, TOP + HEIGHT * (1 - up)


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(700, 400, words["title"])
    picture.text(20, 28, words["y"], "bold")
    for tick in TICKS:
        picture.text(_at(tick, LOWEST)[0], TOP + HEIGHT + 20, str(tick), "mid small")
        if tick <= TALLEST:
            picture.line([_at(1, tick), _at(TICKS[-1], tick)], "grid")
            picture.text(LEFT - 10, _at(1, tick)[1] + 5, str(tick), "end small")
    picture.line([_at(1, LOWEST), _at(TICKS[-1], LOWEST)])
    picture.text(LEFT + WIDTH / 2, TOP + HEIGHT + 44, words["x"], "mid")
    picture.line([_at(1, 1), _at(TALLEST, TALLEST)], "line")
    x, y = _at(TALLEST, TALLEST)
    picture.text(x - 32, y + 14, words["single"], "end small")
    for i, name in enumerate(MODELS):
        curve = by_tokens(name)
        picture.line([_at(*point) for point in curve], f"curve c{2 * i}")
        x, y = _at(*curve[-1])
        picture.text(x + 8, y + 5, NAMES[language][name], "small")
    knee = flat_until(MODELS[0])
    picture.line([_at(knee, 0.85), _at(knee, 2.5)], "grid")
    y = _at(1, LOWEST)[1] - 14
    picture.text(LEFT + 6, y, words["flat"], "small")
    picture.text(LEFT + WIDTH + 130, y, words["rising"], "end small")
    return str(picture)
