"""The tables of the page about the server: of its results file, in either language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.site.measured import headed, tables

IN_CHINESE = {
    **{"model": "模型", "sampler": "采样", "speculation": "投机", "greedy": "贪心", "on": "开"},
    **{"off": "关", "8 / 1": "8 / 1", "clients": "客户端数", "minutes": "分钟", "whole": "完整"},
    **{"left half-way": "中途离开", "texts that differ": "不同的文本", "failed": "失败"},
    **{"lost": "丢失", "megabytes": "MB"},
    "memory at the end / at the start": "结束时内存 / 开始时内存",
    "refused, the queue was full": "队列已满而拒绝",
} | {f"{count} clients": f"{count} 个客户端" for count in (1, 2, 4, 8)}


def serve(language: str) -> str:
    """Return what the stress test found, and tokens a second by number of clients."""
    return tables(language, ["serve.json"], _serve)


def _serve(found: Any, language: str) -> list[str]:
    lines = list[str]()
    for rows in ([found["stress"]] if found["stress"] else [], found["rows"]):
        if not rows:
            continue
        lines += ["", *headed(tuple(_said(name, language) for name in rows[0]))]
        lines += [
            f"| {' | '.join(_said(cell, language) for cell in row.values())} |" for row in rows
        ]
    return lines[1:]


def _said(cell: Any, language: str) -> str:
    return IN_CHINESE.get(str(cell), str(cell)) if language == "zh" else str(cell)


BLOCKS: dict[str, Callable[[str], str]] = {"serve": serve}
