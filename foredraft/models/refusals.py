"""What a network refuses at its door: what is no network, and tokens it has never heard of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch

from foredraft.errors import ModelError, RequestError, quoted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_is_network(name: str, network: object, remedy: str = "") -> PreTrainedModel:
    """Return a Hugging Face module, or raise with what to give in place of what was given."""
    if isinstance(network, torch.nn.Module) and hasattr(network, "config"):
        return cast("PreTrainedModel", network)
    raise ModelError(
        f"{name} must be a Hugging Face model or a Network, not {quoted(network)}; load one, "
        "e.g. with AutoModelForCausalLM.from_pretrained(…)" + (f", or {remedy}" if remedy else "")
    )


def check_vocabulary_holds(tokens: Sequence[int], vocab_size: int) -> None:
    """Raise `RequestError` unless a model has an embedding for every token."""
    for token in tokens:
        if not 0 <= token < vocab_size:
            raise RequestError(f"token {token} is outside the vocabulary 0 … {vocab_size - 1}")
