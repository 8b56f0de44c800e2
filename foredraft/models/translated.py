"""A draft model with a tokenizer of its own: it follows a text that the target's tokens write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.models.base import Context, Network, shared_length
from foredraft.models.memory import Memory, TokenMemory
from foredraft.models.wrapper import Wrapper
from foredraft.translation import Reading, Translation


class Rendering:
    """A text in the draft model's tokens, and the context that reads it.

    Args:
        reading: the text, in both kinds of tokens.
        context: of the draft model.
        held: the tokens that were fed to it.

    Raises:
        ContextOverflow: the draft model has no position for a text.
    """

    def __init__(self, reading: Reading, context: Context, held: Sequence[int] = ()) -> None:
        self.reading, self.context, self.held = reading, context, list(held)

    @classmethod
    def of(cls, network: Network, translation: Translation) -> Rendering:
        """Begin a text that says nothing yet."""
        reading = Reading(translation)
        return cls(reading, network.open([*reading.translated]))

    @property
    def room(self) -> int:
        """Tokens that may be drafted behind the text; the last is never fed."""
        length = len(self.reading.translated)
        return self.context.network.max_length - length + 1 if length else 0

    def unseen(self) -> list[int]:
        """Return what is to be fed, at least one token, and forget what the text does not say.

        Whoever feeds more than that adds it to `held`.
        """
        translated, first = self.reading.translated, min(self.reading.changed(), len(self.held))
        shared = first + shared_length(self.held[first:], translated[first:])
        shared = min(shared, self.context.length, len(translated) - 1)
        self.context.rollback_to(shared)
        self.held[shared:] = translated[shared:]
        return translated[shared:]

    def fork(self) -> Rendering:
        """Return another one of the same text."""
        return Rendering(self.reading.copy(), self.context.fork(), self.held)


class RenderedText(TokenMemory):
    """The target's tokens, and their rendering; made when the first of them are read."""

    def __init__(self, rendering: Rendering) -> None:
        super().__init__()
        self.rendering = rendering

    def copy(self) -> Self:
        other = type(self)(self.rendering.fork())
        other.tokens = list(self.tokens)
        return other


class Intersected(Wrapper):
    """A draft model that speaks of the target's tokens, those that its own tokenizer spells alike.

    Logits of all others are −∞: whatever sampler follows renormalises over the intersection, as in
    token-level intersection (Timor et al., 2025, "Accelerating LLM Inference with Lossless
    Speculative Decoding Algorithms for Heterogeneous Vocabularies"). A text is fed in the target's
    tokens and read in those of the draft model.

    Args:
        inner: the draft model, with columns of its own.
        translation: between the target's tokens and its own.
        vocab_size: columns of the target's logits.
    """

    def __init__(self, inner: Network, translation: Translation, vocab_size: int) -> None:
        super().__init__(inner)
        self.vocab_size, self.translation = vocab_size, translation
        self._indices: Tensor | None = None

    @property
    def prompt_vocab_size(self) -> int:
        return self.vocab_size

    @property
    def shared(self) -> Tensor:
        """Columns of the target and of the draft model that say the same, `[2, shared]`."""
        if self._indices is None:
            pairs = [
                (ours, theirs)
                for ours, theirs in sorted(self.translation.shared.items())
                if ours < self.vocab_size and theirs < self.inner.vocab_size
            ]
            self._indices = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
        return self._indices

    def open(self, prompt: Prompt) -> Context:
        begin = self.check_prompt(prompt)
        return Context(
            self, prompt, begin, RenderedText(Rendering.of(self.inner, self.translation))
        )

    def take_back(self, memory: Memory) -> None:
        """Close the context behind, which gives its own memory back."""
        if isinstance(memory, RenderedText):
            memory.rendering.context.close()

    def room(self, context: Context, tokens: Sequence[int]) -> int:
        """Return how many tokens may be drafted behind these, of which the context holds some."""
        rendering: Rendering = context.memory.rendering
        rendering.reading.write(context.length, tokens[context.length :])
        return rendering.room

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        memory: RenderedText = context.memory
        memory.tokens += tokens
        before, length = context.length - len(tokens), context.length
        rows = [
            self._row(memory.rendering, before, memory.tokens[before:end])
            for end in range(length - keep + 1, length + 1)
        ]
        return rows[0] if keep == 1 else torch.cat(rows)

    def _row(self, rendering: Rendering, place: int, tokens: Sequence[int]) -> Tensor:
        """Return the logits after a text that goes on with tokens at a place, `[1, vocab]`.

        What the draft model has nothing to say of may be any of the shared tokens: it is a draft.
        """
        rendering.reading.write(place, tokens)
        ours, theirs = self.shared
        if rendering.room > 0:
            logits = rendering.context.extend(rendering.unseen())[0]
            kept = logits[theirs.to(logits.device)]
            kept = torch.where((kept == -math.inf).all(), torch.zeros_like(kept), kept)
        else:
            kept = torch.zeros(len(theirs), dtype=self.dtype)
        row = kept.new_full((1, self.vocab_size), -math.inf)
        row[0, ours.to(kept.device)] = kept
        return row
