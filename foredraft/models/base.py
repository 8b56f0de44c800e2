"""LanguageModel: tokens → logits, with a memory that can forget.

Knows token ids; knows neither text nor drafting. Inside a generation a model always holds
everything but the last token, so "feed what is unseen" is the whole cache logic of the loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.errors import ContextOverflow, ModelError, RequestError, quoted
from foredraft.logits import two_largest
from foredraft.ownership import Owned, alone

UNITS_WIDE, UNITS_HALF = 64, 4  # of rounding allowed: float32 and wider, half precision
# Methods that read or change the memory.
USES_OF_MEMORY = ("start", "extend", "extend_beams", "rollback_to", "draft")


class LanguageModel(Owned, ABC):
    """One sequence, its memory and its next-token logits.

    Threads may share a model: each call is alone with it, and a thread whose sequence another one
    has begun over gets `RequestError`. A model that wraps another shares its `owner`.

    Attributes:
        vocab_size: columns of the logits.
        max_length: positions the model has, in tokens.
        length: tokens held in memory.
        dtype: precision of its arithmetic.
        weight_bytes: that one weight takes in memory; None for those of the arithmetic's precision.
    """

    vocab_size: int
    max_length: int
    length: int
    dtype: torch.dtype = torch.float32
    weight_bytes: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls).keys() & set(USES_OF_MEMORY):
            setattr(cls, name, alone(vars(cls)[name]))

    @property
    def prompt_vocab_size(self) -> int:
        """Tokens a prompt may hold; an encoder may have others than its decoder."""
        return self.vocab_size

    @abstractmethod
    def start(self, prompt: Prompt) -> list[int]:
        """Forget everything and return the tokens the sequence begins with.

        For a decoder-only model that is the prompt, not yet fed. An encoder–decoder model reads the
        prompt with its encoder, and the sequence begins with its decoder's start tokens.

        Raises:
            ContextOverflow: the prompt leaves no position for a new token.
        """

    @abstractmethod
    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        """Feed tokens, at least one, and remember them.

        Args:
            tokens: the next `time` tokens after the `length` held ones.
            keep: how many of the last positions to return logits for, 1 … time.

        Returns:
            Logits after each of the last `keep` tokens, shape `[keep, vocab]`.
        """

    @alone
    def draft(self, tokens: Sequence[int], count: int) -> tuple[list[int], list[float]]:
        """Feed tokens, then each likeliest next token but the last.

        A device that is slow to ask can do better than this: nobody asks between the tokens.

        Args:
            tokens: as for `extend`.
            count: tokens wanted, ≥ 1.

        Returns:
            The `count` likeliest tokens, of which `count − 1` are held in memory; and how far the
            logit of each is above the second largest: NaN where the row holds no number, ∞ where
            no other token is possible.
        """
        drafted, margins = list[int](), list[float]()
        while len(drafted) < count:
            row = self.extend(drafted[-1:] or tokens, keep=1)[0].float()  # [vocab]
            token, first, second = two_largest(row)
            drafted.append(token)
            margins.append(first - second)
        return drafted, margins

    @abstractmethod
    def rollback_to(self, length: int) -> None:
        """Forget the newest tokens so that `length` remain; `length ≤ self.length`."""

    @abstractmethod
    def extend_beams(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Feed one token to each beam; beam i continues what beam `parents[i]` held.

        The first call after `extend` branches the single sequence: all parents are 0. `rollback_to`
        is not available on branched memory; `start` ends it.

        Returns:
            Logits, shape `[beams, vocab]`.
        """

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
            RequestError: it is features, and this model has no encoder that reads them.
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


def check_is_network(name: str, network: Any, remedy: str = "") -> Any:
    """Return a Hugging Face module, or raise with what to give in place of what was given.

    Args:
        name: of the parameter.
        network: as the caller gave it.
        remedy: what else can be done.
    """
    if isinstance(network, torch.nn.Module) and hasattr(network, "config"):
        return network
    raise ModelError(
        f"{name} must be a Hugging Face model or a LanguageModel, not {quoted(network)}; load one, "
        "e.g. with AutoModelForCausalLM.from_pretrained(…)" + (f", or {remedy}" if remedy else "")
    )


def check_vocabulary_holds(tokens: Sequence[int], vocab_size: int) -> None:
    """Raise `RequestError` unless a model has an embedding for every token."""
    for token in tokens:
        if not 0 <= token < vocab_size:
            raise RequestError(f"token {token} is outside the vocabulary 0 … {vocab_size - 1}")


class Recomputing(LanguageModel):
    """`use_cache=False`: the same model, whose whole prefix is computed anew at every pass.

    What an encoder has made of the prompt is kept all the same: the prompt does not grow.

    Args:
        inner: the model that is asked.
    """

    def __init__(self, inner: LanguageModel) -> None:
        self.inner, self.owner = inner, inner.owner
        self.vocab_size, self.max_length = inner.vocab_size, inner.max_length
        self.dtype = inner.dtype
        self._tokens: list[int] = []
        self._beams: list[list[int]] = []

    @property
    def length(self) -> int:  # type: ignore[override]
        """Tokens held, as a list instead of a cache."""
        return len(self._tokens)

    def start(self, prompt: Prompt) -> list[int]:
        self._tokens, self._beams = [], []
        return self.inner.start(prompt)

    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        self._tokens += tokens
        return self._recompute(self._tokens, keep)

    def rollback_to(self, length: int) -> None:
        del self._tokens[length:]

    def extend_beams(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        held = self._beams or [self._tokens]
        self._beams = [[*held[p], t] for p, t in zip(parents, tokens, strict=True)]
        return torch.cat([self._recompute(beam, 1) for beam in self._beams])

    def rounding(self, logits: Tensor) -> float:
        return self.inner.rounding(logits)

    def _recompute(self, tokens: Sequence[int], keep: int) -> Tensor:
        self.inner.rollback_to(0)
        return self.inner.extend(tokens, keep)
