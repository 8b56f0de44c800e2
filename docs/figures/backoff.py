"""N-gram back-off: the longest known context answers."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "n 元组的回退",
        "text": "已有文本",
        "two": "两个 token",
        "one": "一个 token",
        "none": "一个也没见过",
        "unknown": "没见过，回退",
        "known": "见过：后面是 Paris → 猜 Paris",
        "end": "没有可猜的：草稿到此为止",
    },
    "en": {
        "title": "N-gram back-off",
        "text": "text so far",
        "two": "context of two",
        "one": "context of one",
        "none": "none seen",
        "unknown": "never seen: back off",
        "known": "Paris came next → Paris",
        "end": "no guess: the draft ends",
    },
}
LEFT, CELL, STEP = 170, 92, 100  # of the tokens


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(640, 270, words["title"])
    picture.text(20, 36, words["text"])
    for i, token in enumerate(("of", "Germany", "is")):
        picture.box(LEFT + i * STEP, 14, CELL, token, "plain" if i == 0 else "draft")
    rows = [
        ("two", ("Germany", "is"), "unknown", "cut"),
        ("one", ("is",), "known", "kept"),
        ("none", (), "end", "empty"),
    ]
    for i, (label, context, answer, kind) in enumerate(rows):
        top = 80 + i * 64
        picture.text(20, top + 22, words[label])
        for j, token in enumerate(context):
            picture.box(LEFT + (2 - len(context) + j) * STEP, top, CELL, token, "draft")
        picture.box(384, top, 240, words[answer], kind)
        if context:
            picture.arrow(366, top + 17, 381, top + 17)
        if i == 1:
            picture.arrow(504, top - 28, 504, top - 3)
    return str(picture)
