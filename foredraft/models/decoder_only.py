"""Adapters for causal language models: what all share, and the one for Hugging Face modules."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.core import Prompt
from foredraft.doors import checks_arguments
from foredraft.errors import ModelError, foreign
from foredraft.models.base import LanguageModel, check_is_network
from foredraft.models.cache import (
    RollbackCache,
    cache_argument,
    check_can_roll_back,
    check_takes_blocks,
)
from foredraft.models.positions import positions_of
from foredraft.models.threads import check_device_survives
from foredraft.models.views import in_evaluation
from foredraft.ranges import Count


class Memory(Protocol):
    """Keys and values of what was fed; the newest positions can be forgotten."""

    @property
    def length(self) -> int:
        """Positions held."""

    def restart(self) -> None:
        """Forget everything, beams too."""

    def rollback_to(self, length: int) -> None:
        """Forget positions `length` and later."""

    def branch(self, parents: list[int]) -> None:
        """Make beam i a copy of beam `parents[i]`."""


class CausalModel(LanguageModel):
    """What every adapter of a causal language model does; `_logits` is the network.

    Args:
        config: of the network's decoder.
        vocab_size: columns wanted; a drafter gets the target's, so that paddings of different size
            inside one family do not matter: surplus columns are cut, missing ones are −∞ (never
            drafted). None keeps the model's own.
        device: where the network is.
        memory: of the network.

    A model whose rotary embedding changes with the length of its text (`longrope`, `dynamic`) is
    held to the positions before the change: what is cached before it would be wrong after it.
    """

    def __init__(
        self, config: Any, vocab_size: int | None, device: torch.device, memory: Memory
    ) -> None:
        self.device = device
        self._num_embeddings = int(config.vocab_size)
        self.vocab_size = vocab_size or self._num_embeddings
        self.max_length = positions_of(config)
        self._memory = memory

    @abstractmethod
    def _logits(self, input_ids: Tensor, keep: int) -> Tensor:
        """Feed ids `[beams, time]`, all known; return logits `[beams, keep, vocab]`."""

    @property
    def length(self) -> int:  # type: ignore[override]
        """Tokens held in the cache."""
        return self._memory.length

    def start(self, prompt: Prompt) -> list[int]:
        check_device_survives(self.device)
        tokens = self.check_prompt(prompt)
        self._memory.restart()
        return tokens

    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        return self._forward([list(tokens)], keep)[0]  # [keep, vocab]

    def rollback_to(self, length: int) -> None:
        self._memory.rollback_to(length)

    def extend_beams(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        self._memory.branch(list(parents))
        return self._forward([[t] for t in tokens], keep=1)[:, -1]  # [beams, vocab]

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]], keep: int) -> Tensor:
        """Feed `rows` of shape `[beams, time]`; return logits `[beams, keep, vocab]`."""
        input_ids = torch.tensor(rows, device=self.device)  # [beams, time]
        if self.vocab_size > self._num_embeddings:
            # A drafter may be handed a token it has never heard of; any other will do in its place,
            # since what it proposes is verified.
            input_ids.clamp_(max=self._num_embeddings - 1)
        return self._fitted(self._logits(input_ids, keep))

    def _fitted(self, logits: Tensor) -> Tensor:
        """Return logits with `vocab_size` columns."""
        missing = self.vocab_size - logits.shape[-1]
        return F.pad(logits, (0, missing), value=float("-inf")) if missing else logits


class TokenMemory:
    """Of a network that takes no memory from us: the tokens, all of them fed at every pass."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = [[]]

    @property
    def length(self) -> int:
        """Tokens held."""
        return len(self.rows[0])

    def restart(self) -> None:
        """Forget everything, beams too."""
        self.rows = [[]]

    def rollback_to(self, length: int) -> None:
        """Forget tokens `length` and later."""
        self.rows = [row[:length] for row in self.rows]

    def branch(self, parents: list[int]) -> None:
        """Make beam i a copy of beam `parents[i]`."""
        self.rows = [list(self.rows[parent]) for parent in parents]

    def grown(self, input_ids: Tensor) -> Tensor:
        """Hold ids `[beams, time]` too; return all that are held, `[beams, length]`."""
        for row, new in zip(self.rows, input_ids.tolist(), strict=True):
            row += new
        return torch.tensor(self.rows, device=input_ids.device)


class DecoderOnlyModel(CausalModel):
    """A transformers causal LM (Llama, Qwen, Mistral, GPT-2, GPT-NeoX, …) behind our door.

    A network whose memory is not ours (GPT-1, XLNet, CPM-Ant, whatever keywords their signatures
    swallow) is found out by its first pass, and reads its whole text at every pass from then on.

    Args:
        model: in evaluation mode, on any device, of any dtype.
        vocab_size: columns wanted, see `CausalModel`.

    Raises:
        RollbackUnsupported: the model has layers that cannot forget.
    """

    @checks_arguments
    def __init__(self, model: Any, *, vocab_size: Count | None = None) -> None:
        check_can_roll_back(check_is_network("model", model))
        check_takes_blocks(model)
        config = model.config.get_text_config(decoder=True)
        cache = RollbackCache(config.num_hidden_layers)
        super().__init__(config, vocab_size, model.device, cache)
        self.max_length = positions_of(config, model)
        self.model = in_evaluation(model)
        self.dtype: torch.dtype = model.dtype
        self._cached = {cache_argument(model): cache, "use_cache": True}
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def weights(self) -> Iterator[Tensor]:
        yield from (tensor for _, tensor in sorted(self.model.state_dict().items()))

    def _logits(self, input_ids: Tensor, keep: int) -> Tensor:
        memory = self._memory
        if isinstance(memory, TokenMemory):
            return self._pass(memory.grown(input_ids), keep, {"use_cache": False})
        held, time = memory.length, input_ids.shape[1]
        logits = self._pass(input_ids, keep, self._cached)
        if memory.length == held + time:
            return logits
        if held:
            raise ModelError(
                f"{type(self.model).__name__} was fed {held + time} tokens and remembers "
                f"{memory.length}, so its texts would be wrong; switch the cache off, or choose "
                "another model"
            )
        self._check_is_causal(input_ids)
        self._memory = memory = TokenMemory()
        memory.branch([0] * len(input_ids))
        return self._pass(memory.grown(input_ids), keep, {"use_cache": False})

    def _check_is_causal(self, input_ids: Tensor) -> None:
        """Raise if what follows a token changes its logits (XLNet): no draft could be verified."""
        first, uncached = input_ids[:1, :1], {"use_cache": False}
        followed = (first + torch.arange(5, device=self.device)) % self._num_embeddings
        short = self._pass(first, 1, uncached)[0, 0]
        long = self._pass(followed, 5, uncached)[0, 0]
        if float((short - long).abs().max()) > self.rounding(short):
            raise ModelError(
                f"{type(self.model).__name__} looks ahead: a token's logits change with what "
                "follows it, so no draft can be verified; choose a causal language model"
            )

    def _pass(self, input_ids: Tensor, keep: int, cached: dict[str, Any]) -> Tensor:
        """Return the network's logits of ids `[beams, time]`, shape `[beams, keep, vocab]`."""
        kept = {"logits_to_keep": keep} if self._keeps_logits else {}
        with foreign_pass(self.model):
            logits: Tensor = self.model(input_ids=input_ids, **cached, **kept).logits
        return logits[:, -keep:]


def foreign_pass(network: Any) -> AbstractContextManager[None]:
    """Return the border round a pass of a network, whose code is not ours."""
    return foreign(
        f"a pass of {type(network).__name__}",
        "give fewer tokens if memory ran out; else check the model's config.json after its card",
    )
