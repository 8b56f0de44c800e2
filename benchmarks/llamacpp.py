"""llama.cpp on the same weights: conversion to GGUF, greedy decoding, prompt-lookup drafting.

Needs the extra `llamacpp`, whose binding builds llama.cpp from source. Token ids are fed directly,
so that no tokenizer can differ; the file's tokenizer is there because llama.cpp asks for one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from side_by_side import Clock, Run
from torch import Tensor

from foredraft.bench.prompt_sets import PromptItem
from foredraft.text import encode_prompt

CONTEXT = 1024  # tokens; the bundled target's positions
LAYER_NAMES = {  # a Hugging Face Llama's → GGUF's
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
SETTINGS = {  # the writer's → the config's
    **{"context_length": "max_position_embeddings", "embedding_length": "hidden_size"},
    **{"block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size"},
    **{"head_count": "num_attention_heads", "head_count_kv": "num_key_value_heads"},
    **{"layer_norm_rms_eps": "rms_norm_eps", "vocab_size": "vocab_size"},
}
OTHER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(network: Any, tokenizer: Any, path: Path) -> None:
    """Write a Llama as a GGUF file, in float32 or bfloat16 as its weights are.

    The network is a Hugging Face `LlamaForCausalLM` with default rotary embeddings, its tokenizer a
    byte-level BPE.
    """
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, network.config, network.dtype)
    _add_tokenizer(writer, tokenizer, network.config.vocab_size)
    # Tied weights are named once; llama.cpp then takes the embedding as its output layer.
    for name, weight in network.named_parameters():
        new = gguf_name(name)
        values = gguf_order(new, weight.detach(), network.config).float().cpu().numpy()
        if network.dtype == torch.bfloat16 and values.ndim > 1:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(new, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:  # norms are float32 in every file
            writer.add_tensor(new, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Return a weight's name in GGUF."""
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part.removesuffix('.weight')]}.weight"


def gguf_order(name: str, weight: Tensor, config: Any) -> Tensor:
    """Return a weight with its rows as llama.cpp expects them.

    Hugging Face rotates the first half of a head's dimensions against the second, llama.cpp each
    even one against its neighbour: the rows of queries and keys take turns.
    """
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    part = name.split(".")[-2]
    if part not in heads:
        return weight
    halves = weight.view(heads[part], 2, -1, weight.shape[-1])  # [heads, 2, head_dim / 2, hidden]
    return halves.transpose(1, 2).reshape(weight.shape)


def _add_shape(writer: Any, config: Any, dtype: torch.dtype) -> None:
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    for name, setting in SETTINGS.items():
        getattr(writer, f"add_{name}")(getattr(config, setting))
    for name in ("key_length", "value_length", "rope_dimension_count"):
        getattr(writer, f"add_{name}")(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    kinds = gguf.LlamaFileType
    writer.add_file_type(kinds.MOSTLY_BF16 if dtype == torch.bfloat16 else kinds.ALL_F32)


def _add_tokenizer(writer: Any, tokenizer: Any, vocab_size: int) -> None:
    texts = {i: text for text, i in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([texts.get(i, f"<unused {i}>") for i in range(vocab_size)])
    writer.add_token_types(
        [kinds.CONTROL if i in special else kinds.NORMAL for i in range(vocab_size)]
    )
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)


def llamacpp_run(path: Path, tokenizer: Any, *, cuda: bool, dtype: str, lookup: int) -> Run:
    """Return a function that generates greedily with llama.cpp from a GGUF file.

    The tokenizer, Hugging Face's, is for both ends of the text; with `cuda` all layers lie on the
    GPU; `float32` keeps keys and values in float32 too. The binding's prompt lookup drafts `lookup`
    tokens; 0 decodes plainly.
    """
    import llama_cpp
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

    threads = torch.get_num_threads()
    cache = llama_cpp.GGML_TYPE_F32 if dtype == "float32" else llama_cpp.GGML_TYPE_F16
    model = llama_cpp.Llama(
        str(path),
        n_ctx=CONTEXT,
        n_threads=threads,
        n_threads_batch=threads,
        n_gpu_layers=-1 if cuda else 0,
        logits_all=bool(lookup),
        draft_model=LlamaPromptLookupDecoding(num_pred_tokens=lookup) if lookup else None,
        type_k=cache,
        type_v=cache,
        verbose=False,
    )

    def run(item: PromptItem, clock: Clock) -> list[int]:
        tokens = encode_prompt(tokenizer, item.prompt)
        model.reset()  # else a prompt that was seen before would not be computed again
        generated: list[int] = []
        for token in model.generate(tokens, temp=0.0):
            clock.emitted(1)
            generated.append(int(token))
            if token == tokenizer.eos_token_id or len(generated) == item.length:
                break
        tokenizer.decode(generated, skip_special_tokens=True)
        return generated

    return run
