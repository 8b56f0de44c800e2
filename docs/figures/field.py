"""The field in one picture: who drafts, how it is verified, and which of it foredraft has."""

from __future__ import annotations

from typing import NamedTuple

from docs.figures.svg import Drawing


class Words(NamedTuple):
    """What the picture says in a language; a method that foredraft has begins with a plus."""

    title: str
    who: str
    drafters: tuple[tuple[str, str, tuple[str, ...]], ...]  # who, whether trained, methods
    how: str
    verifiers: tuple[tuple[str, tuple[str, ...]], ...]  # of what, rules
    legend: tuple[str, str]


WORDS = {
    "zh": Words(
        title="投机解码的方法：谁起草，怎样验证",
        who="谁起草？",
        drafters=(
            (
                "前文或语料",
                "不用训练",
                ("+n 元组（NASD）", "+提示词查找", "+后缀匹配", "Token Recycling", "REST：语料库"),
            ),
            ("另一个模型", "通常现成", ("+草稿模型", "+其他分词器", "同时起草与验证")),
            (
                "目标模型上的头",
                "要训练",
                ("+EAGLE-3 草稿头", "EAGLE-1、EAGLE-2", "Medusa", "多 token 预测 MTP"),
            ),
            ("目标模型自己", "部分要训练", ("跳过若干层", "LayerSkip", "前瞻解码")),
        ),
        how="怎样验证？",
        verifiers=(
            ("一条路径", ("+逐 token 拒绝", "+块验证", "+精确匹配、耦合")),
            ("一棵树", ("每个位置多个候选",)),
            ("有损", ("典型接受",)),
        ),
        legend=("+foredraft 有", "foredraft 没有"),
    ),
    "en": Words(
        title="Methods of speculative decoding: who drafts, how it is verified",
        who="Who drafts?",
        drafters=(
            (
                "text that is there",
                "no training",
                (
                    *("+n-grams (NASD)", "+prompt lookup", "+suffix match"),
                    *("Token Recycling", "REST: a corpus"),
                ),
            ),
            (
                "another model",
                "often at hand",
                ("+draft model", "+other tokenizer", "both at once"),
            ),
            (
                "heads on the target",
                "trained",
                ("+EAGLE-3 head", "EAGLE-1, EAGLE-2", "Medusa", "multi-token (MTP)"),
            ),
            ("the target itself", "partly trained", ("skipped layers", "LayerSkip", "lookahead")),
        ),
        how="How is it verified?",
        verifiers=(
            ("one path", ("+token rejection", "+block verification", "+match, coupled")),
            ("a tree", ("several candidates",)),
            ("lossy", ("typical acceptance",)),
        ),
        legend=("+in foredraft", "not in foredraft"),
    ),
}
LEFT, CELL, STEP, LINE = 20, 165, 178, 42


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(740, 500, words.title)
    picture.text(LEFT, 28, words.who, "bold")
    for i, method in enumerate(words.legend, start=2):
        _method(picture, i, 6, method)
    for i, (name, trained, methods) in enumerate(words.drafters):
        picture.text(LEFT + i * STEP + CELL / 2, 62, name, "mid")
        picture.text(LEFT + i * STEP + CELL / 2, 80, trained, "mid small")
        for line, method in enumerate(methods):
            _method(picture, i, 90 + line * LINE, method)
    picture.text(LEFT, 332, words.how, "bold")
    for i, (name, rules) in enumerate(words.verifiers):
        picture.text(LEFT + i * STEP + CELL / 2, 358, name, "mid")
        for line, rule in enumerate(rules):
            _method(picture, i, 368 + line * LINE, rule)
    return str(picture)


def _method(picture: Drawing, column: int, y: float, name: str) -> None:
    has = name.startswith("+")
    kind = "kept" if has else "plain"
    picture.box(LEFT + column * STEP, y, CELL, name.replace("+", "✓ ", 1), kind)
