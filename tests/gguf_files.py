"""Tiny GGUF files, written with gguf's own writer and llama.cpp's conventions."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.tiny import TEXT_VOCAB, tokenizer

Add = Callable[[gguf.GGUFWriter], object]
SIZES: dict[str, Any] = {
    "vocab_size": TEXT_VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
SLIDING = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
GEMMA3: dict[str, Any] = {
    "layer_types": SLIDING,
    "sliding_window": 6,
    "query_pre_attn_scalar": 16,
    "tie_word_embeddings": True,
}
# What a file calls an architecture → transformers' config class, and what it has of its own.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "smollm3": ("SmolLM3Config", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "gemma3": ("Gemma3TextConfig", GEMMA3),
    "phi3": ("Phi3Config", {"sliding_window": 6, "original_max_position_embeddings": 128}),
}
PERMUTED = ("llama", "smollm3")


@cache
def network(name: str, **changes: Any) -> Any:
    """Return a random network of an architecture; its gains and biases are random too."""
    kind, own = ARCHITECTURES[name]
    config = getattr(transformers, kind)(**SIZES | own | changes)
    torch.manual_seed(0)
    found: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in found.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight) / 4)
    return found.eval()


def in_file(name: str, config: Any, known_as: str, tensor: Tensor) -> Tensor:
    """Return a tensor as llama.cpp's converter writes it."""
    if name == "gemma3" and known_as.endswith("norm.weight"):
        return tensor + 1
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    part = known_as.split(".")[-2]
    if name in PERMUTED and part in heads:
        count = heads[part]
        return tensor.reshape(count, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
    return tensor


def write(
    path: Path,
    name: str = "llama",
    kind: str = "F32",
    *,
    add: Add = lambda writer: None,
    speaks: bool = True,
    says_length: bool = True,
    model: Any = None,
) -> Any:
    """Write a file and return the network in it; matrices are of a kind.

    Args:
        path: of the file.
        name: of the architecture.
        kind: of matrices whose rows are whole blocks of it.
        add: more metadata, or tensors.
        speaks: whether it has a tokenizer.
        says_length: whether it has its context length.
        model: the network; None for that of the architecture.
    """
    model = network(name) if model is None else model
    writer = gguf.GGUFWriter(path, name)
    describe(writer, model.config, says_length=says_length)
    if speaks:
        add_tokenizer(writer)
    add(writer)
    arch = {text: number for number, text in gguf.MODEL_ARCH_NAMES.items()}[name]
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    for known, tensor in model.state_dict().items():
        if known == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        stem, ending = known.rsplit(".", 1)
        known_as = f"{names.get_name(stem)}.{ending}"
        add_tensor(writer, known_as, in_file(name, model.config, known_as, tensor), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor, kind: str) -> None:
    """Add a tensor in a kind; vectors stay as they are."""
    quantization = gguf.GGMLQuantizationType[kind]
    block = gguf.GGML_QUANT_SIZES[quantization][0]
    if tensor.ndim < 2 or kind == "F32" or tensor.shape[1] % block:
        writer.add_tensor(name, tensor.numpy())
    elif kind.endswith("_K"):
        writer.add_tensor(name, random_blocks(kind, *tensor.shape), raw_dtype=quantization)
    else:
        rows = gguf.quants.quantize(tensor.numpy(), quantization)
        writer.add_tensor(name, rows, raw_dtype=quantization if kind != "F16" else None)


def random_blocks(kind: str, rows: int, columns: int) -> np.ndarray:
    """Return blocks of a kind that gguf cannot make: random, with sane scales."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    source = np.random.default_rng(0)
    blocks = source.integers(0, 256, (rows * columns // block, size), dtype=np.uint8)
    halves = slice(208, 210) if kind == "Q6_K" else slice(0, 4)
    scales = source.uniform(0.001, 0.01, (len(blocks), (halves.stop - halves.start) // 2))
    blocks[:, halves] = scales.astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def describe(writer: gguf.GGUFWriter, config: Any, *, says_length: bool) -> None:
    """Add what a network is."""
    if says_length:
        writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if config.model_type == "gemma3_text":
        writer.add_sliding_window_pattern([kind == SLIDING[0] for kind in config.layer_types])
    if config.model_type in ("gemma3_text", "phi3"):
        writer.add_sliding_window(config.sliding_window)


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """Add the tokenizer of the tiny models."""
    backend = tokenizer().backend_tokenizer
    texts = {place: text for text, place in tokenizer().get_vocab().items()}
    special = set(tokenizer().all_special_ids) | set(range(5))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    held = [texts[place] for place in range(len(texts))]
    unused = [f"[PAD{place}]" for place in range(len(held), TEXT_VOCAB)]
    writer.add_token_list(held + unused)
    kinds = [3 if place in special else 1 for place in range(len(held))]
    writer.add_token_types(kinds + [5] * len(unused))

    merges = json.loads(backend.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(tokenizer().chat_template)
