"""What the compiled pass is given: its structures, and a network's weights as it reads them."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from foredraft.errors import ModelError
from foredraft.native.blocks import KINDS, Blocks
from foredraft.native.compiler import load_library
from foredraft.native.head_weights import HeadWeights
from foredraft.native.pages import Arena
from foredraft.native.t5_weights import T5Weights
from foredraft.native.weights import LayerWeights, Matrix, Weight, Weights

SOURCE = Path(__file__).with_name("kernels")
PANEL = 16  # of kernels/vectors.h: heads are padded to a multiple of so many dimensions
DENSE = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
ACTIVATION_CODES = ("silu", "gelu", "relu")  # of kernels/network.h
ROWS_AT_ONCE = 1024  # of a matrix that are compared at once
AnyWeights: TypeAlias = Weights | T5Weights | HeadWeights


_TYPES = {
    **{"pointers": ctypes.c_void_p, "integers": ctypes.c_int64},
    **{"floats": ctypes.c_float, "doubles": ctypes.c_double},
}


def _structure(name: str, **kinds: str) -> type[ctypes.Structure]:
    """Return a structure of the kernels: its fields, in their order, by their kinds."""
    fields = [
        (field, _TYPES[kind.rstrip("_")])
        for kind, names in kinds.items()
        for field in names.split()
    ]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Matrix = _structure("Matrix", pointers="data bias", integers="kind out in")
_TYPES["matrices"] = _Matrix
_Layer = _structure(
    "Layer",
    pointers="attention_gain mlp_gain attention_end_gain mlp_end_gain query_gain key_gain "
    "source_gain",
    matrices="query key value output gate up down source_query source_output",
    integers="window turns",
)
_Network = _structure(
    "Network",
    integers="layers hidden heads kv_heads head_dim turned inner activation single half",
    floats="epsilon embedding_scale query_scale",
    integers_="residual_is_normed",
    matrices="embedding head fuse",
    pointers="gain word_gain tokens layer",
)
Feed = _structure(
    "Feed",
    pointers="block",
    integers="layer_stride head_stride begin time keep first",
    pointers_="source",
    integers_="source_layer_stride source_head_stride source_length",
)
Pass = _structure(
    "Pass",
    pointers="ids",
    integers="feeds rows columns threads",
    pointers_="feed rotations nearness",
    integers_="positions",
    pointers__="scratch logits likeliest margin",
    integers__="watched",
    pointers___="watch states features",
    integers___="are_states",
)
Choices = _structure(
    "Choices",
    pointers="logits space tops counts tokens probs",
    integers="stride rows vocab room top_k",
    doubles="top_p least",
    floats="temperature filtered_at",
)
Draws = _structure("Draws", pointers="choices uniforms probs", integers="width")


class _Field(ctypes.Structure):
    """Of a structure of the kernels: where it lies; of the structure itself: how large it is."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", ctypes.c_int64))


@functools.cache
def library() -> ctypes.CDLL:
    """Return the compiled functions of the kernels.

    Raises:
        ModelError: they cannot be compiled here.
    """
    return with_types(load_library(SOURCE))


def with_types(functions: ctypes.CDLL) -> ctypes.CDLL:
    """Return the functions of the kernels, compiled with whatever flags, ready to be called.

    Raises:
        ModelError: a structure is written down otherwise there than here.
    """
    _check_layout(functions)
    counting = "scratch_floats may_use_tiles packed_bytes choices_space open_choices draw"
    for counted in counting.split():
        getattr(functions, counted).restype = ctypes.c_int64
    functions.scratch_floats.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 3]
    functions.packed_bytes.argtypes = [ctypes.c_int64] * 3
    functions.pack.argtypes = [
        *(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64),
        *(ctypes.c_void_p, ctypes.c_int64),
    ]
    functions.choices_space.argtypes = [ctypes.c_int64] * 2
    functions.draw.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_double]
    functions.judge.argtypes = [
        *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64),
        *(ctypes.c_void_p, ctypes.c_void_p),
    ]
    functions.probabilities.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    ]
    functions.overlaps.argtypes = functions.probabilities.argtypes
    functions.write_rows.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 2, ctypes.c_void_p]
    functions.unpack_row.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    return functions


def _check_layout(functions: ctypes.CDLL) -> None:
    """Compare what C says of its structures with ours: a field too many would spoil memory."""
    ours: dict[str, int] = {}
    for structure in (_Matrix, _Layer, _Network, Feed, Pass, Choices, Draws):
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
            f"the kernels and structures.py disagree about {', '.join(odd[:3])}; "
            "install foredraft again"
        )


class Laid:
    """A network's weights where C finds them: in panels of 16 outputs, of each matrix one copy.

    Weights that bfloat16 holds exactly are kept in it, which halves what a pass must read and
    changes no product.

    Args:
        functions: of the kernels.
        weights: of the network.
        threads: that lay them out.
        single: activations stay in float32 where weights are quantised.
        words: whose embedding is this network's too; None: it has its own.

    Attributes:
        known: tokens that have an embedding.
        columns: of the logits.
        hidden: numbers of a state.
        is_quantised: whether any matrix is.
        rounds: whether activations are rounded to 8 bits, and keys and values to 16.
        padded_dim: dimensions of a head as memory holds it.
        tensors: what the structure points into.
        structure: for C.
    """

    def __init__(
        self,
        functions: ctypes.CDLL,
        weights: AnyWeights,
        threads: int,
        *,
        single: bool = False,
        words: Laid | None = None,
    ) -> None:
        self._functions, self._threads, self._arena = functions, threads, Arena()
        self.padded_dim = -(-weights.head_dim // PANEL) * PANEL
        self.tensors: list[Tensor] = []
        self.is_quantised = False
        self._bytes = self._numbers = 0
        self._words = words  # what the structure points into lives as long as this does
        first, last = self._ends(weights, words)
        self.known, self.columns, self.hidden = first.out, last.out, getattr(last, "in")
        layers = (_Layer * weights.num_layers)(*map(self._layer, weights.layers()))
        self._layers = layers
        # Activations of 8 bits err by far more than keys and values of 16.
        self.rounds = self.is_quantised and not single
        self.structure = _Network(
            *(weights.num_layers, self.hidden, weights.heads, weights.kv_heads, weights.head_dim),
            *(weights.turned, weights.inner_size, ACTIVATION_CODES.index(weights.activation)),
            *(single, self.rounds),
            *(weights.epsilon, weights.embedding_scale, weights.query_scale),
            embedding=first,
            head=last,
            gain=self._floats(gain := weights.gain()),
            layer=ctypes.cast(layers, ctypes.c_void_p),
        )
        self.gain = gain.float()
        if isinstance(weights, HeadWeights):
            self.structure.fuse = self._matrix(weights.fuse())
            self.structure.word_gain = self._floats(weights.word_gain())
            self.structure.residual_is_normed = weights.residual_is_normed
            self.structure.tokens = self._kept(weights.tokens).data_ptr()

    def _ends(
        self, weights: AnyWeights, words: Laid | None
    ) -> tuple[ctypes.Structure, ctypes.Structure]:
        """Return the embedding and the last product, which may be one matrix."""
        if isinstance(weights, HeadWeights):
            if words is None:
                own = self._matrix(Matrix(weights.embedding(), None))
            else:
                own = words.structure.embedding
            return own, self._matrix(weights.head())
        embedding = weights.embedding()
        head = weights.head(embedding)
        first = self._matrix(Matrix(embedding, None))
        return first, self._copy(first, head) if head.weight is embedding else self._matrix(head)

    def rows(self, matrix: str, numbers: Tensor) -> Tensor:
        """Return rows of a matrix of the network in float32, `[len, in]`.

        Args:
            matrix: `embedding` or `head`.
            numbers: of the rows, all of which there are.
        """
        made = torch.empty(len(numbers), self.hidden)
        given, size = ctypes.byref(getattr(self.structure, matrix)), 4 * self.hidden
        for place, number in enumerate(numbers.tolist()):
            self._functions.unpack_row(given, number, made.data_ptr() + size * place)
        return made

    @property
    def weight_bytes(self) -> float:
        """Bytes that a weight of a matrix takes, on average."""
        return self._bytes / self._numbers

    def _layer(self, layer: LayerWeights) -> ctypes.Structure:
        gains = (
            *(layer.attention_gain, layer.mlp_gain, layer.attention_end_gain, layer.mlp_end_gain),
            *(layer.query_gain, layer.key_gain, layer.source_gain),
        )
        matrices = (
            *(layer.query, layer.key, layer.value, layer.output),
            *(layer.gate, layer.up, layer.down, layer.source_query, layer.source_output),
        )
        turns = -1 if layer.turns is None else layer.turns
        return _Layer(*map(self._floats, gains), *map(self._matrix, matrices), layer.window, turns)

    def _matrix(self, matrix: Matrix | None) -> ctypes.Structure:
        if matrix is None:
            return _Matrix()
        kind, rows = _as_it_lies(matrix.weight)
        self.is_quantised |= isinstance(matrix.weight, Blocks)
        number, (out, into) = KINDS.index(kind), matrix.weight.shape
        count = self._functions.packed_bytes(number, out, into)
        self._bytes, self._numbers = self._bytes + count, self._numbers + out * into
        packed = self._kept(self._arena.empty(count, torch.uint8))
        packed.zero_()
        self._functions.pack(number, rows.data_ptr(), out, into, packed.data_ptr(), self._threads)
        return _Matrix(packed.data_ptr(), self._floats(matrix.bias), number, out, into)

    def _copy(self, one: ctypes.Structure, matrix: Matrix) -> ctypes.Structure:
        """Return a matrix whose weight is laid out already, with a bias of its own."""
        fields = [getattr(one, field) for field, *_ in _Matrix._fields_]
        return _Matrix(fields[0], self._floats(matrix.bias), *fields[2:])

    def _floats(self, vector: Tensor | None) -> int | None:
        if vector is None:
            return None
        return self._kept(self._arena.copy(vector.float())).data_ptr()

    def _kept(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor)
        return tensor


def _as_it_lies(weight: Weight) -> tuple[str, Tensor]:
    """Return the kind of a matrix, and its rows as `pack` reads them."""
    if isinstance(weight, Blocks):
        return weight.kind, weight.rows.contiguous()
    if weight.dtype not in DENSE:
        weight = weight.float()
    if weight.dtype == torch.float32 and _fits_bfloat16(weight):
        weight = weight.bfloat16()
    return DENSE[weight.dtype], weight.contiguous()


def _fits_bfloat16(weight: Tensor) -> bool:
    # A part at a time: both copies of a large embedding would be the most ever held.
    parts = weight.split(ROWS_AT_ONCE)
    return all(torch.equal(part.bfloat16().float(), part) for part in parts)
