"""A recipe → a freshly initialised network: Llama or T5, as transformers builds them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Protocol

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from foredraft.errors import ModelError
from foredraft.files import Json
from foredraft.zoo.recipe import Recipe, T5Shape


class Ends(Protocol):
    """What a network must know of its tokenizer."""

    pad_token_id: int
    eos_token_id: int
    bos_token_id: int


def build_network(recipe: Recipe, ends: Ends) -> PreTrainedModel:
    """Return a network of the recipe's shape; its seed decides the weights."""
    torch.manual_seed(recipe.seed)
    size, eos, pad = recipe.tokenizer.vocab_size, ends.eos_token_id, ends.pad_token_id
    shape: dict[str, Json] = asdict(recipe.model)
    shape |= {"vocab_size": size, "eos_token_id": eos, "pad_token_id": pad}
    if isinstance(recipe.model, T5Shape):
        config = T5Config(**shape)
        config.decoder_start_token_id = pad
        return T5ForConditionalGeneration(config)
    rope = {"rope_type": "default", "rope_theta": shape.pop("rope_theta")}
    shape |= {"tie_word_embeddings": True, "bos_token_id": ends.bos_token_id}
    return LlamaForCausalLM(LlamaConfig(rope_parameters=rope, **shape))


def check_finite(network: torch.nn.Module, what: str, remedy: str) -> None:
    """Raise `ModelError`, which says what it is and what to do, unless every weight is finite."""
    if not is_finite(network):
        raise ModelError(f"{what} has weights that are not finite; {remedy}")


@torch.no_grad()
def is_finite(network: torch.nn.Module) -> bool:
    """Whether every weight is a finite number."""
    return bool(torch.stack([p.isfinite().all() for p in network.parameters()]).all())
