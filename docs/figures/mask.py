"""The causal mask: who sees whom, and the γ + 1 rows that are read when a draft is verified."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "因果掩码，以及验证草稿时读出的 γ + 1 行",
        "columns": "列：被看到的 token",
        "rows": "行：位置",
        "held": "在 KV 缓存里，不再计算",
        "row": "{token} 之后的分布 p{index}",
        "seen": "看得到，这次计算的",
        "kept": "看得到，以前算过",
        "hidden": "看不到",
    },
    "en": {
        "title": "The causal mask, and the γ + 1 rows that are read when a draft is verified",
        "columns": "columns: the tokens that are seen",
        "rows": "rows: positions",
        "held": "in the KV cache, not computed again",
        "row": "p{index}, the distribution after {token}",
        "seen": "seen, computed in this pass",
        "kept": "seen, computed before",
        "hidden": "not seen",
    },
}
TOKENS = ("a", "b", "c", "d", "e", "x₁", "x₂", "x₃")
NUM_HELD = 4
LEFT, TOP, CELL = 60, 64, 38


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(680, 440, words["title"])
    picture.text(LEFT, 22, words["columns"], "small bold")
    picture.text(LEFT + len(TOKENS) * CELL + 14, TOP - 8, words["rows"], "small bold")
    for i, token in enumerate(TOKENS):
        picture.text(LEFT + i * CELL + CELL / 2, TOP - 8, token, "mid")
        picture.text(LEFT - 12, TOP + i * CELL + 22, token, "end")
        for j in range(len(TOKENS)):
            kind = "empty" if j > i else "plain" if i < NUM_HELD else "extra"
            picture.box(LEFT + j * CELL, TOP + i * CELL, CELL - 4, "", kind)

    right = LEFT + len(TOKENS) * CELL
    picture.line([(right + 6, TOP), (right + 6, TOP + NUM_HELD * CELL - 6)])
    picture.text(right + 14, TOP + NUM_HELD * CELL / 2, words["held"], "small")
    for i, token in enumerate(TOKENS[NUM_HELD:]):
        middle = TOP + (NUM_HELD + i) * CELL + 17
        picture.arrow(right + 2, middle, right + 26, middle)
        row = words["row"].format(token=token, index="₁₂₃₄"[i])
        picture.text(right + 34, middle + 5, row, "small")

    for i, (kind, name) in enumerate((("extra", "seen"), ("plain", "kept"), ("empty", "hidden"))):
        x = LEFT + i * 240
        picture.box(x, 388, CELL - 4, "", kind)
        picture.text(x + CELL + 4, 410, words[name], "small")
    return str(picture)
