"""What four passes compute with a KV cache, which fills up, and without one."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "四次前向计算：有 KV 缓存与没有 KV 缓存",
        "with": "有缓存：共计算 {count} 个位置",
        "without": "没有缓存：共计算 {count} 个位置",
        "pass": "第 {number} 次",
        "computed": "这次计算的",
        "held": "在缓存里，直接取用",
        "empty": "还没有",
    },
    "en": {
        "title": "Four passes with a KV cache and without one",
        "with": "with a cache: {count} positions computed",
        "without": "without one: {count} positions computed",
        "pass": "pass {number}",
        "computed": "computed in this pass",
        "held": "in the cache, only read",
        "empty": "not there yet",
    },
}
TOKENS = "abcdef"
NUM_PROMPT = 3
LEFT, TOP, CELL, ROW = 20, 44, 40, 44
LABEL = 62


def _panel(picture: Drawing, left: int, name: str, words: dict[str, str]) -> None:
    """Draw the passes of one of the two ways, from top to bottom."""
    num_computed = 0
    for i in range(len(TOKENS) - NUM_PROMPT + 1):
        length = NUM_PROMPT + i
        held = length - 1 if name == "with" and i else 0
        num_computed += length - held
        top = TOP + i * ROW
        picture.text(left, top + 22, words["pass"].format(number=i + 1), "small")
        for j, token in enumerate(TOKENS):
            kind = "plain" if j < held else "draft" if j < length else "empty"
            shown = token if j < length else ""
            picture.box(left + LABEL + j * CELL, top, CELL - 4, shown, kind)
    picture.text(left, 26, words[name].format(count=num_computed), "small bold")


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(690, 284, words["title"])
    _panel(picture, LEFT, "with", words)
    _panel(picture, LEFT + 350, "without", words)
    legend = (("draft", "computed"), ("plain", "held"), ("empty", "empty"))
    for i, (kind, name) in enumerate(legend):
        x = LEFT + i * 226
        picture.box(x, 238, CELL - 4, "", kind)
        picture.text(x + CELL + 4, 260, words[name], "small")
    return str(picture)
