"""Tiny random models, their noisy doubles, and a witness that checks every cached logit."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor

from foredraft.core import Prompt
from foredraft.loading import fit_target
from foredraft.loading.runtime import Runtime
from foredraft.models import Context, Network, Wrapper
from foredraft.zoo.tokenizer import train_tokenizer

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

# The same networks once more, computed by the native runtime.
NATIVE = {f"{name}:native": ARCHITECTURES[name] for name in ("llama", "qwen2", "qwen3", "mistral")}
ARCHITECTURES |= NATIVE

SEQ2SEQ_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,  # not as many as the encoder has
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 96,
    "init_std": 0.4,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 2,
}
WHISPER: dict[str, Any] = {
    "num_mel_bins": 8,
    "max_source_positions": 20,
    "max_target_positions": 64,
}
SWITCH: dict[str, Any] = {
    **{"num_heads": 4, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2},
    **{"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 2},
    "expert_capacity": 256,  # enough that no token is dropped, whatever shares its pass
}
SEQ2SEQ: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": (
        "T5Config",
        {"num_heads": 4, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 3},
    ),
    "bart": ("BartConfig", {}),
    "mbart": ("MBartConfig", {"forced_bos_token_id": 5}),
    "marian": ("MarianConfig", {"decoder_start_token_id": 0}),
    "m2m_100": ("M2M100Config", {"forced_bos_token_id": 7}),
    "whisper": ("WhisperConfig", WHISPER),
    "switch": ("SwitchTransformersConfig", SWITCH),
}
SEQ2SEQ["t5:native"] = SEQ2SEQ["t5"]


def build(name: str, seed: int = 0, **changes: Any) -> Any:
    """Return a random float32 model of an architecture; the same one for the same arguments."""
    return _build(name, seed, tuple(sorted(changes.items())))


@cache
def _build(name: str, seed: int, changes: tuple[tuple[str, Any], ...]) -> Any:
    kind, own = (ARCHITECTURES | SEQ2SEQ)[name]
    sizes = SEQ2SEQ_SIZES if name in SEQ2SEQ else SIZES
    config = getattr(transformers, kind)(**sizes | own | dict(changes))
    loader: Any = transformers.AutoModelForCausalLM
    if name in SEQ2SEQ:
        listens = name == "whisper"
        loader = transformers.AutoModelForSpeechSeq2Seq if listens else None
        loader = loader or transformers.AutoModelForSeq2SeqLM
    torch.manual_seed(seed)
    model = loader.from_config(config, dtype=torch.float32)
    if name in SEQ2SEQ:
        _speak_up(model)
        model.generation_config.forced_bos_token_id = own.get("forced_bos_token_id")
    model.runtime = Runtime("native" if name.endswith(":native") else "transformers")
    return model.eval()


def adapt(network: Any, **settings: Any) -> Network:
    """Return the adapter of a causal LM in the runtime that its name asked for."""
    model: Network = network.runtime.adapt(network, **settings)
    return model


@torch.no_grad()
def _speak_up(model: Any) -> None:
    """Widen the weights: as transformers draws them, such a model repeats one token for ever."""
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.normal_(std=2.0 / weight.shape[-1] ** 0.5)
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight) / 4)  # no longer tied


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
def full_logits(model: Any, tokens: Sequence[int], prompt: Prompt = ()) -> Tensor:
    """Return the logits after every token from one pass without a cache, `[time, vocab]`.

    Args:
        model: a Hugging Face module.
        tokens: the whole sequence; of an encoder–decoder, the decoder's.
        prompt: what an encoder reads.
    """
    ids = torch.tensor([list(tokens)])
    if not model.config.is_encoder_decoder:
        logits: Tensor = model(ids, use_cache=False).logits[0]
        return logits
    read = prompt[None] if isinstance(prompt, Tensor) else torch.tensor([list(prompt)])
    logits = model(read, decoder_input_ids=ids, use_cache=False).logits[0]
    return logits


def assert_same_logits(ours: Tensor, reference: Tensor) -> None:
    """Raise unless two logit tensors agree to float32 rounding."""
    torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-5)


def random_tokens(source: random.Random, count: int) -> list[int]:
    """Return tokens of the tiny vocabulary."""
    return [source.randrange(VOCAB) for _ in range(count)]


def walk(text: Context, source: random.Random, num_moves: int) -> None:
    """Extend by 1 … 5 tokens, keep 1 … all of them, and roll back every other time."""
    for _ in range(num_moves):
        new = random_tokens(source, source.randint(1, 5))
        text.extend(new, keep=source.randint(1, len(new)))
        if source.random() < 0.5:
            text.rollback_to(source.randint(max(0, text.length - 6), text.length))


class Witness(Wrapper):
    """A network that compares all its logits with an uncached pass, and keeps what it was fed.

    Args:
        model: a Hugging Face causal LM.
        inner: the adapter under test; None makes the one that fits the model.

    Attributes:
        text: the newest.
        fed: the tokens that it held after each of its passes.
    """

    text: Context
    fed: list[list[int]]

    def __init__(self, model: Any, inner: Network | None = None) -> None:
        super().__init__(inner or fit_target(model, model.runtime))
        self.model = model

    @property
    def tokens(self) -> list[int]:
        """What the newest text holds."""
        tokens: list[int] = self.text.memory.tokens
        return tokens

    def open(self, prompt: Prompt) -> Context:
        self.fed, self.text = [], super().open(prompt)
        return self.text

    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        logits = super().logits(context, tokens, keep)
        held = list(context.memory.tokens)
        self.fed.append(held)
        assert context.memory.context.length == len(held)
        assert_same_logits(logits, full_logits(self.model, held, context.prompt)[-keep:])
        return logits


@cache
def tokenizer() -> Any:
    """Return a byte-level tokenizer with at most `TEXT_VOCAB` tokens."""
    return train_tokenizer(LINES * 3, TEXT_VOCAB)
