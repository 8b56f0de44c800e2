"""What one text has of a network: its context, what it adds to a pass, and what that says of it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from foredraft.choices import Drawing
from foredraft.core import Prompt
from foredraft.errors import RequestError, RollbackUnsupported
from foredraft.logits import Likeliest
from foredraft.models.features import Features

if TYPE_CHECKING:
    from foredraft.models.base import Network


class Context:
    """One text in the memory of a network: `network.open(prompt)` makes it.

    A thread at a time may use it; the network's other contexts are free meanwhile.

    Attributes:
        network: whose passes it takes part in.
        prompt: what it was opened with.
        begin: tokens the text begins with: the prompt, not yet fed; of an encoder–decoder model the
            start tokens of its decoder.
        memory: the network's affair.
        features: of the tokens that are fed; None: nobody reads them.
    """

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
        """Whether `close` is still to come."""
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
            most = self.network.num_watchable
            if not layers or not all(0 <= layer <= most for layer in layers):
                raise RequestError(
                    f"layers are {list(layers)}; legal: at least one, each 0 … {most}"
                    if most
                    else f"{type(self.network).__name__} tells nothing of its layers; load the "
                    "target as a decoder-only model of layers that are alike"
                )
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
        """Return another context that holds the same and goes its own way."""
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
    """What one text adds to a pass.

    Attributes:
        context: of the text.
        tokens: the next ones after those it holds, at least one.
        keep: how many of the last positions to return logits for, 1 … len(tokens).
    """

    context: Context
    tokens: Sequence[int]
    keep: int = 1


@dataclass(frozen=True, slots=True)
class Output:
    """What a pass says of one text.

    Attributes:
        logits: after each of the last `keep` tokens, shape `[keep, vocab]`.
        likeliest: of them, where the pass has found it out; None: whoever wants it looks.
    """

    logits: Tensor
    likeliest: Likeliest | None = None


@dataclass(frozen=True, slots=True)
class Drafted:
    """A run of one text that nobody was asked about.

    Attributes:
        tokens: the likeliest or drawn, one after another; all but the last are held in memory.
        margins: how far the largest logit of each row is above the second: NaN where the row holds
            no number, and what follows means nothing; ∞ where no other token is possible.
        probs: what the tokens were drawn from, `[count, vocab]`; None: they are the likeliest.
    """

    tokens: list[int]
    margins: list[float]
    probs: Tensor | None = None


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return with how many equal tokens two texts begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _begins_with(prompt: Prompt, begin: Sequence[int]) -> bool:
    """Whether a text begins with its prompt itself."""
    return not isinstance(prompt, Tensor) and list(prompt) == list(begin)
