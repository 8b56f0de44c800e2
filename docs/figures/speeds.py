"""Speed by method with intervals: a real model beside other programs, and the bundled pair."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor

from docs.figures.svg import Drawing
from docs.site.by_method import OTHERS, Bar, ratios, real
from docs.site.names import contender, method

WORDS = {
    "zh": {
        "title": "各方法的速度",
        "real": "真实模型（SmolLM2-135M，4 位，贪心）：token/秒，只算解码",
        "bundled": "内置的一对（蓝：贪心；橙：nucleus）：与普通解码之比，整段生成",
    },
    "en": {
        "title": "Speed by method",
        "real": "real model (SmolLM2-135M, 4 bits, greedy): tokens/s, decoding alone",
        "bundled": "bundled pair (greedy blue, nucleus orange): ÷ plain decoding, whole texts",
    },
}
SHOWN = (
    *("model 4", "model 2", "hybrid(suffix, model) 4", "auto", "suffix 8", "cost_aware"),
    *("EGAG", "NASD", "prompt_lookup 8"),
)
LEFT, WIDTH, STEP = 270, 400, 22
Place = Callable[[float], float]


def _scale(picture: Drawing, top: float, rows: int, ticks: tuple[float, ...]) -> Place:
    """Draw a scale above rows; return where a value lies across."""

    def across(value: float) -> float:
        return LEFT + WIDTH * (value - ticks[0]) / (ticks[-1] - ticks[0])

    for tick in ticks:
        x = across(tick)
        picture.line([(x, top), (x, top + STEP * rows)], "line" if tick == 1 else "grid")
        picture.text(x, top + STEP * rows + 18, f"{tick:g}", "mid small")
    return across


def _bar(picture: Drawing, y: float, figure: dict[str, float], across: Place, look: str) -> None:
    low, high = figure["low"], figure["high"]
    picture.line([(across(low), y), (across(high), y)], f"curve {look}")
    picture.dot(across(figure["median"]), y, look)


def _real(picture: Drawing, language: str, bars: list[Bar], top: float) -> None:
    most = max(figure["high"] for _, figure in bars)
    step = 200 if most > 500 else 100
    ticks = tuple(float(tick) for tick in range(0, int(most) + step, step))
    across = _scale(picture, top, len(bars), ticks)
    for i, (name, figure) in enumerate(bars):
        y = top + STEP * (i + 0.5)
        picture.text(LEFT - 12, y + 5, contender(name, language), "end small")
        _bar(picture, y, figure, across, "c3" if name.startswith(OTHERS) else "c0")


def _tenths(sampled: list[dict[str, dict[str, float]]]) -> tuple[float, ...]:
    """Return tenths from below the lowest end of an interval to above the highest one."""
    shown = [figures[name] for figures in sampled for name in SHOWN]
    low = floor(10 * min(figure["low"] for figure in shown))
    high = ceil(10 * max(figure["high"] for figure in shown))
    return tuple(tenth / 10 for tenth in range(low, high + 1))


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words, bars = WORDS[language], real()
    second = 50 + STEP * len(bars) + 60
    height = second + STEP * len(SHOWN) + 36
    picture = Drawing(700, height, words["title"])
    picture.text(20, 28, words["real"], "bold")
    _real(picture, language, bars, 44)
    picture.text(20, second - 16, words["bundled"], "bold")
    both = [dict(ratios("bundled", sampler)) for sampler in ("greedy", "nucleus")]
    across = _scale(picture, second, len(SHOWN), _tenths(both))
    for i, name in enumerate(sorted(SHOWN, key=lambda name: -both[0][name]["median"])):
        y = second + STEP * (i + 0.5)
        picture.text(LEFT - 12, y + 5, method(name, language).replace("`", ""), "end small")
        for figures, look, shift in zip(both, ("c0", "c2"), (-4, 4), strict=True):
            _bar(picture, y + shift, figures[name], across, look)
    return str(picture)
