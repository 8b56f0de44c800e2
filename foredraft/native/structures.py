"""What fused.c is given: its structures, and a network's weights as it reads them."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from foredraft.errors import ModelError
from foredraft.native.compiler import load_library
from foredraft.native.pages import Arena
from foredraft.native.weights import LayerWeights, Weights

SOURCE = Path(__file__).with_name("fused.c")
DIMS = 16  # of fused.c: heads are padded to a multiple of so many dimensions
SINGLE, HALF, TILED = range(3)  # kinds of matrices


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
Feed = _structure("Feed", pointers="block", integers="layer_stride head_stride begin time keep")
Pass = _structure(
    "Pass",
    pointers="ids",
    integers="feeds rows columns threads",
    pointers_="feed rotations scratch logits likeliest margin",
)


class _Field(ctypes.Structure):
    """Of a structure of fused.c: where it lies; of the structure itself: how large it is."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", ctypes.c_int64))


@functools.cache
def library() -> ctypes.CDLL:
    """Return the compiled functions of fused.c.

    Raises:
        ModelError: they cannot be compiled here.
    """
    return with_types(load_library(SOURCE))


def with_types(functions: ctypes.CDLL) -> ctypes.CDLL:
    """Return the functions of fused.c, compiled with whatever flags, ready to be called.

    Raises:
        ModelError: a structure is written down otherwise there than here.
    """
    _check_layout(functions)
    functions.scratch_floats.restype = functions.may_use_tiles.restype = ctypes.c_int64
    functions.scratch_floats.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 3]
    return functions


def _check_layout(functions: ctypes.CDLL) -> None:
    """Compare what C says of its structures with ours: a field too many would spoil memory."""
    ours: dict[str, int] = {}
    for structure in (_Layer, _Network, Feed, Pass):
        name = structure.__name__
        ours[name] = ctypes.sizeof(structure)
        ours |= {f"{name}.{f}": getattr(structure, f).offset for f, *_ in structure._fields_}
    functions.layout.restype = ctypes.POINTER(_Field)
    theirs: dict[str, int] = {}
    for field in functions.layout():
        if not field.name:
            break
        theirs[field.name.decode()] = field.offset
    odd = sorted(name for name, _ in theirs.items() ^ ours.items())
    if odd:
        raise ModelError(
            f"fused.c and fused.py disagree about {', '.join(odd[:3])}; install foredraft again"
        )


class Laid:
    """A network's weights where C finds them.

    Weights that bfloat16 holds exactly are kept in it, which halves what a pass must read and
    changes no product.

    Attributes:
        kind: of the matrices.
        known: tokens that have an embedding.
        padded_dim: dimensions of a head as memory holds it.
        tensors: what the structure points into.
        structure: for C.
    """

    def __init__(self, functions: ctypes.CDLL, weights: Weights) -> None:
        self._functions = functions
        self.kind = SINGLE
        if weights.fit_bfloat16():
            self.kind = TILED if functions.may_use_tiles() else HALF
        self.padded_dim = -(-weights.head_dim // DIMS) * DIMS
        self.tensors: list[Tensor] = []
        self._arena, self._placed = Arena(), set[int]()
        embedding = self._in_place(weights.embedding().to(self._dtype))
        self.known = len(embedding)
        self.structure = self._described(weights, embedding)

    def _described(self, weights: Weights, embedding: Tensor) -> ctypes.Structure:
        head, gain = weights.head(embedding), weights.gain()
        layers = (_Layer * weights.num_layers)(*map(self._layer, weights.layers()))
        self._layers = layers
        return _Network(
            weights.num_layers,
            len(gain),
            *(weights.heads, weights.kv_heads, weights.head_dim, weights.inner_size),
            self.kind,
            weights.epsilon,
            embedding.data_ptr(),
            self._matrix(head.weight),
            *(self._floats(head.bias), self._floats(gain)),
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
        return torch.float32 if self.kind == SINGLE else torch.bfloat16

    def _matrix(self, weight: Tensor) -> int:
        weight = weight.to(self._dtype)
        if self.kind != TILED:
            return self._address(weight)
        weight = weight.contiguous()
        out, into = weight.shape
        count = -(-out // 16) * -(-into // 32) * 512
        packed = self._kept(self._arena.empty(count, torch.bfloat16).zero_())
        self._functions.pack(
            *(ctypes.c_void_p(weight.data_ptr()), ctypes.c_int64(out), ctypes.c_int64(into)),
            ctypes.c_void_p(packed.data_ptr()),
        )
        return packed.data_ptr()

    def _floats(self, vector: Tensor | None) -> int | None:
        return None if vector is None else self._address(vector.float())

    def _address(self, tensor: Tensor) -> int:
        return self._in_place(tensor).data_ptr()

    def _in_place(self, tensor: Tensor) -> Tensor:
        """Return a tensor where it stays; a head that is the embedding stays there once."""
        if tensor.data_ptr() in self._placed:
            return tensor
        return self._kept(self._arena.copy(tensor))

    def _kept(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor)
        self._placed.add(tensor.data_ptr())
        return tensor
