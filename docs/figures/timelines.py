"""Two time lines: five target passes one after another; four short draft passes and one of them."""

from __future__ import annotations

from docs.figures.svg import Drawing

WORDS = {
    "zh": {
        "title": "时间轴：普通解码与投机解码",
        "plain": "普通解码：目标模型前向计算 5 次，得到 5 个 token",
        "best": "投机解码，4 个草稿 token 全部接受：短的 4 次，长的 1 次，也是 5 个 token",
        "worst": "投机解码，第 1 个草稿 token 就被拒绝：时间相同，只得到 1 个 token",
        "target": "目标模型",
        "one": "+1",
        "five": "+5",
        "saved": "省下的时间",
        "draft": "起草 4 次",
        "time": "时间",
    },
    "en": {
        "title": "Time lines of plain and of speculative decoding",
        "plain": "plain decoding: 5 passes of the target give 5 tokens",
        "best": "speculative, all 4 accepted: 4 short passes and 1 long one give 5 tokens",
        "worst": "speculative, the first draft token rejected: the same time for 1 token",
        "target": "target",
        "one": "+1",
        "five": "+5",
        "saved": "time saved",
        "draft": "4 drafts",
        "time": "time",
    },
}
LEFT, TARGET, SHORT, LONG, GAP = 20, 112, 16, 126, 4
NUM_DRAFTED = 4


def _round(picture: Drawing, top: int, words: dict[str, str], gain: str) -> int:
    """Draw the draft passes and the pass that verifies them; return where they end."""
    for i in range(NUM_DRAFTED):
        picture.box(LEFT + i * (SHORT + GAP), top, SHORT, "", "draft")
    begin = LEFT + NUM_DRAFTED * (SHORT + GAP)
    picture.box(begin, top, LONG, words["target"], "extra")
    picture.text(LEFT, top + 52, words["draft"], "small")
    picture.text(begin + LONG / 2, top + 52, gain, "mid small bold")
    return begin + LONG


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(680, 342, words["title"])
    picture.text(LEFT, 26, words["plain"], "small bold")
    for i in range(NUM_DRAFTED + 1):
        x = LEFT + i * (TARGET + GAP)
        picture.box(x, 38, TARGET, words["target"], "extra")
        picture.text(x + TARGET / 2, 90, words["one"], "mid small bold")
    end = LEFT + (NUM_DRAFTED + 1) * (TARGET + GAP) - GAP

    picture.text(LEFT, 124, words["best"], "small bold")
    reached = _round(picture, 136, words, words["five"])
    picture.arrow(end, 153, reached + 8, 153)
    picture.text((reached + end) / 2, 146, words["saved"], "mid small")
    picture.line([(end, 38), (end, 172)], "grid")

    picture.text(LEFT, 222, words["worst"], "small bold")
    _round(picture, 234, words, words["one"])

    picture.arrow(LEFT, 312, end, 312)
    picture.text(end, 332, words["time"], "end small")
    return str(picture)
