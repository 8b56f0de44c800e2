"""The native runtime of a CPU: the Llama family as one C function a pass (fused.c).

Between its products nothing returns to Python, a draft is one call, and a token's logits do not
depend, to the bit, on how many tokens share its pass.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foredraft.core import Prompt
from foredraft.errors import ModelError, RequestError
from foredraft.models.base import check_vocabulary_holds
from foredraft.models.compiler import load_library
from foredraft.models.decoder_only import CausalModel
from foredraft.models.native import KeyValueMemory, check_is_in_family
from foredraft.models.threads import threads_for, usable_threads
from foredraft.models.weights import LayerWeights, Weights

SOURCE = Path(__file__).with_name("fused.c")
KEYS = 16  # of fused.c: heads are padded to a multiple of so many dimensions
SINGLE, HALF, TILED = range(3)  # kinds of matrices
CHUNK = 64  # tokens fed at once; a longer prompt is fed in several passes


def _structure(name: str, **kinds: str) -> Any:
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
    pointers_="rotations scratch logits likeliest margin",
)


class _Field(ctypes.Structure):
    """Of a structure of fused.c: where it lies; of the structure itself: how large it is."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", ctypes.c_int64))


@functools.cache
def library() -> Any:
    """Return the compiled functions of fused.c.

    Raises:
        ModelError: they cannot be compiled here.
    """
    return with_types(load_library(SOURCE))


def with_types(functions: Any) -> Any:
    """Return the functions of fused.c, compiled with whatever flags, ready to be called.

    Raises:
        ModelError: a structure is written down otherwise there than here.
    """
    _check_layout(functions)
    functions.scratch_floats.restype = functions.may_use_tiles.restype = ctypes.c_int64
    functions.scratch_floats.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 3]
    return functions


def _check_layout(functions: Any) -> None:
    """Compare what C says of its structures with ours: a field too many would spoil memory."""
    ours: dict[str, int] = {}
    for structure in (_Layer, _Network, _Memory, _Pass):
        name = structure.__name__
        ours[name] = ctypes.sizeof(structure)
        ours |= {f"{name}.{f}": getattr(structure, f).offset for f, _ in structure._fields_}
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


class FusedModel(CausalModel):
    """A Llama, Mistral, Qwen2 or Qwen3 network as compiled C, in float32.

    Weights that bfloat16 holds exactly are kept in it, which halves what a pass must read and
    changes no product.

    Args:
        network: a transformers causal LM on the CPU whose config `is_in_family`.
        vocab_size: columns wanted, see `CausalModel`.

    Raises:
        ModelError: another architecture, weights that do not fit its config, or no C compiler.
    """

    def __init__(self, network: Any, *, vocab_size: int | None = None) -> None:
        check_is_in_family(network)
        self._library = library()
        weights = Weights(network)
        padded_dim = -(-weights.head_dim // KEYS) * KEYS
        like = torch.empty(0)
        self._keys = KeyValueMemory(weights.num_layers, weights.kv_heads, padded_dim, like)
        super().__init__(network.config, vocab_size, torch.device("cpu"), self._keys)
        self._columns = min(self.vocab_size, self._num_embeddings)
        self._tensors: list[Tensor] = []  # what the structures point into
        self._kind = SINGLE
        if weights.fit_bfloat16():
            self._kind = TILED if self._library.may_use_tiles() else HALF
        self.weight_bytes = 4 if self._kind == SINGLE else 2
        self._network = self._described(weights)
        self._turns = weights.rotations
        self._block, self._pass = _Memory(), _Pass(columns=self._columns)
        self._given = tuple(map(ctypes.byref, (self._network, self._block, self._pass)))
        self._described_block = like
        self._room = (0, 0, 0)  # rows, positions and threads that there is scratch for
        self._ids = (ctypes.c_int64 * CHUNK)()
        self._most_threads = usable_threads()
        self.threads = threads_for(network)  # of a pass; more would wake for nothing

    def weights(self) -> Iterator[Tensor]:
        yield from self._tensors

    def start(self, prompt: Prompt) -> list[int]:
        self._most_threads = usable_threads()  # it may have been pinned, or forked, since
        return super().start(prompt)

    def extend(self, tokens: Sequence[int], keep: int) -> Tensor:
        if len(tokens) > CHUNK:
            return super().extend(tokens, keep)
        logits = torch.empty(keep, self._columns)
        self._feed(tokens, 1, keep, logits)
        return self._fitted(logits)

    def _logits(self, input_ids: Tensor, keep: int) -> Tensor:
        beams, left = input_ids.shape
        kept = []
        for part in input_ids.split(max(1, CHUNK // beams), dim=1):
            left -= part.shape[1]
            count = min(max(keep - left, 0), part.shape[1])
            kept.append(torch.empty(beams, count, self._columns))
            self._feed(part.flatten().tolist(), beams, count, kept[-1])
        return torch.cat(kept, dim=1)

    def draft(self, tokens: Sequence[int], count: int) -> tuple[list[int], list[float]]:
        if len(tokens) > CHUNK:
            self.extend(tokens[:-1], keep=1)
            tokens = tokens[-1:]
        drafted, margins = (ctypes.c_int64 * count)(), (ctypes.c_float * count)()
        self._feed(tokens, 1, 1, torch.empty(self._columns), (drafted, margins))
        return list(drafted), list(margins)

    def _feed(
        self, tokens: Sequence[int], beams: int, keep: int, logits: Tensor, drafted: Any = None
    ) -> None:
        """Feed tokens, row by row of beams; write logits after the last `keep`, or draft from them.

        Args:
            tokens: of every beam as many, `beams · time` of them.
            beams: how many there are.
            keep: of each, 0 … time.
            logits: shape `[beams, keep, columns]`, or anything as large.
            drafted: room for the tokens of a draft of one beam, and for their margins; None
                drafts none.
        """
        if not 0 <= keep <= len(tokens) // beams:
            raise RequestError(
                f"keep is {keep}; legal: 0 … {len(tokens) // beams}, the tokens that are fed"
            )
        rows, last = len(tokens), self._num_embeddings - 1
        known, largest = max(self.vocab_size, self._num_embeddings), max(tokens)
        if not 0 <= min(tokens) <= largest < known:
            check_vocabulary_holds(tokens, known)
        time = rows // beams
        further = len(drafted[0]) - 1 if drafted else 0
        end = self.length + time + further
        self._make_room(end, rows)
        # A drafter may be handed a token it has never heard of; any other will do in its place.
        given: Any = list(tokens) if largest <= last else [min(token, last) for token in tokens]
        self._ids[:rows] = given
        step = self._pass
        step.beams, step.time, step.begin, step.keep = beams, time, self.length, keep
        step.logits = logits.data_ptr()
        if drafted:
            step.likeliest = ctypes.addressof(self._likeliest)
            self._library.draft(*self._given, *drafted, ctypes.c_int64(1 + further))
        else:
            step.likeliest = None
            self._library.forward(*self._given)
        self._keys.length = end

    def _make_room(self, end: int, rows: int) -> None:
        """Have memory, rotations and scratch for a pass over `rows` that ends at position `end`."""
        keys, threads = self._keys, min(torch.get_num_threads(), self._most_threads, self.threads)
        keys.reserve(end)
        step = self._pass
        room = (max(rows, len(self._ids)), keys.capacity, threads)
        if room != self._room:
            self._room = (0, 0, 0)  # until all of it is there: memory may run out in between
            self._rotations = self._turns(keys.capacity)
            self._scratch = torch.empty(
                self._library.scratch_floats(ctypes.byref(self._network), *room)
            )
            self._ids = (ctypes.c_int64 * room[0])()
            self._likeliest = (ctypes.c_int64 * (1 + threads))()
            self._margin = (ctypes.c_float * (1 + threads))()
            step.margin = ctypes.addressof(self._margin)
            step.ids, step.threads = ctypes.addressof(self._ids), threads
            step.rotations, step.scratch = self._rotations.data_ptr(), self._scratch.data_ptr()
            self._room = room
        if keys.block is not self._described_block:
            self._described_block = block = keys.block
            strides = block.stride()
            self._block.block = block.data_ptr()
            self._block.layer_stride, self._block.beam_stride, self._block.head_stride = strides[:3]

    def _described(self, weights: Weights) -> Any:
        embedding = weights.embedding().to(self._dtype)
        head, gain = weights.head(embedding), weights.gain()
        layers = (_Layer * weights.num_layers)(*map(self._layer, weights.layers()))
        self._layers = layers
        return _Network(
            weights.num_layers,
            len(gain),
            *(weights.heads, weights.kv_heads, weights.head_dim, weights.inner_size),
            self._kind,
            weights.epsilon,
            self._address(embedding),
            self._matrix(head.weight),
            *(self._floats(head.bias), self._floats(gain)),
            ctypes.cast(layers, ctypes.c_void_p),
        )

    def _layer(self, layer: LayerWeights) -> Any:
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
        self._tensors.append(tensor)
        return tensor.data_ptr()
