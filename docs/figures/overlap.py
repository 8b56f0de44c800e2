"""What p and q share is accepted, what p has beyond it is the residual: chapter 0's first table."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "q 提议，p 决定：一个位置上的接受与修正",
        "kept": "重叠部分 min(p, q)：接受",
        "cut": "q 多出的：拒绝",
        "extra": "p 多出的：残差，由修正 token 补上",
        "note": "红色合计 {0}，蓝色合计也是 {0}：拒绝掉的恰好等于欠下的",
    },
    "en": {
        "title": "q proposes, p decides: acceptance and correction at one position",
        "kept": "overlap min(p, q): accepted",
        "cut": "excess of q: rejected",
        "extra": "excess of p: the residual, recovered",
        "note": "red adds up to {0}, and so does blue: what is rejected is exactly what is missing",
    },
}
TOKENS = {"tick": (0.1, 0.5), "tock": (0.7, 0.4), "boom": (0.2, 0.1)}  # token → p, q
LEFT, FLOOR, UNIT, WIDTH, GAP, GROUP = 90, 330, 280, 66, 12, 190


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(660, 420, words["title"])
    picture.text(20, 26, words["title"], "bold")
    for i, kind in enumerate(("kept", "cut", "extra")):
        picture.bar(20, 44 + 23 * i, 14, 14, kind)
        picture.text(42, 56 + 23 * i, words[kind], "small")
    for i, (token, (p, q)) in enumerate(TOKENS.items()):
        x = LEFT + GROUP * i
        for name, total, kind in (("q", q, "cut"), ("p", p, "extra")):
            _stack(picture, x, min(p, q), total, kind)
            picture.text(x + WIDTH / 2, FLOOR + 20, f"{name} = {total:g}", "mid small")
            x += WIDTH + GAP
        picture.text(x - WIDTH - 1.5 * GAP, FLOOR + 44, token, "mid bold")
    picture.line([(LEFT - 20, FLOOR), (LEFT + 3 * GROUP - 26, FLOOR)])
    missing = sum(max(0.0, q - p) for p, q in TOKENS.values())
    picture.text(20, 404, words["note"].format(f"{missing:g}"), "small")
    return str(picture)


def _stack(picture: Drawing, x: float, shared: float, total: float, kind: str) -> None:
    parts = [("kept", 0.0, shared), (kind, shared, total - shared)]
    for colour, below, height in parts:
        if height > 1e-9:
            y = FLOOR - UNIT * (below + height)
            picture.bar(x, y, WIDTH, UNIT * height, colour)
            picture.text(x + WIDTH / 2, y + UNIT * height / 2 + 5, f"{height:.1f}", "mid small")
