"""The Llama family's cousins in the compiled pass: windows, four norms, layers without rotation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from foredraft.errors import ModelError
from foredraft.loading import LoadOptions, load
from foredraft.loading.runtime import Runtime
from foredraft.models import DecoderOnlyModel
from foredraft.native.fused import FusedModel
from foredraft.native.network import NativeModel
from foredraft.native.weights import is_in_family, is_plain
from tests.native.test_fused import needs_a_compiler, processor
from tests.texts import first_pass
from tests.tiny import (
    SIZES,
    TEXT_VOCAB,
    WINDOW,
    Witness,
    assert_same_logits,
    full_logits,
    random_tokens,
    tokenizer,
    walk,
)

__all__ = ["processor"]
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
THREE = {"num_hidden_layers": 3, "sliding_window": WINDOW}
GEMMA = THREE | {"layer_types": MIXED, "query_pre_attn_scalar": 20}
ODD = {"hidden_size": 84, "intermediate_size": 150, "head_dim": 22}
LINEAR = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
PARTIAL = {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}
COUSINS: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("MistralConfig", {"sliding_window": WINDOW}),
    "qwen2": ("Qwen2Config", THREE | {"layer_types": MIXED, "use_sliding_window": True}),
    "qwen3": (
        "Qwen3Config",
        THREE | {"head_dim": 8, "layer_types": MIXED, "use_sliding_window": True},
    ),
    "smollm3": ("SmolLM3Config", {"num_hidden_layers": 3, "no_rope_layer_interval": 2}),
    "smollm3_sliding": (
        "SmolLM3Config",
        THREE | {"no_rope_layer_interval": 2, "layer_types": MIXED, "use_sliding_window": True},
    ),
    "gemma3": ("Gemma3TextConfig", GEMMA | {"head_dim": 8}),
    "gemma3_odd": ("Gemma3TextConfig", GEMMA | ODD),
    "gemma3_stretched": ("Gemma3TextConfig", GEMMA | {"head_dim": 8, "rope_parameters": LINEAR}),
    "gemma3_tied": ("Gemma3TextConfig", GEMMA | {"head_dim": 8, "tie_word_embeddings": True}),
    "phi3": ("Phi3Config", {}),
    "phi3_sliding": ("Phi3Config", {"sliding_window": WINDOW}),
    "phi3_partial": ("Phi3Config", {"rope_parameters": PARTIAL}),
    # Less wide: transformers' own float32 is off by 1.5e-4 otherwise.
    "phi3_odd": (
        "Phi3Config",
        {"hidden_size": 88, "intermediate_size": 150, "initializer_range": 0.2},
    ),
}
every_cousin = pytest.mark.parametrize("cousin", COUSINS)


def network(cousin: str) -> Any:
    name, changes = COUSINS[cousin]
    config = getattr(transformers, name)(**SIZES | {"vocab_size": TEXT_VOCAB} | changes)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@needs_a_compiler
@every_cousin
def test_logits_are_those_of_transformers_after_any_extend_and_rollback(
    cousin: str, processor: str
) -> None:
    source, reference = random.Random(cousin), network(cousin)
    model = Witness(reference, FusedModel(reference))
    for length in (1, 7, 40):
        text = model.open(random_tokens(source, length))
        text.extend(text.begin, keep=length)
        walk(text, source, 12)


@needs_a_compiler
@every_cousin
def test_a_tokens_logits_do_not_depend_on_its_pass(cousin: str, processor: str) -> None:
    source, model = random.Random(cousin), FusedModel(network(cousin))
    tokens = random_tokens(source, 80)
    whole = first_pass(model, tokens, keep=len(tokens))
    text = model.open(tokens)
    while text.length < len(tokens):
        begin, count = text.length, min(source.randint(1, 9), len(tokens) - text.length)
        logits = text.extend(tokens[begin : begin + count], keep=count)
        assert torch.equal(logits, whole[begin : begin + count])


@needs_a_compiler
@every_cousin
def test_a_folder_is_read_without_a_module(cousin: str, tmp_path: Path) -> None:
    reference = network(cousin)
    reference.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = load(str(tmp_path), "target", LoadOptions(device="cpu")).model
    assert isinstance(model, FusedModel)
    tokens = random_tokens(random.Random(0), 30)
    assert_same_logits(first_pass(model, tokens, keep=30), full_logits(reference, tokens))


@every_cousin
def test_without_the_compiled_pass_transformers_computes_them(
    cousin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foredraft.loading import runtime

    monkeypatch.setattr(runtime, "can_fuse", lambda: False)
    reference = network(cousin)
    assert is_in_family(reference.config)
    assert not is_plain(reference.config)
    assert type(Runtime("auto").adapt(reference)) is DecoderOnlyModel
    with pytest.raises(ModelError, match="does not know"):
        NativeModel(reference)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Gemma3TextConfig", GEMMA | {"attn_logit_softcapping": 50.0}),
        ("Gemma3TextConfig", GEMMA | {"final_logit_softcapping": 30.0}),
        ("Gemma3TextConfig", GEMMA | {"use_bidirectional_attention": True}),
        ("LlamaConfig", {"hidden_act": "relu"}),
        ("LlamaConfig", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
        ("Gemma2Config", {"head_dim": 8}),
    ],
)
def test_what_is_computed_otherwise_is_left_to_transformers(
    name: str, changes: dict[str, Any]
) -> None:
    config = getattr(transformers, name)(**SIZES | changes)
    assert not is_in_family(config)
