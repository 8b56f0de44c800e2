"""Log-probabilities as clients of chats and of completions read them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from foredraft.core import PositionLogprobs, TokenLogprob
from foredraft.files import Json
from foredraft.text import bytes_of, decoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IMPOSSIBLE = -9999.0  # JSON has no −∞; clients know this number for it


def entries_of(
    positions: Sequence[PositionLogprobs], tokenizer: PreTrainedTokenizerBase
) -> list[Json]:
    """Return what is said of emitted tokens: raw log-probabilities, controlled ones beside them."""

    def entry(one: TokenLogprob) -> dict[str, Json]:
        return {
            "token": decoded(tokenizer, [one.token], with_special=True),
            "logprob": max(one.logprob, IMPOSSIBLE),
            "controlled_logprob": max(one.controlled, IMPOSSIBLE),
            "bytes": list(bytes_of(tokenizer, one.token)),
        }

    return [
        entry(one.chosen) | {"top_logprobs": [entry(other) for other in one.top]}
        for one in positions
    ]


def of_chat(entries: Sequence[Json]) -> Json:
    """Return what a choice of a chat says."""
    return {"content": list(entries), "refusal": None}


def of_completion(entries: Sequence[Json], begin: int = 0) -> Json:
    """Return what a choice of a completion says.

    Args:
        entries: of its tokens.
        begin: characters before the first of them.
    """
    texts = [one["token"] for one in entries]
    return {
        "tokens": texts,
        "token_logprobs": [one["logprob"] for one in entries],
        "top_logprobs": [
            {other["token"]: other["logprob"] for other in one["top_logprobs"]} for one in entries
        ],
        "text_offset": list(accumulate(map(len, texts[:-1]), initial=begin)) if texts else [],
    }
