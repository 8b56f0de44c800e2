"""Shared noise: one set of distances, two races, and mostly the same winner."""

from __future__ import annotations

from collections.abc import Sequence

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "共用噪声：同一组距离，两场赛跑",
        "noise": "噪声 e：每个 token 要跑的距离，由种子和位置决定",
        "target": "目标模型：以速度 p 跑，用时 e / p",
        "drafter": "草稿模型：跑同样的距离，以速度 q 跑，用时 e / q",
        "first": "最先到达",
    },
    "en": {
        "title": "Shared noise: the same distances, two races",
        "noise": "noise e: how far each token has to run, by seed and position",
        "target": "target: runs at speed p, takes e / p",
        "drafter": "drafter: the same distances at speed q, takes e / q",
        "first": "first",
    },
}
TOKENS = ("tick", "tock", "boom")
P, Q, NOISE = (0.1, 0.7, 0.2), (0.5, 0.4, 0.1), (0.7, 0.4, 0.3)
LEFT, ROW = 80, 27


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(640, 415, words["title"])
    picture.text(20, 26, words["title"], "bold")
    _bars(picture, words["noise"], 56, NOISE, 300, "draft")
    for y, name, speeds in ((178, "target", P), (300, "drafter", Q)):
        times = [distance / speed for distance, speed in zip(NOISE, speeds, strict=True)]
        _bars(picture, words[name], y, times, 65, "plain")
        winner = times.index(min(times))
        x, row = LEFT + 65 * times[winner], y + 12 + ROW * winner
        picture.bar(LEFT, row, x - LEFT, 20, "kept")
        picture.text(x + 48, row + 15, f"← {words['first']}: {TOKENS[winner]}", "small bold")
    return str(picture)


def _bars(
    picture: Drawing, title: str, y: float, lengths: Sequence[float], unit: float, kind: str
) -> None:
    picture.text(20, y, title, "small bold")
    for i, (token, length) in enumerate(zip(TOKENS, lengths, strict=True)):
        top = y + 12 + ROW * i
        picture.text(LEFT - 10, top + 15, token, "end small")
        picture.bar(LEFT, top, unit * length, 20, kind)
        picture.text(LEFT + unit * length + 8, top + 15, f"{length:.2g}", "small")
