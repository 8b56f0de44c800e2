"""A small network of any architecture that transformers can build, and what ours says with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from foredraft.loading import fit_target
from tests.tiny import Witness, assert_same_logits, full_logits

VOCAB, MOST_WEIGHTS = 64, 20_000_000
PROMPT = [7, 8, 9, 10, 11, 12]
SMALL: dict[str, Any] = {
    **{
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 64,
        "n_embd": 32,
        "d_model": 32,
    },
    **{"num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "n_head": 4},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "n_heads": 4, "num_heads": 4},
    **{"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "ffn_dim": 64},
    **{"num_decoder_layers": 2, "num_encoder_layers": 2, "d_kv": 8, "d_ff": 64, "head_dim": 8},
    **{"embedding_size": 32, "word_embed_proj_dim": 32, "n_inner": 64, "dim_ff": 64, "dim_head": 8},
    **{"max_position_embeddings": 128, "n_positions": 128, "max_seq_len": 128, "rotary_dim": 8},
    **{
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_local_experts": 4,
        "ffn_hidden_size": 64,
    },
    **{"n_routed_experts": 4, "num_experts_per_tok": 2, "kv_lora_rank": 16, "q_lora_rank": 16},
    **{
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_group": 1,
        "topk_group": 1,
    },
    **{"shared_expert_intermediate_size": 32, "sliding_window": 6, "attention_window": 8},
    **{"num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "d_embed": 32},
    **{"d_inner": 64, "d_head": 8, "dff": 64, "emb_dim": 32, "vocab_size_per_layer_input": VOCAB},
    **{"hidden_size_per_layer_input": 8, "num_kv_heads": 2, "pad_token_id": 0, "bos_token_id": 2},
    **{"eos_token_id": 1, "decoder_start_token_id": 2, "forced_eos_token_id": None, "n_ctx": 128},
    **{"image_token_id": 3, "decoder_vocab_size": VOCAB, "expert_capacity": 256},
    **{"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "initializer_range": 0.3},
    **{"layer_types": None, "moe_num_experts": 4, "num_global_layers": 1},
}
# Latent attention has as many keys as queries.
MULTI_HEAD = ("AXK1", "DeepseekV", "Glm4MoeLite", "MiniCPM3", "Youtu", "SarvamMLA")
ODD: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 6},
    "reformer": {"axial_pos_embds": False, "num_buckets": 4, "attn_layers": ["local", "local"]},
    "whisper": {"is_encoder_decoder": False},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2},
    "dots1": {"first_k_dense_replace": 0, "n_shared_experts": 1},
}
DEEP = ("hrm_text",)  # loops over its layers, which magnifies rounding


def tiny(kind: Any, changes: dict[str, Any] | None = None) -> Any:
    """Return a random network of a config class in float32; raises whatever it raises if none.

    Args:
        kind: of transformers.
        changes: of its settings.
    """
    try:
        return _built(kind, changes or {})
    except Exception:
        return _built(kind, {"num_key_value_heads": 4, **(changes or {})})


def _built(kind: Any, changes: dict[str, Any]) -> Any:
    config = kind(**_fields(kind) | ODD.get(kind.model_type, {}) | changes)
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = 2
    for name in ("text_config", "decoder", "encoder", "audio_config", "vision_config"):
        inside = getattr(config, name, None)
        if dataclasses.is_dataclass(inside):
            setattr(config, name, type(inside)(**_fields(type(inside))))
    loader: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    for part in (config, getattr(config, "text_config", None)):
        if type(part).__name__.startswith(MULTI_HEAD):
            part.num_key_value_heads = part.num_attention_heads
    with torch.device("meta"):
        size = sum(weight.numel() for weight in loader.from_config(config).parameters())
    if size > MOST_WEIGHTS:
        raise ValueError(f"not small: {size:,} weights")
    torch.manual_seed(0)
    network = loader.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(std=2.0 / weight.shape[-1] ** 0.5)
    return network.double() if config.model_type in DEEP else network


def _fields(kind: Any) -> dict[str, Any]:
    declared = {field.name for field in dataclasses.fields(kind)}
    fields = {k: v for k, v in SMALL.items() if k in declared}
    fields |= {"is_decoder": True} if "is_decoder" in declared else {}
    return fields


def check(network: Any) -> str:
    """Raise unless every logit beside a cache, in blocks and after roll-backs, is the uncached one.

    Returns:
        What remembers: a cache, or the tokens themselves.
    """
    target = fit_target(network)
    text = Witness(network, target).open(PROMPT)
    begin = text.begin
    text.extend(begin)
    causal = full_logits(network, begin, PROMPT)[-1]
    text.extend([5, 6, 7, 8, 9], keep=5)
    text.rollback_to(len(begin) - 1)
    assert_same_logits(text.extend([begin[-1], 9, 8, 7], keep=4)[0], causal)  # nothing looks on
    text.rollback_to(len(begin))
    for block, back in (([5, 6, 7, 8, 9], 3), ([10], 0), ([11, 12], 1), ([13, 14, 15, 16], 4)):
        text.extend(block, keep=len(block))
        text.rollback_to(text.length - back)
    text.extend([17])
    return type(text.memory.context.memory).__name__
