"""The encoder of a Hugging Face encoder–decoder: it reads the prompt, once, for every decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foredraft.core import Prompt
from foredraft.errors import ContextOverflow, RequestError
from foredraft.models.decoder_only import foreign_pass
from foredraft.models.positions import positions_of
from foredraft.ownership import Owned

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Encoder(Owned):
    """Prompt → what the decoders read; remembers the newest, so that two decoders may share it.

    Attributes:
        vocab_size: rows of its embedding table; 0 if it reads features instead of tokens.
        hidden_size: of what it returns.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.module: nn.Module = model.get_encoder()
        config = model.config
        self._device, self._dtype = model.device, model.dtype
        self._reads_features = model.main_input_name != "input_ids"
        embeddings = None if self._reads_features else model.get_input_embeddings()
        self.vocab_size: int = getattr(embeddings, "num_embeddings", 0)
        self.max_length = positions_of(
            config, self.module, ("max_encoder_position_embeddings", "max_source_positions")
        )
        encoder_config = getattr(config, "encoder", None) or config.get_text_config(encoder=True)
        self.hidden_size = int(encoder_config.hidden_size)
        self._prompt: Prompt | None = None
        self._hidden: Tensor | None = None

    def check(self, prompt: Prompt) -> None:
        """Raise what `encode` would raise for a prompt, computing nothing.

        Raises:
            RequestError: tokens where features are read, or the other way round.
            ContextOverflow: more tokens than the encoder has positions.
        """
        self._inputs(prompt)

    def forget(self) -> None:
        """Read the next prompt anew, even if it is the same: each generation pays for its own."""
        with self.owner.lock:
            self._prompt = self._hidden = None

    def weights(self) -> Iterator[Tensor]:
        """Yield every weight, in the same order always."""
        yield from (tensor for _, tensor in sorted(self.module.state_dict().items()))

    @torch.inference_mode()
    def encode(self, prompt: Prompt) -> Tensor:
        """Return the hidden states of a prompt, shape `[1, source, hidden]`.

        Args:
            prompt: token ids; or, for a model that reads them, features of shape
                `[features, frames]`.
        """
        with self.owner.lock:  # two decoders, in two threads, may share it
            if self._hidden is None or not _same(prompt, self._prompt):
                inputs = self._inputs(prompt)
                with foreign_pass(self.module):
                    self._hidden = self.module(inputs).last_hidden_state
                self._prompt = prompt.clone() if isinstance(prompt, Tensor) else list(prompt)
            return self._hidden

    def _inputs(self, prompt: Prompt) -> Tensor:
        if self._reads_features != isinstance(prompt, Tensor):
            wanted = "features of shape [features, frames]" if self._reads_features else "token ids"
            raise RequestError(f"this model's encoder reads {wanted}, not {type(prompt).__name__}")
        if isinstance(prompt, Tensor):
            if prompt.ndim != 2:
                raise RequestError(
                    f"features must have shape [features, frames], not {list(prompt.shape)}; "
                    "batches are not supported, call it for each"
                )
            return prompt[None].to(self._device, self._dtype)  # [1, features, frames]
        if len(prompt) > self.max_length:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens but the encoder has {self.max_length} "
                f"positions; shorten the prompt to {self.max_length} tokens"
            )
        return torch.tensor([prompt], device=self._device)  # [1, source]


def _same(one: Prompt, other: Prompt | None) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return other is not None and list(one) == list(other)
