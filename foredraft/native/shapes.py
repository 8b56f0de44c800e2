"""Whether a network of the family has the weights that its config promises.

Compiled code reads and writes by the config's numbers: one that does not fit the weights would make
it read beyond them, or divide by zero. So everything is compared before the first pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, nn

from foredraft.errors import ModelError, quoted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

COUNTS = (
    *("num_attention_heads", "num_key_value_heads", "num_hidden_layers"),
    *("hidden_size", "intermediate_size", "vocab_size"),
)
PRECISIONS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
REMAKE = "correct config.json, or convert the model again"


def check_shapes(network: PreTrainedModel, *, is_unread: bool = False) -> None:
    """Raise `ModelError` unless config and weights of a causal LM of the family fit together.

    The weights of one that `is_unread` lie on the device `meta`.
    """
    config, inner = network.config, network.model
    for name in COUNTS:
        value = getattr(config, name, None)
        if type(value) is not int or value < 1:
            _refuse(name, value, "an integer, 1 or more")
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % kv_heads:
        legal = [n for n in range(1, heads + 1) if heads % n == 0]
        _refuse("num_key_value_heads", kv_heads, f"a divisor of the {heads} heads: {legal}")
    if len(inner.layers) != config.num_hidden_layers:
        _refuse("num_hidden_layers", config.num_hidden_layers, f"the {len(inner.layers)} there are")
    epsilon = config.rms_norm_eps
    if not isinstance(epsilon, float | int) or not 0 <= epsilon < math.inf:
        _refuse("rms_norm_eps", epsilon, "a finite number, 0 or more")
    head_dim = getattr(inner.layers[0].self_attn, "head_dim", None)
    if type(head_dim) is not int or head_dim < 2 or head_dim % 2:
        _refuse("head_dim", head_dim, "an even integer, 2 or more")
    for name, shape in _promised(network, head_dim):
        check_tensor(name, found_in(network, name), shape, None if is_unread else network.device)
    share = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    _check_rotations(rotations_of(inner.rotary_emb), int(head_dim * share) // 2)


def _promised(network: PreTrainedModel, head_dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and the shape of every weight; biases, and gains of heads, where they are."""
    config = network.config
    hidden, vocab = config.hidden_size, config.vocab_size
    yield "model.embed_tokens.weight", (vocab, hidden)
    yield "model.norm.weight", (hidden,)
    linears = {"lm_head": (vocab, hidden)}
    for i, layer in enumerate(network.model.layers):
        place = f"model.layers.{i}"
        for name, _ in layer.named_modules():
            if name.endswith("_layernorm"):
                yield f"{place}.{name}.weight", (hidden,)
        if hasattr(layer.self_attn, "q_norm"):
            yield f"{place}.self_attn.q_norm.weight", (head_dim,)
            yield f"{place}.self_attn.k_norm.weight", (head_dim,)
        linears |= {f"{place}.{name}": shape for name, shape in _linears(layer, config, head_dim)}
    for name, shape in linears.items():
        yield f"{name}.weight", shape
        if found_in(network, f"{name}.bias") is not None:
            yield f"{name}.bias", shape[:1]


def _linears(
    layer: nn.Module, config: PreTrainedConfig, head_dim: int
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the products of a layer; Phi-3 has some of them in one."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = (
        count * head_dim for count in (config.num_attention_heads, config.num_key_value_heads)
    )
    if hasattr(layer.self_attn, "qkv_proj"):
        yield "self_attn.qkv_proj", (queries + 2 * keys, hidden)
        yield "mlp.gate_up_proj", (2 * inner, hidden)
    else:
        yield "self_attn.q_proj", (queries, hidden)
        yield from ((f"self_attn.{name}_proj", (keys, hidden)) for name in "kv")
        yield from ((f"mlp.{name}_proj", (inner, hidden)) for name in ("gate", "up"))
    yield "self_attn.o_proj", (hidden, queries)
    yield "mlp.down_proj", (hidden, inner)


def found_in(network: nn.Module, name: str) -> object:
    """Return what a module holds under a name with dots; None if there is nothing."""
    try:
        return attrgetter(name)(network)
    except AttributeError:
        return None


def check_tensor(
    name: str, found: object, shape: tuple[int, ...], device: torch.device | None
) -> Tensor:
    """Return a weight; raise `ModelError` unless it is of this shape and can be computed with."""
    if not isinstance(found, Tensor):
        raise ModelError(f"the network has no {name}; legal: a tensor {list(shape)}; {REMAKE}")
    if found.shape != shape:
        raise ModelError(
            f"{name} has shape {list(found.shape)}; legal by its config: {list(shape)}; {REMAKE}"
        )
    if found.dtype not in PRECISIONS:
        odd, *legal = (str(p).removeprefix("torch.") for p in (found.dtype, *PRECISIONS))
        raise ModelError(
            f"{name} is of {odd}; legal in the native runtime: {', '.join(legal)}; use --runtime "
            "transformers"
        )
    if device is not None and (found.device != device or found.device.type == "meta"):
        raise ModelError(
            f"{name} is on device {found.device}; legal: all weights on one that holds them "
            f"({device}); load the model without offloading, or use --runtime transformers"
        )
    return found


def rotations_of(rotary: nn.Module) -> list[tuple[Tensor, float]]:
    """Return frequencies and scale of full attention's rotations, then those of windows' own."""
    found = []
    for prefix in ("", "full_attention_", "sliding_attention_"):
        frequencies = getattr(rotary, f"{prefix}inv_freq", None)
        if isinstance(frequencies, Tensor):
            scale = float(getattr(rotary, f"{prefix}attention_scaling"))
            found.append((frequencies.float(), scale))
    return found


def _check_rotations(rotations: list[tuple[Tensor, float]], legal: int) -> None:
    shapes = [tuple(frequencies.shape) for frequencies, _ in rotations]
    finite = all(bool(frequencies.isfinite().all()) for frequencies, _ in rotations)
    if not shapes or any(shape != (legal,) for shape in shapes) or not finite:
        raise ModelError(
            f"the rotary embedding has {shapes} frequencies, not all of them finite or as many as "
            f"half of what is rotated of a head; legal: {legal} finite ones; {REMAKE}"
        )
    for _, scale in rotations:
        if not math.isfinite(scale):
            _refuse("attention_factor", scale, "a finite number")


def _refuse(name: str, value: object, legal: str) -> NoReturn:
    raise ModelError(f"{name} is {quoted(value)}; legal: {legal}; {REMAKE}")
