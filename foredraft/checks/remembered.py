"""Models behind a check: one that remembers its answers, one that notes them down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.errors import ModelError
from foredraft.logits import check_decides
from foredraft.models import LanguageModel

MOST_BYTES = 1 << 30  # of remembered logits; beyond them everything is computed anew

Tokens = tuple[int, ...]


class Wrapped(LanguageModel):
    """A model behind another one; holds its prompt and its tokens.

    Args:
        inner: the model that is asked.
    """

    def __init__(self, inner: LanguageModel) -> None:
        self.inner, self.owner = inner, inner.owner
        self.vocab_size, self.max_length = inner.vocab_size, inner.max_length
        self.dtype = inner.dtype
        self.prompt: Tokens = ()
        self.tokens: Tokens = ()

    @property
    def length(self) -> int:  # type: ignore[override]
        """Tokens held."""
        return len(self.tokens)

    def start(self, prompt: Prompt) -> list[int]:
        self.prompt, self.tokens = tuple(prompt), ()
        return self.inner.start(prompt)

    def rollback_to(self, length: int) -> None:
        self.tokens = self.tokens[:length]

    def rounding(self, logits: Tensor) -> float:
        return self.inner.rounding(logits)

    def extend_beams(self, parents: Sequence[int], tokens: Sequence[int]) -> NoReturn:
        raise ModelError("a model behind a check decodes without beams; use the model itself")


class Remembered(Wrapped):
    """Computes the logits after a prefix once: for many short generations from few prompts.

    What decodes in front of it is the real loop; the model behind it is asked only for what is new,
    and then for the whole prefix.
    """

    def __init__(self, inner: LanguageModel) -> None:
        super().__init__(inner)
        self._begins: dict[Tokens, list[int]] = {}  # prompt → what the sequence begins with
        self._rows: dict[tuple[Tokens, Tokens], Tensor] = {}  # prompt and prefix → logits [vocab]
        self._bytes = 0

    def start(self, prompt: Prompt) -> list[int]:
        self.prompt, self.tokens = tuple(prompt), ()
        if self.prompt not in self._begins:
            self._begins[self.prompt] = self.inner.start(prompt)
        return list(self._begins[self.prompt])

    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        self.tokens += tuple(tokens)
        return self.rows(self.tokens, keep)

    def rows(self, tokens: Tokens, keep: int) -> Tensor:
        """Return the logits after each of the last `keep` of `tokens`, shape `[keep, vocab]`."""
        ends = range(len(tokens) - keep + 1, len(tokens) + 1)
        keys = [(self.prompt, tokens[:end]) for end in ends]
        known = [self._rows[key] for key in keys if key in self._rows]
        if len(known) < keep:
            self.inner.start(self.prompt)
            logits = self.inner.extend(tokens, keep)
            known = [self._kept(key, row) for key, row in zip(keys, logits, strict=True)]
        return torch.stack(known)

    def remembers(self, tokens: Tokens) -> bool:
        """Whether the logits after `tokens` are the ones every generation has seen."""
        return (self.prompt, tokens) in self._rows

    def _kept(self, key: tuple[Tokens, Tokens], row: Tensor) -> Tensor:
        size = row.numel() * row.element_size()
        if key not in self._rows and self._bytes + size <= MOST_BYTES:
            self._rows[key] = row.clone()  # a view would keep the whole pass alive
            self._bytes += size
        return self._rows.get(key, row)


class Noted(Wrapped):
    """Notes every pass down: the tokens held after it, and the logits it gave.

    Args:
        inner: the model that is asked.
        role: what it is, for messages.

    Raises:
        ModelError: a row decides nothing.
    """

    def __init__(self, inner: LanguageModel, role: str = "model") -> None:
        super().__init__(inner)
        self.role = role
        self.notes: list[tuple[Tokens, Tensor]] = []

    def start(self, prompt: Prompt) -> list[int]:
        self.notes = []
        return super().start(prompt)

    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        self.tokens += tuple(tokens)
        logits = self.inner.extend(tokens, keep)
        check_decides(logits, f"the {self.role}", self.dtype)
        self.notes.append((self.tokens, logits))
        return logits

    def rollback_to(self, length: int) -> None:
        super().rollback_to(length)
        self.inner.rollback_to(length)
