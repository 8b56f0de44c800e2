"""N-gram back-off: the longest known context answers."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "n-gram 的回退",
        "text": "已有文本",
        "two": "长度 2 的上下文",
        "one": "长度 1 的上下文",
        "none": "都没有",
        "unknown": "没见过，回退",
        "known": "见过 3 次 cat、1 次 dog → cat",
        "end": "结束草稿，或猜一个随机 token",
    },
    "en": {
        "title": "N-gram back-off",
        "text": "text so far",
        "two": "context of 2 tokens",
        "one": "context of 1 token",
        "none": "neither",
        "unknown": "never seen: back off",
        "known": "cat seen 3 times, dog once → cat",
        "end": "end the draft, or guess a random token",
    },
}


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(620, 270, words["title"])
    picture.text(20, 36, words["text"])
    for i, token in enumerate(("I", "saw", "the")):
        picture.box(190 + i * 80, 14, 74, token, "plain" if i == 0 else "draft")
    rows = [
        ("two", ("saw", "the"), "unknown", "cut"),
        ("one", ("the",), "known", "kept"),
        ("none", (), "end", "empty"),
    ]
    for i, (label, context, answer, kind) in enumerate(rows):
        top = 80 + i * 64
        picture.text(20, top + 22, words[label])
        for j, token in enumerate(context):
            picture.box(190 + (2 - len(context) + j) * 70, top, 64, token, "draft")
        picture.box(345, top, 260, words[answer], kind)
        if context:
            picture.arrow(328, top + 17, 342, top + 17)
        if i:
            picture.arrow(475, top - 28, 475, top - 3)
    return str(picture)
