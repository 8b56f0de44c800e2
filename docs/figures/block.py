"""Token rejection and block verification on the four drafts of Sun et al.'s example."""

from __future__ import annotations

import itertools

import torch

from docs.figures.svg import Drawing
from foredraft.choices import Dense
from foredraft.core import Draft
from foredraft.verification.block import pass_probabilities, prefix_weights

WORDS = {
    "zh": {
        "title": "保留多少：逐 token 拒绝与块验证",
        "tables": "q：a 2/3，b 1/3    p：a 1/3，b 2/3    γ = 2",
        "draft": "草稿",
        "chance": "出现概率",
        "token": "逐 token 拒绝",
        "block": "块验证",
        "kept": "保留 {0} 个",
        "mean": "平均 {0}/9",
    },
    "en": {
        "title": "How much is kept: token rejection and block verification",
        "tables": "q: a 2/3, b 1/3    p: a 1/3, b 2/3    γ = 2",
        "draft": "draft",
        "chance": "drafted",
        "token": "token rejection",
        "block": "block verification",
        "kept": "{0} kept",
        "mean": "{0}/9 on average",
    },
}
Q, P, GAMMA = (2 / 3, 1 / 3), (1 / 3, 2 / 3), 2
KINDS = ("cut", "draft", "kept")  # of keeping no token, one, both
LEFT, TOP, ROW, WIDTH, NEXT = 150, 118, 48, 215, 250


def draw(language: str) -> str:
    """Return the figure as SVG."""
    words = WORDS[language]
    picture = Drawing(660, 365, words["title"])
    picture.text(20, 26, words["title"], "bold")
    picture.text(20, 52, words["tables"], "small")
    for kept, kind in enumerate(KINDS):
        picture.bar(340 + 105 * kept, 40, 14, 14, kind)
        picture.text(360 + 105 * kept, 52, words["kept"].format(kept), "small")
    picture.text(20, 96, words["draft"], "small bold")
    picture.text(74, 96, words["chance"], "small bold")
    means = {"token": 0.0, "block": 0.0}
    for i, draft in enumerate(itertools.product(range(2), repeat=GAMMA)):
        y, chance = TOP + ROW * i, Q[draft[0]] * Q[draft[1]]
        picture.text(20, y + 22, "".join("ab"[token] for token in draft), "bold")
        picture.text(74, y + 22, f"{round(9 * chance)}/9", "small")
        shown = {"token": by_token(draft), "block": by_block(draft)}
        for j, (name, lengths) in enumerate(shown.items()):
            means[name] += chance * sum(kept * share for kept, share in enumerate(lengths))
            _shares(picture, LEFT + NEXT * j, y, lengths)
    for j, (name, mean) in enumerate(means.items()):
        x = LEFT + NEXT * j
        picture.text(x, 96, words[name], "small bold")
        picture.text(x, TOP + ROW * 4 + 22, words["mean"].format(round(9 * mean)), "small bold")
    return str(picture)


def by_token(draft: tuple[int, ...]) -> list[float]:
    """Return the chance that token rejection keeps 0, 1, … tokens of a draft."""
    ratios = [min(1.0, P[token] / Q[token]) for token in draft]
    survival = [1.0, *itertools.accumulate(ratios, lambda so_far, r: so_far * r), 0.0]
    return [one - further for one, further in itertools.pairwise(survival)]


def by_block(draft: tuple[int, ...]) -> list[float]:
    """Return the same of block verification, by the functions that decide."""
    rows = Draft(list(draft), Dense(torch.tensor([Q] * GAMMA, dtype=torch.float64)))
    target = Dense(torch.tensor([P] * (GAMMA + 1), dtype=torch.float64))
    passes = pass_probabilities(prefix_weights(rows, target), target, rows.choices)
    shares, left = [], 1.0
    for chance in [*reversed(passes), 1.0]:  # the longest prefix is asked first
        shares.append(left * chance)
        left -= shares[-1]
    return shares[::-1]


def _shares(picture: Drawing, x: float, y: float, lengths: list[float]) -> None:
    for kept, share in enumerate(lengths):
        if share > 1e-9:
            picture.bar(x, y, WIDTH * share, 32, KINDS[kept])
            label = "1" if share > 1 - 1e-9 else f"{round(4 * share)}/4".replace("2/4", "1/2")
            picture.text(x + WIDTH * share / 2, y + 21, label, "mid small")
            x += WIDTH * share
