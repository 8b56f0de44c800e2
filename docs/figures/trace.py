"""A generation of the bundled pair, as it happened: each row one pass of the target."""

from __future__ import annotations

from functools import cache

from docs.figures.svg import Drawing
from foredraft import DecodingConfig, Engine, StepRecord

WORDS = {
    "zh": {
        "title": "一次真实的生成：每行是目标模型的一次前向计算",
        "text": "提示词“{prompt}”之后的 {tokens} 个 token，目标模型只前向计算了 {passes} 次：",
        "kept": "草稿，接受",
        "cut": "草稿，拒绝",
        "unread": "其后，不再看",
        "extra": "目标模型自己的 token",
    },
    "en": {
        "title": "One real generation: each row is one forward pass of the target",
        "text": "{tokens} tokens after “{prompt}”, in only {passes} forward passes of the target:",
        "kept": "drafted, accepted",
        "cut": "drafted, rejected",
        "unread": "not looked at",
        "extra": "the target's own",
    },
}
PROMPT = "The little dog"
CONFIG = DecodingConfig(length=32, gamma=4)  # greedy, so that it is the same everywhere
WIDTH, LEFT, TOP, ROW, GAP = 700, 52, 62, 40, 6


@cache
def generation() -> tuple[list[StepRecord], Engine]:
    """Return the steps of the generation that is drawn, and who decodes their tokens."""
    engine = Engine.load(target="bundled", drafter="bundled")
    return engine.generate(PROMPT, CONFIG, method="speculative").records, engine


def cells(record: StepRecord) -> list[tuple[int, str]]:
    """Return (token, kind) of everything a step proposed, judged or said, from left to right."""
    kinds = ["kept"] * record.num_accepted + ["cut"] * record.is_rejection
    kinds += ["unread"] * (record.gamma - len(kinds))
    shown = list(zip(record.drafted, kinds, strict=True))
    extra = [(record.extra_token, "extra")] if record.extra_token is not None else []
    return shown + extra


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    records, engine = generation()
    height = TOP + ROW * len(records) + 40
    picture = Drawing(WIDTH, height, words["title"])
    tokens = sum(len(record.emitted) for record in records)
    heading = words["text"].format(prompt=PROMPT, tokens=tokens, passes=len(records))
    picture.text(20, 30, heading, "bold")
    for number, record in enumerate(records):
        y = TOP + ROW * number
        picture.text(LEFT - 14, y + 22, str(number + 1), "end small")
        x = float(LEFT)
        for token, kind in cells(record):
            text = engine.decode([token]).strip() or "⏎"
            width = 26 + 9 * len(text)
            picture.box(x, y, width, text, "empty" if kind == "unread" else kind)
            if kind == "cut":
                picture.line([(x + 8, y + 17), (x + width - 8, y + 17)])
            x += width + GAP
    x, y = float(LEFT), height - 16
    for kind in ("kept", "cut", "unread", "extra"):
        picture.swatch(x, y - 12, "empty" if kind == "unread" else kind)
        picture.text(x + 22, y, words[kind], "small")
        x += 40 + sum(13 if ord(letter) > 0x2E80 else 7.2 for letter in words[kind])
    return str(picture)
