"""Speed-up against gamma for several acceptance rates, with the best gamma of each marked."""

from __future__ import annotations

from docs.figures.svg import Drawing
from docs.site.theory import best_gamma, speedup

WORDS = {
    "zh": {"title": "加速比与草稿长度", "x": "草稿长度 γ", "y": "加速比（c = 0.1）"},
    "en": {"title": "Speed-up and draft length", "x": "draft length γ", "y": "speed-up (c = 0.1)"},
}
COST, LONGEST, TALLEST = 0.1, 16, 4.0
ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9)
LEFT, TOP, WIDTH, HEIGHT = 60, 50, 520, 280


def _at(gamma: float, ratio: float) -> tuple[float, float]:
    return LEFT + WIDTH * gamma / LONGEST, TOP + HEIGHT * (1 - ratio / TALLEST)


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(680, 385, words["title"])
    picture.text(20, 28, words["y"], "bold")
    for ratio in range(int(TALLEST) + 1):
        picture.line([_at(0, ratio), _at(LONGEST, ratio)], "grid" if ratio != 1 else "line")
        picture.text(LEFT - 10, _at(0, ratio)[1] + 5, str(ratio), "end small")
    for gamma in range(0, LONGEST + 1, 2):
        picture.text(_at(gamma, 0)[0], TOP + HEIGHT + 20, str(gamma), "mid small")
    picture.text(LEFT + WIDTH / 2, TOP + HEIGHT + 44, words["x"], "mid")
    for i, alpha in enumerate(ALPHAS):
        curve = [(g, speedup(alpha, COST, g)) for g in range(LONGEST + 1)]
        picture.line([_at(*point) for point in curve], f"curve c{i}")
        best = best_gamma(alpha, COST)
        picture.dot(*_at(best, speedup(alpha, COST, best)), f"c{i}")
        x, y = _at(*curve[-1])
        picture.text(x + 8, y + 5, f"α = {alpha}", "small")
    return str(picture)
