"""Tiny random heads for tiny random targets, in memory and as folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from transformers import LlamaConfig, Qwen3Config

from foredraft.loading.head import laid_out
from foredraft.models import HeadModel, Network
from foredraft.models.head_module import HeadConfig, HeadModule

KINDS = {"llama": LlamaConfig, "qwen3": Qwen3Config}
COLUMNS = 24  # tokens that a head proposes


def module_for(
    target: Network,
    kind: str = "llama",
    *,
    seed: int = 0,
    layers: Sequence[int] = (0, 1, 2),
    columns: int = COLUMNS,
    norm_before_residual: bool = False,
    scale: float = 0.25,
    **changes: Any,
) -> HeadModule:
    """Return a random head for a target; the same one for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {
        **{"vocab_size": target.vocab_size, "hidden_size": target.state_size},
        **{"intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": target.max_length},
    }
    layer = KINDS[kind](**sizes | changes)
    tokens = torch.randperm(target.vocab_size, generator=generator)[:columns].sort().values
    config = HeadConfig(layer, tuple(layers), target.state_size, columns, norm_before_residual)
    module = HeadModule(config, tokens, target.output_rows(tokens).cpu())
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2:
                weight.normal_(0, scale, generator=generator)
            else:
                weight.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def head_for(target: Network, kind: str = "llama", **changes: Any) -> HeadModel:
    """Return a random head in the runtime that suits its target."""
    return laid_out(module_for(target, kind, **changes), target)


def write_head(folder: Path, module: HeadModule, *, fields: Any = None, **tensors: Any) -> Path:
    """Write a head as the `speculators` library does; None among fields or tensors leaves one out.

    Args:
        folder: made if it is not there.
        module: the head.
        fields: of config.json, to be changed.
        tensors: to be changed, dots written as two underscores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = module.config
    document: dict[str, Any] = {
        "speculators_model_type": "eagle3",
        "draft_vocab_size": config.draft_vocab_size,
        "target_hidden_size": config.target_size,
        "eagle_aux_hidden_state_layer_ids": list(config.layers),
        "norm_before_residual": config.norm_before_residual,
        "transformer_layer_config": config.layer.to_dict(),
    }
    document = {k: v for k, v in (document | (fields or {})).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(document))
    columns = torch.arange(config.draft_vocab_size)
    held = {name: weight.contiguous() for name, weight in module.state_dict().items()}
    held |= {"d2t": module.tokens - columns, "lm_head.weight": module.output.contiguous()}
    held |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in held.items() if tensor is not None}
    safetensors.torch.save_file(kept, folder / "model.safetensors")
    return folder


def told(target: Network, head: HeadModel, tokens: Sequence[int]) -> Any:
    """Return a head's context that is ready to read all tokens but the first, and its features."""
    context = target.open(tokens)
    features = context.watch(head.layers)
    context.extend(tokens)
    read = head.open(tokens)
    head.skip_to(read, 1)
    head.tell(read, features.between(0, len(tokens) - 1))
    return read, features


def parameters_of(module: nn.Module) -> int:
    """Return how many numbers a module learns."""
    return sum(weight.numel() for weight in module.parameters())
