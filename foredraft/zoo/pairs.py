"""Prompt and answer → padded batches, for an encoder–decoder model.

Pairs of like length share a batch, so that little is padding. The order of an epoch depends on the
seed and the epoch alone, so a resumed run needs nothing but its step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from foredraft.zoo.corpus import split
from foredraft.zoo.run import IGNORED, Batch, Run
from foredraft.zoo.streams import too_little

POOL = 8192  # pairs sorted by length together; more is less padding and less mixing
HELD_OUT_PAIRS = 2000
ROUND = 4  # lengths are padded to a multiple, so that few shapes occur
Pair = tuple[list[int], list[int]]  # source, target; each with its end token


class PairBatches:
    """The batches of a run: `tokens_per_step` positions each, source, target and padding together.

    Sources are mixed as they are, their shares play no part. The tokenizer ends
    what it encodes with its end token.
    """

    def __init__(self, run: Run, tokenizer: PreTrainedTokenizerFast) -> None:
        self._run, self._tokenizer = run, tokenizer
        self._training = t = run.recipe.training
        self._pairs = self._encode(held_out=False)
        self._plan: list[npt.NDArray[np.int64]] = []
        lengths = np.array([[len(a), len(b)] for a, b in self._pairs])
        epoch = 0
        while len(self._plan) < t.steps:
            self._plan += epoch_batches(lengths, t.tokens_per_step, (run.recipe.seed, epoch))
            epoch += 1

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        return self._padded([self._pairs[i] for i in self._plan[step]])

    def held_out(self) -> Iterator[Batch]:
        """Yield held-out batches."""
        pairs = sorted(self._encode(held_out=True)[:HELD_OUT_PAIRS], key=lambda p: len(p[1]))
        for i in range(0, len(pairs), 100):
            yield self._padded(pairs[i : i + 100])

    def _encode(self, *, held_out: bool) -> list[Pair]:
        documents = [
            document
            for source in self._run.recipe.data
            for document in split(source, self._run.data_dir, held_out=held_out)
        ]
        if not documents:
            raise too_little(held_out=held_out)
        sources = self._tokenizer([d.prompt for d in documents])["input_ids"]
        targets = self._tokenizer([d.answer for d in documents])["input_ids"]
        pairs = list(zip(sources, targets, strict=True))
        longest = self._training.sequence_length
        return [p for p in pairs if max(len(p[0]), len(p[1])) <= longest]

    def _padded(self, pairs: list[Pair]) -> Batch:
        pad = self._tokenizer.pad_token_id
        source = _rectangle([a for a, _ in pairs], pad)
        labels = _rectangle([b for _, b in pairs], IGNORED)
        shown = labels.roll(1, dims=1)  # the decoder begins with the padding token, as T5 does
        shown[:, 0] = pad
        inputs = {
            "input_ids": source,
            "attention_mask": (source != pad).long(),
            "decoder_input_ids": shown.masked_fill(shown == IGNORED, pad),
        }
        return Batch(inputs, labels)


def epoch_batches(
    lengths: npt.NDArray[np.int64], tokens_per_step: int, seed: tuple[int, int]
) -> list[npt.NDArray[np.int64]]:
    """Return the batches of an epoch, each the indices of its pairs.

    The lengths are of source and target, shape `[pairs, 2]`. A batch takes `tokens_per_step`
    positions at most, padding included, and one pair at least; the seed is of the order.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    batches: list[npt.NDArray[np.int64]] = []
    for begin in range(0, len(order), POOL):
        pool = order[begin : begin + POOL]
        pool = pool[np.lexsort((lengths[pool, 0], lengths[pool, 1]))]
        first, widest = 0, np.zeros(2, dtype=np.int64)
        for i, pair in enumerate(pool):
            wider = np.maximum(widest, _rounded(lengths[pair]))
            if i > first and wider.sum() * (i + 1 - first) > tokens_per_step:
                batches.append(pool[first:i])
                first, wider = i, _rounded(lengths[pair])
            widest = wider
        batches.append(pool[first:])
    return [batches[i] for i in rng.permutation(len(batches))]


def _rounded(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return -(-lengths // ROUND) * ROUND


def _rectangle(rows: list[list[int]], filler: int) -> Tensor:
    """Return rows of any length as one tensor, shape `[batch, time]`."""
    width = -(-max(map(len, rows)) // ROUND) * ROUND
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])
