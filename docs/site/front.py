"""What the front page shows of results: a real model's table, and what our own checks printed."""

from __future__ import annotations

from collections.abc import Callable

from docs.site.measured import (
    MADE_BY,
    REAL,
    RESULTS,
    figure,
    headed,
    missing,
    results,
    source,
)
from docs.site.names import contender
from foredraft.files import read_text

PRINTED = {  # file of `benchmarks/results` → the command that printed it
    "advise-smollm2.txt": "uv run foredraft advise --target smollm2 --chat",
    "verify-bundled.txt": "uv run foredraft verify --method speculative --verifier rejection",
}
LEFT_TO_CHAPTER_7 = ("hybrid", "prompt_lookup", "head")  # what lies between the others
HEAD = {
    "zh": ("", "贪心，token/秒", "nucleus，token/秒", "首个 token，毫秒"),
    "en": ("", "greedy, tokens/s", "nucleus, tokens/s", "first token, ms"),
}


def front(language: str) -> str:
    """Return each contender's speed of decoding alone, greedy and sampled, on a real model."""
    found = results(REAL)
    if found is None:
        return missing(language, REAL, MADE_BY[REAL])
    sampled = {row["contender"]: row for row in found["samplers"]["nucleus"]["contenders"]}
    lines = headed(HEAD[language])
    for row in found["samplers"]["greedy"]["contenders"]:
        if row["contender"] in LEFT_TO_CHAPTER_7:
            continue
        speeds = [one["decode_tokens_per_second"] for one in (row, sampled[row["contender"]])]
        cells = [figure(one, "{:.0f}") for one in (*speeds, row["time_to_first_token_ms"])]
        lines.append(f"| {contender(row['contender'], language)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", source(language, REAL, found)])


def printed(file: str) -> Callable[[str], str]:
    """Return a maker of what a command printed when it was run for `benchmarks/results`."""

    def show(language: str) -> str:
        path = RESULTS / file
        if not path.exists():
            return missing(language, file, PRINTED[file])
        return f"```text\n{read_text(path).strip()}\n```"

    return show


BLOCKS: dict[str, Callable[[str], str]] = {
    "front": front,
    "advise": printed("advise-smollm2.txt"),
    "verify": printed("verify-bundled.txt"),
}
