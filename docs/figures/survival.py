"""The chance that a round brings its first, second, … token; the area of the staircase is τ."""

from __future__ import annotations

from docs.figures.svg import Drawing
from docs.site.theory import expected_tokens

WORDS = {
    "zh": {
        "title": "一轮能走多远：α = {0}，γ = {1}",
        "extra": "目标模型自己的 token：必有",
        "kept": "草稿 token：连续被接受的概率 αⁱ",
        "empty": "更长的草稿还能争取的",
        "x": "这一轮的第几个 token",
        "area": "着色面积 = τ = {0:.2f} 个 token",
        "limit": "无论草稿多长，总面积不超过 1 / (1 − α) = {0:g}",
    },
    "en": {
        "title": "How far a round gets: α = {0}, γ = {1}",
        "extra": "the target's own token: certain",
        "kept": "draft tokens: kept so far with probability αⁱ",
        "empty": "what longer drafts could still win",
        "x": "token of the round",
        "area": "coloured area = τ = {0:.2f} tokens",
        "limit": "however long the draft, the area stays below 1 / (1 − α) = {0:g}",
    },
}
ALPHA, GAMMA, SHOWN = 0.8, 4, 12
LEFT, FLOOR, UNIT, STEP = 60, 330, 250, 47


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(660, 385, words["title"].format(ALPHA, GAMMA))
    picture.text(20, 26, words["title"].format(ALPHA, GAMMA), "bold")
    for share in (0, 0.5, 1):
        y = FLOOR - UNIT * share
        picture.line([(LEFT, y), (LEFT + STEP * SHOWN, y)], "grid")
        picture.text(LEFT - 10, y + 5, f"{share:g}", "end small")
    for i in range(SHOWN):
        height = UNIT * ALPHA**i
        kind = "extra" if i == 0 else "kept" if i <= GAMMA else "empty"
        picture.bar(LEFT + STEP * i, FLOOR - height, STEP, height, kind)
        label = f"{ALPHA**i:.2f}".rstrip("0").rstrip(".")
        picture.text(LEFT + STEP * (i + 0.5), FLOOR - height / 2 + 5, label, "mid small")
        picture.text(LEFT + STEP * (i + 0.5), FLOOR + 20, str(i + 1), "mid small")
    picture.text(LEFT + STEP * SHOWN / 2, FLOOR + 44, words["x"], "mid small")
    for i, kind in enumerate(("extra", "kept", "empty")):
        picture.bar(205, 92 + 22 * i, 14, 14, kind)
        picture.text(227, 104 + 22 * i, words[kind], "small")
    picture.text(205, 172, words["area"].format(expected_tokens(ALPHA, GAMMA)), "small bold")
    picture.text(205, 192, words["limit"].format(round(1 / (1 - ALPHA), 2)), "small")
    return str(picture)
