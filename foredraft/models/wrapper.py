"""Wrapper: a network behind another one; and the one that computes without a memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from torch import Tensor

from foredraft.core import Prompt
from foredraft.models.base import Context, Network
from foredraft.models.memory import Memory, TokenMemory


class InnerText(TokenMemory):
    """Tokens, and the context of the network behind that remembers them."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context

    def rollback_to(self, length: int) -> None:
        super().rollback_to(length)
        self.context.rollback_to(min(length, self.context.length))

    def copy(self) -> Self:
        other = type(self)(self.context.fork())
        other.tokens = list(self.tokens)
        return other


class Wrapper(Network):
    """A network that asks another one."""

    def __init__(self, inner: Network) -> None:
        self.inner, self.owner = inner, inner.owner
        self.vocab_size, self.max_length = inner.vocab_size, inner.max_length
        self.dtype, self.weight_bytes = inner.dtype, inner.weight_bytes
        self.num_watchable, self.state_size = inner.num_watchable, inner.state_size

    @property
    def prompt_vocab_size(self) -> int:
        return self.inner.prompt_vocab_size

    @property
    def pass_threads(self) -> int | None:
        return self.inner.pass_threads

    def open(self, prompt: Prompt) -> Context:
        context = self.inner.open(prompt)
        return Context(self, prompt, context.begin, InnerText(context))

    def take_back(self, memory: Memory) -> None:
        """Close the context behind, which gives its own memory back."""
        if isinstance(memory, InnerText):
            memory.context.close()

    def rounding(self, logits: Tensor) -> float:
        return self.inner.rounding(logits)

    def weights(self) -> Iterator[Tensor]:
        return self.inner.weights()

    def embedding(self) -> Tensor:
        found: Tensor = self.inner.embedding()
        return found

    def output_rows(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.inner.output_rows(tokens)
        return found

    def last_norm(self) -> tuple[Tensor, float]:
        return self.inner.last_norm()

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        memory: InnerText = context.memory
        memory.tokens += tokens
        return self.read(context, tokens, keep)

    def read(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        """Let the network behind read tokens of a text, and tell of its layers what is asked."""
        inner: Context = context.memory.context
        features = context.features
        begin, end = inner.length, inner.length + len(tokens)
        if features is None:
            return inner.extend(tokens, keep)
        known = inner.watch(features.layers)
        logits = inner.extend(tokens, keep)
        features.write(begin, known.between(begin, end))
        return logits


class Recomputing(Wrapper):
    """`use_cache=False`: the same network, which computes the whole text anew at every pass.

    What an encoder has made of the prompt is kept all the same: the prompt does not grow.
    """

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        memory: InnerText = context.memory
        memory.tokens += tokens
        memory.context.rollback_to(0)
        return self.read(context, memory.tokens, keep)
