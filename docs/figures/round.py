"""One draft–verify–accept round: what is drafted, what one target pass yields, what stays."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "一轮：起草、验证、接受",
        "draft": "起草：草稿模型前向计算 4 次，逐个抽取",
        "verify": "验证：目标模型前向计算 1 次，得到 5 个分布",
        "judge": "裁决：逐个接受，直到第一次拒绝",
        "emit": "输出 3 个 token，只用了 1 次目标前向计算",
        "prefix": "前缀",
        "yes": "接受",
        "no": "拒绝",
        "unread": "不再判断",
        "extra": "修正",
    },
    "en": {
        "title": "One round: draft, verify, accept",
        "draft": "draft: 4 passes of the draft model, one token each",
        "verify": "verify: 1 pass of the target, 5 distributions",
        "judge": "judge: accept one by one, up to the first rejection",
        "emit": "3 tokens emitted for 1 target pass",
        "prefix": "prefix",
        "yes": "accept",
        "no": "reject",
        "unread": "not judged",
        "extra": "recovered",
    },
}
LEFT, CELL, GAP = 130, 86, 10
DRAFT = ("x₁", "x₂", "x₃", "x₄")


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(640, 400, words["title"])
    column = [LEFT + i * (CELL + GAP) for i in range(5)]

    picture.text(20, 26, words["draft"], "bold")
    picture.box(20, 40, 100, words["prefix"])
    for x, token in zip(column, DRAFT, strict=False):
        picture.box(x, 40, CELL, token, "draft")

    picture.text(20, 122, words["verify"], "bold")
    for i, x in enumerate(column):
        picture.box(x, 138, CELL, f"p{'₁₂₃₄₅'[i]}")

    picture.text(20, 218, words["judge"], "bold")
    verdicts = [("yes", "kept"), ("yes", "kept"), ("no", "cut"), ("unread", "empty")]
    for x, token, (word, kind) in zip(column, DRAFT, verdicts, strict=False):
        picture.box(x, 232, CELL, token, kind)
        picture.text(x + CELL / 2, 284, words[word], "mid small")

    picture.text(20, 322, words["emit"], "bold")
    picture.box(20, 336, 100, words["prefix"])
    for x, token in zip(column, DRAFT[:2], strict=False):
        picture.box(x, 336, CELL, token, "kept")
    picture.box(column[2], 336, CELL, "y ~ p₃′", "extra")
    picture.text(column[2] + CELL / 2, 388, words["extra"], "mid small")
    return str(picture)
