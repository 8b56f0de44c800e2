"""Adapters for causal language models: what all share, and the one for Hugging Face modules."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from foredraft.core import Prompt
from foredraft.models.base import LanguageModel
from foredraft.models.cache import RollbackCache, cache_argument, check_can_roll_back
from foredraft.models.threads import check_device_survives

NO_LIMIT = 1 << 30  # positions of a model that states none


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

    A model whose rotary embedding changes with the length of its text (`longrope`: Phi-3 and Phi-4
    with long contexts) is held to the positions before the change: what is cached before it would
    be wrong after it.
    """

    def __init__(
        self, config: Any, vocab_size: int | None, device: torch.device, memory: Memory
    ) -> None:
        self.device = device
        self._num_embeddings = int(config.vocab_size)
        self.vocab_size = vocab_size or self._num_embeddings
        self.max_length = _positions(config)
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


class DecoderOnlyModel(CausalModel):
    """A transformers causal LM (Llama, Qwen, Mistral, GPT-2, GPT-NeoX, …) behind our door.

    Args:
        model: in evaluation mode, on any device, of any dtype.
        vocab_size: columns wanted, see `CausalModel`.

    Raises:
        RollbackUnsupported: the model has layers that cannot forget.
    """

    def __init__(self, model: Any, *, vocab_size: int | None = None) -> None:
        check_can_roll_back(model)
        config = model.config.get_text_config(decoder=True)
        cache = RollbackCache(config.num_hidden_layers)
        super().__init__(config, vocab_size, model.device, cache)
        self.model = model.eval()
        self.dtype: torch.dtype = model.dtype
        self._cached = {cache_argument(model): cache, "use_cache": True}
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def weights(self) -> Iterator[Tensor]:
        yield from (tensor for _, tensor in sorted(self.model.state_dict().items()))

    def _logits(self, input_ids: Tensor, keep: int) -> Tensor:
        kept = {"logits_to_keep": keep} if self._keeps_logits else {}
        logits: Tensor = self.model(input_ids=input_ids, **self._cached, **kept).logits
        return logits[:, -keep:]


def _positions(config: Any) -> int:
    """Return how many positions a decoder has, all of them computed alike."""
    most = int(getattr(config, "max_position_embeddings", None) or NO_LIMIT)
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [r for r in rope.values() if isinstance(r, dict)]
    for kind in kinds:
        if kind.get("rope_type") == "longrope":
            own = kind.get("original_max_position_embeddings")
            own = own or getattr(config, "original_max_position_embeddings", None)
            most = min(most, int(own or most))
    return most
