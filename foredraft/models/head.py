"""A head as a network: it drafts for one target, whose states it is told.

Its context stands where the target's text stands. Whoever drafts tells it what the target's layers
have made of the tokens; behind those it goes by what it has made itself.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.models.base import Context, Network
from foredraft.models.head_module import HeadModule, Keys


class HeadMemory:
    """What a head remembers of one text; positions before `first` it was never fed.

    Attributes:
        length: positions, those before `first` among them.
        told: the target's states before the tokens that are fed next, `[tokens, width]`.
        state: what the head has made of the newest token, `[hidden]`.
    """

    told: Tensor | None = None
    state: Tensor | None = None

    def __init__(self) -> None:
        self.length = self.first = 0
        self.keys: Keys | None = None

    def restart(self) -> None:
        self.length = self.first = 0
        self.told = self.state = self.keys = None

    def rollback_to(self, length: int) -> None:
        self.length = length
        self.first = min(self.first, length)

    def copy(self) -> Self:
        return copy.copy(self)


class HeadModel(Network):
    """A head: weights of its own, beside its target's embedding and rows of its output layer.

    A token that it cannot propose has the logit −∞.

    Args:
        module: the head.
        target: whose states it reads.

    Attributes:
        layers: of the target whose states it is told, see `Features.layers`.
        tokens: that it can propose, ascending.
    """

    def __init__(self, module: HeadModule, target: Network) -> None:
        self.layers, self.tokens = module.config.layers, module.tokens
        self.vocab_size, self.target_size = target.vocab_size, module.config.target_size
        positions = int(module.config.layer.max_position_embeddings)
        self.max_length = min(target.max_length, positions)

    def fits(self, target: Network) -> bool:
        """Whether a target tells what this head reads, in the size in which it reads it."""
        return (
            target.vocab_size == self.vocab_size
            and target.state_size == self.target_size
            and target.num_watchable >= max(self.layers)
        )

    def open(self, prompt: Prompt) -> Context:
        return Context(self, prompt, self.check_prompt(prompt), self._free_memory())

    def skip_to(self, context: Context, position: int) -> None:
        """Let a text begin at a position: what stands before it is not known."""
        memory = context.memory
        memory.restart()
        memory.length = memory.first = position

    def tell(self, context: Context, states: Tensor) -> None:
        """Say what the target has made of the tokens before those that are fed next.

        Args:
            context: of a text.
            states: `[tokens, width]`, before each of as many tokens.
        """
        context.memory.told = states

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        rows, left = list[Tensor](), len(tokens)
        for part, told in self.parts(context, tokens):
            left -= len(part)
            kept = max(min(keep - left, len(part)), 0)
            rows.append(self.read(context.memory, part, told, kept))
        return self._spread(rows[0] if len(rows) == 1 else torch.cat(rows), -math.inf)

    def parts(
        self, context: Context, tokens: Sequence[int]
    ) -> list[tuple[Sequence[int], Tensor | None]]:
        """Return tokens in the parts in which they are read, each with what it is told.

        Those of which the target has told are one part; each of the others needs the state of the
        one before.
        """
        told, context.memory.told = context.memory.told, None
        num_told = 0 if told is None else min(len(told), len(tokens))
        parts: list[tuple[Sequence[int], Tensor | None]] = []
        if told is not None and num_told:
            parts.append((tokens[:num_told], told[:num_told]))
        return [*parts, *((tokens[i : i + 1], None) for i in range(num_told, len(tokens)))]

    @abstractmethod
    def read(self, memory: Any, tokens: Sequence[int], told: Tensor | None, keep: int) -> Tensor:
        """Read tokens; return logits of the head's own tokens, `[keep, columns]`.

        Args:
            memory: of a text.
            tokens: the next ones.
            told: the target's states before each; None: there is one token, and the head goes by
                its own state.
            keep: how many of the last of them get logits, 0 … all.
        """

    def _spread(self, rows: Tensor, elsewhere: float) -> Tensor:
        """Return rows of the head's own tokens as rows of the target's, `[len, vocab]`."""
        every = rows.new_full((len(rows), self.vocab_size), elsewhere)
        every[:, self.tokens.to(rows.device)] = rows
        return every


class TorchHead(HeadModel):
    """A head that computes with PyTorch's tensors, on any device.

    Args:
        module: the head, on that device.
        target: whose states it reads.
        embedding: its own, or the target's, `[vocab, hidden]`.
    """

    def __init__(self, module: HeadModule, target: Network, embedding: Tensor) -> None:
        super().__init__(module, target)
        self.module, self._embedding = module.eval(), embedding
        self.dtype = module.fc.weight.dtype

    def weights(self) -> Iterator[Tensor]:
        yield from (*self.module.state_dict().values(), self.module.output)

    def _new_memory(self) -> HeadMemory:
        return HeadMemory()

    @torch.inference_mode()
    def read(
        self, memory: HeadMemory, tokens: Sequence[int], told: Tensor | None, keep: int
    ) -> Tensor:
        module, device = self.module, self._embedding.device
        if told is None:
            assert memory.state is not None, "nobody has told what stands before the text"
            states = memory.state[None, None]
        else:
            states = module.fc(told.to(device, self.dtype))[None]
        begin = memory.length
        known = [min(token, len(self._embedding) - 1) for token in tokens]
        words = self._embedding[torch.tensor(known, device=device)].to(self.dtype)[None]
        positions = torch.arange(begin, begin + len(tokens), device=device)[None]
        past: Keys | None = memory.keys
        if past is not None:
            past = past[0][:, :, : begin - memory.first], past[1][:, :, : begin - memory.first]
        made, memory.keys = module(words, states, positions, past)
        memory.length += len(tokens)
        memory.state = made[0, -1]
        logits: Tensor = module.logits(made[0, len(tokens) - keep :]).float()
        return logits
