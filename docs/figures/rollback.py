"""A cache and its pointer: before the pass, after it, and after forgetting what was rejected."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "KV 缓存的回滚",
        "before": "一轮之前：缓存里有除最后一个 token 以外的全部内容",
        "fed": "extend：喂入未见过的 4 个 token（最后一个 e 和草稿 x₁ x₂ x₃）",
        "after": "拒绝 x₂，修正 token 为 y：rollback_to(序列长度 − 1) 只移动指针",
        "all": "若全部接受，奖励 token 为 z：指针已在该处，没有特例",
        "length": "length",
    },
    "en": {
        "title": "A KV cache rolls back",
        "before": "before a round: the cache holds everything but the last token",
        "fed": "extend: feeds the 4 unseen tokens (the last one, e, and the draft x₁ x₂ x₃)",
        "after": "x₂ is rejected, y recovered: rollback_to(sequence length − 1) moves the pointer",
        "all": "if all are accepted, with bonus z: the pointer is right already, no special case",
        "length": "length",
    },
}
CELL, LEFT = 56, 20


def _row(
    picture: Drawing, top: int, held: str, kinds: str, length: int, waiting: str, label: str
) -> None:
    colour = {"p": "plain", "d": "draft", "k": "kept", "x": "cut", ".": "empty"}
    for i, kind in enumerate(kinds):
        token = held.split()[i] if i < len(held.split()) else ""
        picture.box(LEFT + i * CELL, top, CELL - 4, token, colour[kind])
    picture.box(LEFT + 10 * CELL + 20, top, CELL, waiting, "extra")
    pointer = LEFT + length * CELL - 2
    picture.arrow(pointer, top + 58, pointer, top + 37)
    picture.text(pointer + 8, top + 56, f"{label} = {length}", "small")


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(680, 430, words["title"])
    rows = [
        ("before", "a b c d", "pppp......", 4, "e"),
        ("fed", "a b c d e x₁ x₂ x₃", "ppppdddd..", 8, "?"),
        ("after", "a b c d e x₁ x₂ x₃", "pppppkxx..", 6, "y"),
        ("all", "a b c d e x₁ x₂ x₃", "pppppkkk..", 8, "z"),
    ]
    for i, (name, held, kinds, length, waiting) in enumerate(rows):
        top = 34 + i * 106
        picture.text(LEFT, top - 12, words[name], "small bold")
        _row(picture, top, held, kinds, length, waiting, words["length"])
    return str(picture)
