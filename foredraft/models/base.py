"""Network: weights for any number of texts, each with a context of its own.

Knows token ids; knows neither text nor drafting. Inside a generation a context always holds
everything but the last token, so "feed what is unseen" is the whole cache logic of the loop.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from foredraft.choices import Drawing
from foredraft.core import Prompt
from foredraft.errors import ContextOverflow, ModelError, RequestError
from foredraft.logits import two_largest
from foredraft.models.context import Context, Drafted, Feed, Output, shared_length
from foredraft.models.memory import Memory, TokenMemory
from foredraft.ownership import Owned

__all__ = ["Context", "Drafted", "Feed", "Network", "Output", "shared_length"]

UNITS_WIDE, UNITS_HALF = 64, 4  # of rounding allowed: float32 and wider, half precision
MOST_FREE = 8  # memories of texts that have ended, kept for the next ones


class Network(Owned, ABC):
    """Weights: next-token logits for any number of texts, each with a context of its own.

    Threads may share it: a pass is alone with it, and others wait. What wraps another network
    shares its `owner`.

    Attributes:
        vocab_size: columns of the logits.
        max_length: positions of a text, in tokens.
        dtype: precision of its arithmetic.
        weight_bytes: of a weight, on average; None: as the arithmetic's precision says.
        position_bytes: of a position of a context; None: it is not known.
        num_watchable: layers whose states `Context.watch` can take down; 0: none.
        state_size: numbers of such a state.
    """

    vocab_size: int
    max_length: int
    dtype: torch.dtype = torch.float32
    weight_bytes: float | None = None
    position_bytes: int | None = None
    num_watchable: int = 0
    state_size: int = 0

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
            feeds: at least one; a context stands in one of them at most.

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

    def embedding(self) -> Tensor:
        """Return the embedding in float32, `[tokens, hidden]`, not scaled.

        Raises:
            ModelError: the network does not tell; so do the next two.
        """
        raise self._tells_nothing()

    def output_rows(self, tokens: Tensor) -> Tensor:
        """Return the rows of the last product for some tokens in float32, `[len, hidden]`."""
        raise self._tells_nothing()

    def last_norm(self) -> tuple[Tensor, float]:
        """Return the gain of the norm before the last product, `[hidden]`, and its epsilon."""
        raise self._tells_nothing()

    def _tells_nothing(self) -> ModelError:
        return ModelError(
            f"{type(self).__name__} tells nothing of its ends, which a head needs; load the target "
            "as a decoder-only model of the Llama family"
        )

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
