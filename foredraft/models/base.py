"""Network and Context: weights for any number of texts, and what is remembered of one.

Knows token ids; knows neither text nor drafting. Inside a generation a context always holds
everything but the last token, so "feed what is unseen" is the whole cache logic of the loop.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foredraft.choices import Drawing
from foredraft.core import Prompt
from foredraft.errors import ContextOverflow, RequestError, RollbackUnsupported
from foredraft.logits import two_largest
from foredraft.models.features import Ends, Features
from foredraft.models.memory import Memory, TokenMemory
from foredraft.models.outputs import Drafted, Output
from foredraft.ownership import Owned

__all__ = ["Context", "Drafted", "Feed", "Network", "Output", "shared_length"]

UNITS_WIDE, UNITS_HALF = 64, 4  # of rounding allowed: float32 and wider, half precision
MOST_FREE = 8  # memories of texts that have ended, kept for the next ones


class Context:
    """One text in the memory of a network: `network.open(prompt)` makes it.

    Only one thread at a time may use it; the network's other contexts are free meanwhile.

    Attributes:
        network: the one whose forward passes it takes part in.
        prompt: what it was opened with.
        begin: tokens the text begins with: the prompt, not yet fed; of an encoder–decoder model the
            start tokens of its decoder.
        memory: the network's affair.
        features: states of layers that a head reads; None: nobody reads any.
    """

    network: Network
    prompt: Prompt
    begin: list[int]
    features: Features | None = None

    def __init__(self, network: Network, prompt: Prompt, begin: list[int], memory: Any) -> None:
        self.network, self.prompt, self.begin, self.memory = network, prompt, begin, memory
        self._closing = weakref.finalize(self, network.take_back, memory)
        self._closing.atexit = False

    @property
    def length(self) -> int:
        """Tokens held in memory."""
        return int(self.memory.length)

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed yet."""
        return self._closing.alive

    def extend(self, tokens: Sequence[int], keep: int = 1) -> Tensor:
        """Feed tokens in a pass of their own; return logits, shape `[keep, vocab]`."""
        return self.network.forward([Feed(self, tokens, keep)])[0].logits

    def draft(self, tokens: Sequence[int], count: int) -> Drafted:
        """Feed tokens, then each likeliest next token but the last: see `Network.draft`."""
        return self.network.draft([Feed(self, tokens)], count)[0]

    def draw(self, tokens: Sequence[int], count: int, drawing: Drawing) -> Drafted:
        """Feed tokens, then each drawn next token but the last: see `Network.draw`."""
        return self.network.draw([Feed(self, tokens)], count, [drawing])[0]

    def rollback_to(self, length: int) -> None:
        """Forget the newest tokens so that `length` remain.

        Raises:
            RollbackUnsupported: fewer are held.
        """
        self.check_open()
        if not 0 <= length <= self.length:
            raise RollbackUnsupported(
                f"cannot go back to {length} tokens; legal: 0 … {self.length}, those that are held"
            )
        self.memory.rollback_to(length)
        if self.features is not None:
            self.features.rollback_to(length)

    def watch(self, layers: Sequence[int]) -> Features:
        """Take down, from the next token on, the states that some layers make of this text.

        Args:
            layers: see `Features.layers`.

        Raises:
            RequestError: there are no such layers, or the network tells of none.
        """
        if self.features is None or self.features.layers != tuple(layers):
            self.network.check_watchable(layers)
            self.features = Features(layers, self.length)
        return self.features

    def reopen(self, prompt: Prompt, held: Sequence[int]) -> Context:
        """Return the context of another text; where tokens begin both, it is this one.

        What both begin with stays in memory, but for the last token of the new text, which is to be
        fed.

        Args:
            prompt: of the other text.
            held: the tokens in memory, as far as they are known; others are forgotten.

        Raises:
            Errors as of `Network.open`; this context stays as it was.
        """
        self.check_open()
        if not _begins_with(self.prompt, self.begin):  # an encoder has read it
            other = self.network.open(prompt)
            self.close()
            return other
        begin = self.network.check_prompt(prompt)
        kept = min(self.length, shared_length(held, begin), len(begin) - 1)
        self.rollback_to(max(kept, 0))
        self.prompt, self.begin = prompt, begin
        return self

    def fork(self) -> Context:
        """Return another context that holds the same tokens and goes its own way."""
        self.check_open()
        other = Context(self.network, self.prompt, self.begin, self.memory.copy())
        other.features = None if self.features is None else self.features.copy()
        return other

    def close(self) -> None:
        """Give the memory back to the network; what is dropped unclosed is closed in time."""
        self._closing()

    def check_open(self) -> None:
        """Raise `RequestError` after `close`: the memory may be another text's by now."""
        if not self.is_open:
            raise RequestError("this context was closed; open another one: network.open(prompt)")


@dataclass(frozen=True, slots=True)
class Feed:
    """What one text adds to a forward pass.

    Attributes:
        context: of the text.
        tokens: the next ones after those it holds, at least one.
        keep: how many of the last positions to return logits for, 1 … len(tokens).
    """

    context: Context
    tokens: Sequence[int]
    keep: int = 1


class Network(Owned, Ends, ABC):
    """Weights: next-token logits for any number of texts, each with a context of its own.

    Threads may share it: one forward pass runs at a time, and others wait. What wraps another
    network shares its `owner`.

    Attributes:
        vocab_size: columns of the logits.
        max_length: positions of a text, in tokens.
        dtype: precision of its arithmetic.
        weight_bytes: bytes of a weight, on average; None: as the arithmetic's precision says.
        position_bytes: bytes of a position in the memory of a context; None: it is not known.
    """

    vocab_size: int
    max_length: int
    dtype: torch.dtype = torch.float32
    weight_bytes: float | None = None
    position_bytes: int | None = None

    @property
    def pass_threads(self) -> int | None:
        """Threads of the newest pass; None where torch decides."""
        return None

    @property
    def prompt_vocab_size(self) -> int:
        """Tokens a prompt may hold; an encoder may have others than its decoder."""
        return self.vocab_size

    def open(self, prompt: Prompt) -> Context:
        """Return the context of a new text; nothing is computed yet.

        Raises:
            RequestError: the prompt is not of the kind this network reads.
            ContextOverflow: it leaves no position for a new token.
        """
        return Context(self, prompt, self.check_prompt(prompt), self._free_memory())

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        """Feed every text its tokens, which it remembers from now on.

        Args:
            feeds: at least one; a context may be in one of them only.

        Returns:
            What is known after the last tokens of each, in the order of the feeds.

        Raises:
            RequestError: no feeds, no tokens, a `keep` out of range, a context closed or twice.
        """
        self.check(feeds)
        with self.owner.lock:
            return [Output(self.logits(f.context, f.tokens, f.keep)) for f in feeds]

    def draft(self, feeds: Sequence[Feed], count: int) -> list[Drafted]:
        """Feed every text its tokens, then each likeliest next token but the last.

        A device that is slow to ask can do better than this: nobody asks between the tokens.

        Args:
            feeds: as for `forward`; `keep` plays no part.
            count: tokens wanted of each, ≥ 1.

        Raises:
            RequestError: as for `forward`, or `count` below 1.
        """
        return self._one_by_one(feeds, count)

    def draw(self, feeds: Sequence[Feed], count: int, drawings: Sequence[Drawing]) -> list[Drafted]:
        """Feed every text its tokens, then each next token but the last: drawn, not the likeliest.

        Args:
            feeds: as for `draft`.
            count: as for `draft`.
            drawings: one a text.
        """
        return self._one_by_one(feeds, count, drawings)

    def _one_by_one(
        self, feeds: Sequence[Feed], count: int, drawings: Sequence[Drawing] = ()
    ) -> list[Drafted]:
        self.check(feeds, count)
        drafts, rows = [Drafted([], []) for _ in feeds], [list[Tensor]() for _ in feeds]
        for place in range(count):
            fed = [d.tokens[-1:] or feed.tokens for feed, d in zip(feeds, drafts, strict=True)]
            outputs = self.forward([Feed(f.context, t) for f, t in zip(feeds, fed, strict=True)])
            for text, (drafted, output) in enumerate(zip(drafts, outputs, strict=True)):
                token, first, second = two_largest(output.logits[0].float())
                if drawings:
                    token, probs = drawings[text].draw(output.logits[0], place)
                    rows[text].append(probs)
                drafted.tokens.append(token)
                drafted.margins.append(first - second if math.isfinite(first) else math.nan)
        if not drawings:
            return drafts
        return [replace(d, probs=torch.stack(p)) for d, p in zip(drafts, rows, strict=True)]

    @abstractmethod
    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        """Feed tokens of one text; return logits after the last `keep`, shape `[keep, vocab]`."""

    def _new_memory(self) -> Memory:
        return TokenMemory()

    def _free_memory(self) -> Memory:
        """Return a memory that holds nothing: one of a text that has ended, or a new one."""
        return self._free.pop() if self._free else self._new_memory()

    @property
    def _free(self) -> list[Memory]:
        """Memories of texts that have ended; made when first asked for, as the owner is."""
        free: list[Memory] = self.__dict__.setdefault("_free_memories", [])
        return free

    def take_back(self, memory: Memory) -> None:
        """Keep the memory of a text that has ended for the next one."""
        if len(self._free) < MOST_FREE:
            memory.restart()
            self._free.append(memory)

    def check(self, feeds: Sequence[Feed], count: int = 1) -> None:
        """Raise unless the feeds are what `forward` takes, and `count` what `draft` takes."""
        if not feeds:
            raise RequestError("a pass needs a text; give at least one feed")
        if count < 1:
            raise RequestError(f"count is {count}; legal: ≥ 1, the tokens that are drafted")
        twice = len(feeds) > 1 and len({id(feed.context) for feed in feeds}) < len(feeds)
        for feed in feeds:
            feed.context.check_open()
            if twice or feed.context.network is not self:
                raise RequestError(
                    "a pass takes contexts of its own network, each once; open one for each text"
                )
            if not 1 <= feed.keep <= len(feed.tokens):
                raise RequestError(
                    f"keep is {feed.keep}; legal: 1 … {len(feed.tokens)}, the tokens that are fed"
                )

    def rounding(self, logits: Tensor) -> float:
        """Return how far two passes over the same tokens may differ in a logit, by rounding alone.

        A pass over one token and a pass over five add the same numbers in another order. Measured
        on the bundled pair, and on it only: 6 units in the last place of the largest logit in
        float32, 1 in half precision. Much deeper models may need an adapter that allows more.

        Args:
            logits: of any shape; their largest finite size is the scale.
        """
        units = UNITS_WIDE if torch.finfo(self.dtype).bits >= 32 else UNITS_HALF
        finite = logits[logits.isfinite()]
        scale = float(finite.abs().max()) if len(finite) else 0.0
        return units * torch.finfo(self.dtype).eps * max(scale, 1.0)

    def weights(self) -> Iterator[Tensor]:
        """Yield every weight as it lies in memory, in the same order always; none if unknown."""
        yield from ()

    def check_prompt(self, prompt: Prompt) -> list[int]:
        """Return the prompt's tokens.

        Raises:
            RequestError: it is features, and this network has no encoder that reads them.
            ContextOverflow: prompt and one new token do not fit.
        """
        if isinstance(prompt, Tensor):
            raise RequestError("this model reads token ids, not features; give a list of ids")
        if len(prompt) >= self.max_length:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens but the model has {self.max_length} "
                "positions, one of them for a new token; "
                f"shorten the prompt to {self.max_length - 1} tokens"
            )
        return list(prompt)


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return with how many equal tokens two texts begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _begins_with(prompt: Prompt, begin: Sequence[int]) -> bool:
    """Whether a text begins with its prompt itself."""
    return not isinstance(prompt, Tensor) and list(prompt) == list(begin)
