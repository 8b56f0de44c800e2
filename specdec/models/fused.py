"""The native runtime of a CPU: the Llama family as one C function a pass (fused.c).

Between its products nothing returns to Python, a draft is one call, and a token's logits do not
depend, to the bit, on how many tokens share its pass.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from specdec.models.compiler import load_library
from specdec.models.decoder_only import CausalModel
from specdec.models.native import KeyValueMemory, check_is_in_family
from specdec.models.weights import LayerWeights, Weights

KEYS = 16  # of fused.c: heads are padded to a multiple of so many dimensions
SINGLE, HALF, TILED = range(3)  # kinds of matrices
CHUNK = 64  # tokens fed at once; a longer prompt is fed in several passes


def _structure(name: str, **kinds: str) -> type[ctypes.Structure]:
    """Return a structure of fused.c: its fields, in their order, by their kinds."""
    types = {"pointers": ctypes.c_void_p, "integers": ctypes.c_int64, "floats": ctypes.c_float}
    fields = [
        (field, types[kind.rstrip("_")]) for kind, names in kinds.items() for field in names.split()
    ]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Layer = _structure(
    "Layer",
    pointers="attention_gain mlp_gain query_gain key_gain qkv out gate up down "
    "qkv_bias out_bias gate_bias up_bias down_bias",
)
_Network = _structure(
    "Network",
    integers="layers hidden heads kv_heads head_dim inner kind",
    floats="epsilon",
    pointers="embedding head head_bias gain layer",
)
_Memory = _structure("Memory", pointers="block", integers="layer_stride beam_stride head_stride")
_Pass = _structure(
    "Pass",
    pointers="ids",
    integers="beams time begin keep columns threads",
    pointers_="rotations scratch logits likeliest",
)


@functools.cache
def library() -> Any:
    """Return the compiled functions of fused.c.

    Raises:
        ModelError: they cannot be compiled here.
    """
    found = load_library(Path(__file__).with_name("fused.c"))
    found.scratch_floats.restype = found.may_use_tiles.restype = ctypes.c_int64
    found.scratch_floats.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 3]
    return found


class FusedModel(CausalModel):
    """A Llama, Mistral, Qwen2 or Qwen3 network as compiled C, in float32.

    Weights that bfloat16 holds exactly are kept in it, which halves what a pass must read and
    changes no product.

    Args:
        network: a transformers causal LM on the CPU whose config `is_in_family`.
        vocab_size: columns wanted, see `CausalModel`.

    Raises:
        ModelError: another architecture, or no C compiler.
    """

    def __init__(self, network: Any, *, vocab_size: int | None = None) -> None:
        check_is_in_family(network)
        self._library = library()
        weights = Weights(network)
        padded_dim = -(-weights.head_dim // KEYS) * KEYS
        like = torch.empty(0)
        self._keys = KeyValueMemory(len(weights.layers), weights.kv_heads, padded_dim, like)
        super().__init__(network.config, vocab_size, torch.device("cpu"), self._keys)
        self._columns = min(self.vocab_size, self._num_embeddings)
        self._held: list[Any] = []  # what the structures point into
        self._kind = SINGLE
        if _fit_bfloat16(weights):
            self._kind = TILED if self._library.may_use_tiles() else HALF
        self._network = self._described(weights)
        self._turns = weights.rotations
        self._rotations, self._scratch = self._turns(0), like
        self._scratch_for: tuple[int, ...] = (0, 0, 0)  # rows, positions, threads

    def _logits(self, input_ids: Tensor, keep: int) -> Tensor:
        beams, left = input_ids.shape
        kept = []
        for part in input_ids.split(max(1, CHUNK // beams), dim=1):
            left -= part.shape[1]
            count = min(max(keep - left, 0), part.shape[1])
            logits = torch.empty(beams, count, self._columns)
            self._feed(part.contiguous(), count, logits)
            kept.append(logits)
        return kept[0] if len(kept) == 1 else torch.cat(kept, dim=1)

    def draft_greedily(self, tokens: Sequence[int], count: int) -> list[int]:
        if len(tokens) > CHUNK:
            self.extend(tokens[:-1], keep=1)
            tokens = tokens[-1:]
        last = self._num_embeddings - 1  # a drafter may be handed a token it has never heard of
        ids = torch.tensor([[min(token, last) for token in tokens]])
        drafted = torch.empty(count, dtype=torch.int64)
        self._feed(ids, 1, torch.empty(self._columns), drafted)
        return drafted.tolist()

    def _feed(self, ids: Tensor, keep: int, logits: Tensor, drafted: Tensor | None = None) -> None:
        """Feed ids `[beams, time]` and write logits after the last `keep`, or draft from them."""
        beams, time = ids.shape
        threads, begin = torch.get_num_threads(), self.length
        further = 0 if drafted is None else len(drafted) - 1
        end = begin + time + further
        self._make_room(end, beams * time, threads)
        block = self._keys.block
        likeliest = torch.empty(1 + threads, dtype=torch.int64)
        step = _Pass(
            *(ids.data_ptr(), beams, time, begin, keep, self._columns, threads),
            *(self._rotations.data_ptr(), self._scratch.data_ptr(), logits.data_ptr()),
            None if drafted is None else likeliest.data_ptr(),
        )
        memory = _Memory(block.data_ptr(), block.stride(0), block.stride(1), block.stride(2))
        given = (ctypes.byref(self._network), ctypes.byref(memory), ctypes.byref(step))
        if drafted is None:
            self._library.forward(*given)
        else:
            pointer = ctypes.c_void_p(drafted.data_ptr())
            self._library.draft(*given, pointer, ctypes.c_int64(len(drafted)))
        self._keys.length = end

    def _make_room(self, end: int, rows: int, threads: int) -> None:
        """Have memory, rotations and scratch for a pass that ends at position `end`."""
        self._keys.reserve(end)
        capacity = self._keys.capacity
        if len(self._rotations) < capacity:
            self._rotations = self._turns(capacity)
        wanted = (rows, capacity, threads)
        if any(new > old for new, old in zip(wanted, self._scratch_for, strict=True)):
            self._scratch_for = tuple(map(max, wanted, self._scratch_for))
            floats = self._library.scratch_floats(ctypes.byref(self._network), *self._scratch_for)
            self._scratch = torch.empty(floats)

    def _described(self, weights: Weights) -> ctypes.Structure:
        layers = (_Layer * len(weights.layers))(*map(self._layer, weights.layers))
        self._held.append(layers)
        return _Network(
            len(weights.layers),
            len(weights.gain),
            *(weights.heads, weights.kv_heads, weights.head_dim, weights.inner_size),
            self._kind,
            weights.epsilon,
            self._address(weights.embedding.to(self._dtype)),
            self._matrix(weights.head.weight),
            *(self._floats(weights.head.bias), self._floats(weights.gain)),
            ctypes.cast(layers, ctypes.c_void_p),
        )

    def _layer(self, layer: LayerWeights) -> ctypes.Structure:
        gate_up, biases = layer.gate_up.weight, layer.gate_up.bias
        weights = (layer.qkv.weight, layer.out.weight, *gate_up.chunk(2))
        gate_bias, up_bias = (None, None) if biases is None else biases.chunk(2)
        gains = (layer.attention_gain, layer.mlp_gain, layer.query_gain, layer.key_gain)
        return _Layer(
            *map(self._floats, gains),
            *map(self._matrix, (*weights, layer.down.weight)),
            *map(self._floats, (layer.qkv.bias, layer.out.bias, gate_bias, up_bias)),
            self._floats(layer.down.bias),
        )

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32 if self._kind == SINGLE else torch.bfloat16

    def _matrix(self, weight: Tensor) -> int:
        weight = weight.to(self._dtype).contiguous()
        if self._kind != TILED:
            return self._address(weight)
        out, into = weight.shape
        packed = torch.zeros(-(-out // 16) * -(-into // 32) * 512, dtype=torch.bfloat16)
        self._library.pack(
            *(ctypes.c_void_p(weight.data_ptr()), ctypes.c_int64(out), ctypes.c_int64(into)),
            ctypes.c_void_p(packed.data_ptr()),
        )
        return self._address(packed)

    def _floats(self, vector: Tensor | None) -> int | None:
        return None if vector is None else self._address(vector.float())

    def _address(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self._held.append(tensor)
        return tensor.data_ptr()


def _fit_bfloat16(weights: Weights) -> bool:
    """Whether every matrix is the same in bfloat16."""
    matrices = [weights.embedding, weights.head.weight]
    for layer in weights.layers:
        matrices += [m.weight for m in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    return all(torch.equal(m.bfloat16().float(), m.float()) for m in matrices)
