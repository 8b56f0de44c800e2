"""The architectures that a GGUF file may name: what their tensors are called, and how they differ.

Names and layouts are llama.cpp's (gguf-py's `constants.py` and `tensor_mapping.py`, and its
`convert_hf_to_gguf.py`, which permutes rows and adds one to gains).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GEMMA3 = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
# Of a matrix that is several: the name of each, in the order of their rows.
PARTS = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}
PHI3 = {
    **{ours: theirs for ours, theirs in LAYER.items() if ours not in sum(PARTS.values(), ())},
    **{"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
}
ROPE_FACTORS = "rope_freqs.weight"  # Llama 3's; belongs to no module
NAME = re.compile(r"(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)")


@dataclass(frozen=True)
class Architecture:
    """One architecture of GGUF.

    Attributes:
        model_type: of transformers.
        neighbours: whether the rows of query and key lie so that neighbours rotate together.
        gains_hold_one: whether the gains of norms hold the one that transformers adds to them.
        layer: names of a layer's modules in a file, by those in transformers.
    """

    model_type: str
    neighbours: bool = False
    gains_hold_one: bool = False
    layer: Mapping[str, str] = field(default_factory=lambda: LAYER)

    def name_in_file(self, name: str) -> str | None:
        """Return what a file calls a tensor that transformers calls so; None if it has none."""
        found = NAME.fullmatch(name)
        if found is None:
            return None
        place, module, what = found.groups()
        if place is None:
            return f"{TOP[module]}.{what}" if module in TOP else None
        return f"blk.{place}.{self.layer[module]}.{what}" if module in self.layer else None


ARCHITECTURES = {
    "llama": Architecture("llama", neighbours=True),
    "mistral": Architecture("mistral", neighbours=True),
    "mistral3": Architecture("mistral", neighbours=True),
    "smollm3": Architecture("smollm3", neighbours=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma3": Architecture("gemma3_text", gains_hold_one=True, layer=LAYER | GEMMA3),
    "phi3": Architecture("phi3", layer=PHI3),
}
