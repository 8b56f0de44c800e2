"""A stand-in of vLLM: a batch of rows that it fills, moves and empties; it knows what comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np

from foredraft.integrations.vllm import Proposer
from tests.integrations.session import MAX_LENGTH, MOST, ROWS, VOCAB


def config_of(
    *,
    most: int = MOST,
    rows: int = ROWS,
    length: int = MAX_LENGTH,
    vocab: int = VOCAB,
    table: list[tuple[int, int, int]] | None = None,
    device: str = "cuda",
    **additional: object,
) -> SimpleNamespace:
    """Return what a proposer reads of vLLM's configuration."""
    return SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=length, get_vocab_size=lambda: vocab),
        speculative_config=SimpleNamespace(
            num_speculative_tokens=most, num_speculative_tokens_per_batch_size=table
        ),
        scheduler_config=SimpleNamespace(max_num_seqs=rows),
        device_config=SimpleNamespace(device_type=device),
        additional_config=additional,
    )


class Clock:
    """Seconds that pass when a pass is made."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """Decodes greedily, with drafts; a pass takes as long as it is told.

    Args:
        proposer: drafts.
        clock: goes on by `seconds` of the tokens fed in a pass.
        rows: places for requests.
        seconds: of a pass, by its tokens.
    """

    def __init__(
        self,
        proposer: Proposer,
        clock: Clock | None = None,
        *,
        rows: int = ROWS,
        length: int = MAX_LENGTH,
        seconds: Callable[[int], float] = lambda fed: 1.0,
    ) -> None:
        self.proposer, self.clock, self.seconds = proposer, clock or Clock(), seconds
        self.tokens = np.full((rows, length), 7, dtype=np.int32)
        self.lengths = np.zeros(rows, dtype=np.int32)
        self.said = list[list[int]]()  # all that each row will say, prompt included
        self.drafts = list[list[int]]()

    def add(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Take a request into the next row."""
        row = len(self.said)
        self.said.append([*prompt, *answer])
        self.drafts.append([])
        self.tokens[row, : len(prompt)] = prompt
        self.lengths[row] = len(prompt)

    def remove(self, row: int) -> tuple[list[int], list[int]]:
        """Take a request out; the last row moves into its place. Return what it said, and will."""
        end = self.lengths[row]
        whole, last = self.said[row], len(self.said) - 1
        for held in (self.tokens, self.lengths, self.said, self.drafts):
            held[row] = held[last]  # type: ignore[index]
        self.said.pop()
        self.drafts.pop()
        return whole[:end], whole[end:]

    def step(self, reading: Sequence[int] = ()) -> list[list[int]]:
        """Make a pass and ask for drafts; rows in `reading` only read a part of their prompt."""
        self.clock.now += self.seconds(sum(len(draft) + 1 for draft in self.drafts))
        sampled = [
            [] if row in reading else self._said(row, draft)
            for row, draft in enumerate(self.drafts)
        ]
        self.drafts = self.proposer.propose(sampled, self.lengths, self.tokens, slot_mappings={})
        return self.drafts

    def _said(self, row: int, draft: list[int]) -> list[int]:
        begin = self.lengths[row]
        left = self.said[row][begin : begin + len(draft) + 1]
        count = 1
        while count < len(left) and left[count - 1] == draft[count - 1]:
            count += 1
        self.tokens[row, begin : begin + count] = left[:count]
        self.lengths[row] = begin + count
        return left[:count]
