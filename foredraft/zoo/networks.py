"""A recipe → a freshly initialised network: Llama or T5, as transformers builds them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from foredraft.errors import ModelError
from foredraft.zoo.recipe import LlamaShape, Recipe, T5Shape


def build_network(recipe: Recipe, tokenizer: Any) -> Any:
    """Return a network of the recipe's shape; its seed decides the weights."""
    torch.manual_seed(recipe.seed)
    ids = {
        "vocab_size": recipe.tokenizer.vocab_size,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if isinstance(recipe.model, T5Shape):
        return T5ForConditionalGeneration(_t5(recipe.model, ids))
    return LlamaForCausalLM(_llama(recipe.model, {**ids, "bos_token_id": tokenizer.bos_token_id}))


def _llama(shape: LlamaShape, ids: dict[str, Any]) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        **ids,
    )


def _t5(shape: T5Shape, ids: dict[str, Any]) -> T5Config:
    config = T5Config(
        d_model=shape.d_model,
        d_kv=shape.d_kv,
        d_ff=shape.d_ff,
        num_heads=shape.num_heads,
        num_layers=shape.num_layers,
        num_decoder_layers=shape.num_decoder_layers,
        dropout_rate=shape.dropout_rate,
        **ids,
    )
    config.decoder_start_token_id = config.pad_token_id
    return config


def check_finite(network: Any, what: str, remedy: str) -> None:
    """Raise unless every weight is a finite number.

    Args:
        network: a module.
        what: it is, for the message.
        remedy: what to do then.

    Raises:
        ModelError: one is not.
    """
    if not is_finite(network):
        raise ModelError(f"{what} has weights that are not finite; {remedy}")


@torch.no_grad()
def is_finite(network: Any) -> bool:
    """Whether every weight is a finite number."""
    return bool(torch.stack([p.isfinite().all() for p in network.parameters()]).all())
