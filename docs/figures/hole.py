"""The draft model's cache after full acceptance: it lacks the last draft token, fed to nobody."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "全部接受之后，草稿模型的缓存缺一个 token",
        "drafted": "起草：喂入 e、x₁、x₂，依次抽出 x₁、x₂、x₃；x₃ 从未喂入",
        "accepted": "三个全部接受，奖励 token 为 z：缓存比文本少两个 token",
        "right": "正确：喂入所有未见过的 token，即 x₃ 和 z",
        "wrong": "错误：只喂入最新的 token z，它占了 x₃ 的位置，x₃ 永远缺失",
        "cache": "草稿模型的缓存",
        "unseen": "文本中未喂入的",
    },
    "en": {
        "title": "After full acceptance the draft model's cache lacks a token",
        "drafted": "drafting: e, x₁, x₂ are fed and x₁, x₂, x₃ drawn; x₃ itself is never fed",
        "accepted": "all three accepted, bonus z: the cache is two tokens behind the text",
        "right": "right: feed everything that is unseen, which is x₃ and z",
        "wrong": "wrong: feed only the newest token, z. It sits where x₃ belongs; x₃ is lost",
        "cache": "the draft model's cache",
        "unseen": "not fed yet",
    },
}
LEFT, CELL, WAITING = 20, 52, 516


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(680, 382, words["title"])
    picture.text(LEFT, 22, words["cache"], "small")
    picture.text(WAITING, 22, words["unseen"], "small")
    rows = [
        ("drafted", "a b c d e x₁ x₂", "pppp!!!", "x₃"),
        ("accepted", "a b c d e x₁ x₂", "pppppkk", "x₃ z"),
        ("right", "a b c d e x₁ x₂ x₃ z", "pppppkk!!", ""),
        ("wrong", "a b c d e x₁ x₂ z", "pppppkkx", ""),
    ]
    colour = {"p": "plain", "k": "kept", "!": "extra", "x": "cut"}
    for i, (name, held, kinds, waiting) in enumerate(rows):
        top = 62 + i * 84
        picture.text(LEFT, top - 10, words[name], "small bold")
        for j, (token, kind) in enumerate(zip(held.split(), kinds, strict=True)):
            picture.box(LEFT + j * CELL, top, CELL - 4, token, colour[kind])
        for j, token in enumerate(waiting.split()):
            picture.box(WAITING + j * CELL, top, CELL - 4, token, "draft")
    return str(picture)
