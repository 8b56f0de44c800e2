"""Networks behind a check: one that remembers its answers, one that notes them down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.logits import check_decides
from foredraft.models import Context, Network, Wrapper
from foredraft.models.memory import TokenMemory

MOST_BYTES = 1 << 30  # of remembered logits; beyond them everything is computed anew

Tokens = tuple[int, ...]


class Remembered(Wrapper):
    """Computes the logits after a prefix once: for many short generations from few prompts.

    What decodes in front of it is the real loop; the network behind it is asked only for what is
    new, and then for the whole prefix.
    """

    def __init__(self, inner: Network) -> None:
        super().__init__(inner)
        self._contexts: dict[Tokens, Context] = {}  # by their prompts
        self._rows: dict[tuple[Tokens, Tokens], Tensor] = {}  # prompt and prefix → logits [vocab]
        self._states: dict[tuple[Tokens, Tokens], Tensor] = {}  # likewise, of the newest token
        self._bytes = 0

    def open(self, prompt: Prompt) -> Context:
        key = tuple(prompt)
        if key not in self._contexts:
            self._contexts[key] = self.inner.open(prompt)
        return Context(self, prompt, list(self._contexts[key].begin), TokenMemory())

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        context.memory.tokens += tokens
        prompt, held = tuple(context.prompt), tuple(context.memory.tokens)
        if context.features is not None:
            begin = len(held) - len(tokens)
            context.features.write(begin, self._told(prompt, held, begin, context.features.layers))
        return self.rows(prompt, held, keep)

    def _told(self, prompt: Tokens, tokens: Tokens, begin: int, layers: Sequence[int]) -> Tensor:
        """Return the states of the tokens from `begin` on, `[len, width]`."""
        keys = [(prompt, tokens[:end]) for end in range(begin + 1, len(tokens) + 1)]
        if not all(key in self._states for key in keys):
            context = self._contexts[prompt]
            context.rollback_to(0)
            features = context.watch(layers)
            context.extend(tokens)
            for key, states in zip(keys, features.between(begin, len(tokens)), strict=True):
                self._states[key] = states.clone()
        return torch.stack([self._states[key] for key in keys])

    def rows(self, prompt: Tokens, tokens: Tokens, keep: int) -> Tensor:
        """Return the logits after each of the last `keep` of `tokens`, shape `[keep, vocab]`."""
        ends = range(len(tokens) - keep + 1, len(tokens) + 1)
        keys = [(prompt, tokens[:end]) for end in ends]
        known = [self._rows[key] for key in keys if key in self._rows]
        if len(known) < keep:
            context = self._contexts[prompt]
            context.rollback_to(0)
            logits = context.extend(tokens, keep)
            known = [self._kept(key, row) for key, row in zip(keys, logits, strict=True)]
        return torch.stack(known)

    def remembers(self, prompt: Tokens, tokens: Tokens) -> bool:
        """Whether the logits after `tokens` are the ones every generation has seen."""
        return (prompt, tokens) in self._rows

    def _kept(self, key: tuple[Tokens, Tokens], row: Tensor) -> Tensor:
        size = row.numel() * row.element_size()
        if key not in self._rows and self._bytes + size <= MOST_BYTES:
            self._rows[key] = row.clone()  # a view would keep the whole pass alive
            self._bytes += size
        return self._rows.get(key, row)


@dataclass(frozen=True)
class Note:
    """One pass: the prompt, the tokens held after it, and the logits it gave."""

    prompt: Prompt
    tokens: Tokens
    logits: Tensor


class Noted(Wrapper):
    """Notes every pass down since the last `open`; what it is called is for messages.

    Raises:
        ModelError: a row decides nothing.
    """

    def __init__(self, inner: Network, role: str = "model") -> None:
        super().__init__(inner)
        self.role = role
        self.notes: list[Note] = []

    def open(self, prompt: Prompt) -> Context:
        self.notes = []
        return super().open(prompt)

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        logits = super().logits(context, tokens, keep)
        check_decides(logits, f"the {self.role}", self.dtype)
        self.notes.append(Note(context.prompt, tuple(context.memory.tokens), logits))
        return logits
