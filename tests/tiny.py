"""Tiny random models, their noisy doubles, and a witness that checks every cached logit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor

from specdec.models import DecoderOnlyModel, LanguageModel
from specdec.zoo.tokenizer import train_tokenizer

VOCAB = 64
MAX_LENGTH = 640  # more than two blocks of cache positions
WINDOW = 6
TEXT_VOCAB = 300  # of models that speak through `tokenizer`
LINES = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "A house by the sea has a door, a window and a garden with a tree.",
    "One, two, three; the fourth line is the last line of this little text.",
)

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.4,  # wide enough for the argmax to vary
    "tie_word_embeddings": False,  # tied, the likeliest next token is the last one
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
MIXED = {"head_dim": 8, "sliding_window": WINDOW}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "mistral_sliding": ("MistralConfig", {"sliding_window": WINDOW}),
    "gpt2": ("GPT2Config", {}),
    "gpt_neox": ("GPTNeoXConfig", {}),
    "gemma2": ("Gemma2Config", MIXED),
    "gemma3": (
        "Gemma3TextConfig",
        MIXED | {"layer_types": ["sliding_attention", "full_attention"]},
    ),
    "phi3": ("Phi3Config", {"sliding_window": WINDOW}),
    "opt": ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "stablelm": ("StableLmConfig", {}),
}


def build(name: str, seed: int = 0, **changes: Any) -> Any:
    """Return a random float32 model of an architecture; the same one for the same arguments."""
    return _build(name, seed, tuple(sorted(changes.items())))


@cache
def _build(name: str, seed: int, changes: tuple[tuple[str, Any], ...]) -> Any:
    kind, own = ARCHITECTURES[name]
    config = getattr(transformers, kind)(**SIZES | own | dict(changes))
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


@cache
def noisy(name: str, seed: int = 0, noise: float = 0.05, **changes: Any) -> Any:
    """Return `build(name, seed)` with noise on its weights: a drafter that is often right."""
    model = copy.deepcopy(build(name, seed, **changes))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():
            scale = noise * weight.std() if weight.numel() > 1 else 0.0
            weight += scale * torch.randn(weight.shape, generator=generator)
    return model


@torch.inference_mode()
def full_logits(model: Any, tokens: Sequence[int]) -> Tensor:
    """Return the logits after every token from one pass without a cache, `[time, vocab]`."""
    logits: Tensor = model(torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return logits


def assert_same_logits(ours: Tensor, reference: Tensor) -> None:
    """Raise unless two logit tensors agree to float32 rounding."""
    torch.testing.assert_close(ours, reference, atol=5e-5, rtol=1e-5)


class Witness(LanguageModel):
    """A model that compares all its logits with an uncached pass, and keeps what it was fed.

    Args:
        model: a Hugging Face causal LM.
        inner: the adapter under test; None makes a `DecoderOnlyModel`.
    """

    def __init__(self, model: Any, inner: LanguageModel | None = None) -> None:
        self.model = model
        self.inner = inner or DecoderOnlyModel(model)
        self.vocab_size, self.max_length = self.inner.vocab_size, self.inner.max_length
        self.tokens: list[int] = []
        self.fed: list[list[int]] = []

    @property
    def length(self) -> int:  # type: ignore[override]
        """Tokens held by the adapter."""
        return self.inner.length

    def start(self, prompt: Sequence[int]) -> list[int]:
        self.tokens, self.fed = [], []
        return self.inner.start(prompt)

    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        self.tokens += tokens
        self.fed.append(list(self.tokens))
        logits = self.inner.extend(tokens, keep)
        assert self.inner.length == len(self.tokens)
        assert_same_logits(logits, full_logits(self.model, self.tokens)[-keep:])
        return logits

    def rollback_to(self, length: int) -> None:
        assert length <= len(self.tokens)
        del self.tokens[length:]
        self.inner.rollback_to(length)

    def extend_beams(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        return self.inner.extend_beams(parents, tokens)


@cache
def tokenizer() -> Any:
    """Return a byte-level tokenizer with at most `TEXT_VOCAB` tokens."""
    return train_tokenizer(LINES * 3, TEXT_VOCAB)
