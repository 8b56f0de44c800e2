"""A head whose passes are compiled C: what it drafts is one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from foredraft.choices import Drawing
from foredraft.core import Prompt
from foredraft.models.base import Context, Drafted, Feed
from foredraft.models.head import HeadModel
from foredraft.models.head_module import HeadModule
from foredraft.native.blocks import TO_A_BLOCK, quantised
from foredraft.native.fused import FusedModel
from foredraft.native.head_weights import HeadWeights
from foredraft.native.network import KeyValueMemory
from foredraft.native.passes import PASS_ROWS, Passes, Told
from foredraft.native.weights import Weight

OWN = (1,)  # the layer whose states a head goes on with
BESIDE_ROUNDED = "Q8_0"  # what its matrices are where the target is rounded


class CompiledMemory(KeyValueMemory):
    """Keys and values of a head, and what it is told; see `HeadMemory`."""

    told: Tensor | None = None
    state: Tensor | None = None

    def restart(self) -> None:
        super().restart()
        self.told = self.state = None

    def rollback_to(self, length: int) -> None:
        super().rollback_to(length)
        self.first = min(self.first, length)

    def copy(self) -> Self:
        other = super().copy()
        other.state = None if self.state is None else self.state.clone()
        return other


class HeadPasses(Passes):
    """The passes of a head, a text at a time."""

    def read(
        self, memory: CompiledMemory, tokens: Sequence[int], told: Tensor | None, keep: int
    ) -> Tensor:
        """Feed tokens; arguments and result as for `HeadModel.read`."""
        fed = self.feed([(memory, tokens, keep)], OWN, _told(memory, told))
        memory.state = fed.states[-1].clone()  # the rest of them need not stay
        return fed.logits

    def draft_for(
        self,
        memory: CompiledMemory,
        tokens: Sequence[int],
        told: Tensor | None,
        count: int,
        drawing: Drawing | None,
    ) -> Drafted:
        """Feed tokens, then each next token but the last; probabilities are of all tokens."""
        if told is not None and len(tokens) > PASS_ROWS:
            self.read(memory, tokens[:-1], told[:-1], 0)
            tokens, told = tokens[-1:], told[-1:]
        given = _told(memory, told)
        states = torch.empty(len(tokens), self.laid.hidden)
        self._watch(OWN, states, given)
        try:
            drawings = [] if drawing is None else [drawing]
            [drafted] = self.draft([(memory, tokens)], count, drawings)
        finally:
            self._watch_nothing()
        memory.state = states[0]
        return drafted


def _told(memory: CompiledMemory, told: Tensor | None) -> Told:
    if told is not None:
        return Told(told.float().contiguous())
    assert memory.state is not None, "nobody has told what stands before the text"
    return Told(memory.state[None], are_states=True)


class CompiledHead(HeadModel):
    """A head on the CPU beside a target of compiled passes, whose embedding it shares.

    Where the target rounds activations to 8 bits so does the head, its weights rounded likewise.

    Args:
        module: the head.
        target: whose states it reads.
        embedding: its own; None: the target's.
        threads: of a pass, at most.

    Raises:
        ModelError: no C compiler.
    """

    def __init__(
        self, module: HeadModule, target: FusedModel, embedding: Tensor | None, threads: int
    ) -> None:
        super().__init__(module, target)
        weights = HeadWeights(module, embedding, rounded if target.rounds else _as_it_is)
        words = target._passes.laid if embedding is None else None
        self._passes = HeadPasses(
            weights, len(module.tokens), threads, words=words, drawn_of=target.vocab_size
        )
        self.weight_bytes = self._passes.laid.weight_bytes
        self.position_bytes = self._new_memory().position_bytes

    @property
    def threads(self) -> int:
        """Of a pass, at most."""
        return self._passes.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._passes.threads = threads

    @property
    def pass_threads(self) -> int | None:
        return self._passes.pace.threads or None

    def weights(self) -> Iterator[Tensor]:
        yield from self._passes.laid.tensors

    def open(self, prompt: Prompt) -> Context:
        self._passes.count_threads()
        return super().open(prompt)

    def _new_memory(self) -> CompiledMemory:
        shape, like = self._passes.memory_shape
        return CompiledMemory(*shape, like)

    def read(
        self, memory: CompiledMemory, tokens: Sequence[int], told: Tensor | None, keep: int
    ) -> Tensor:
        return self._passes.read(memory, tokens, told, keep)

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        self.check(feeds, count)
        with self.owner.lock:
            return [self._drafted(feed, count, None) for feed in feeds]

    def draw(self, feeds: Sequence[Feed], count: int, drawings: Sequence[Drawing]) -> list[Drafted]:
        self.check(feeds, count)
        with self.owner.lock:
            return [self._drafted(f, count, d) for f, d in zip(feeds, drawings, strict=True)]

    def _drafted(self, feed: Feed, count: int, drawing: Drawing | None) -> Drafted:
        memory = feed.context.memory
        [*early, last] = self.parts(feed.context, feed.tokens)
        for part, told in early:
            self._passes.read(memory, part, told, 0)
        return self._passes.draft_for(memory, *last, count, drawing)


def rounded(weight: Tensor) -> Weight:
    """Return a matrix rounded to blocks, where its rows are whole blocks."""
    if weight.shape[1] % TO_A_BLOCK:
        return weight
    return quantised(weight, BESIDE_ROUNDED)


def _as_it_is(weight: Tensor) -> Weight:
    return weight
