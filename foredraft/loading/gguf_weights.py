"""A GGUF file as a source of weights: found by transformers' names, in the file's own blocks."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import TypeAlias

import gguf
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from foredraft.errors import ModelError, foreign, quoted
from foredraft.loading.checkpoint import Unmade
from foredraft.loading.documents import shown
from foredraft.loading.gguf_config import ANOTHER, architecture_of
from foredraft.loading.gguf_families import PARTS, ROPE_FACTORS
from foredraft.loading.gguf_header import PLAIN, GgufHeader, Placed
from foredraft.loading.skeleton import skeleton
from foredraft.native.blocks import Blocks
from foredraft.native.weights import Weight

Held: TypeAlias = Weight
PLAIN_DTYPES = dict(zip(PLAIN, (torch.float32, torch.float16, torch.bfloat16), strict=True))
NUMBERS_AT_ONCE = 1 << 22  # of a quantised matrix that are made numbers at once
HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}


class GgufWeights(Unmade):
    """A causal LM whose weights lie in a GGUF file, mapped into memory.

    What `find` returns are transformers' numbers, save that rows may lie as `neighbours` and gains
    as `gains_hold_one` say; `plain` returns transformers' numbers without exception.

    Args:
        header: of the file.
        config: that its metadata make.
        dtype: what tensors that are not quantised are rounded to; those that it holds exactly stay
            as they lie.

    Raises:
        ModelError: the file's tensors are not those of the network that its metadata describe.
    """

    device = torch.device("cpu")

    def __init__(self, header: GgufHeader, config: PreTrainedConfig, dtype: torch.dtype) -> None:
        self.header, self.config, self.dtype = header, config, dtype
        self._architecture = architecture_of(header)
        self.neighbours = self._architecture.neighbours
        self.gains_hold_one = self._architecture.gains_hold_one
        self.outline = skeleton(header.path, config, AutoModelForCausalLM)
        with foreign(f"laying out {shown(header.path)}", "free some memory"):
            nn.Module.to(self.outline, dtype)
            rotary = type(self.outline.model.rotary_emb)
            self._check_tensors()
            self.outline.model.rotary_emb = rotary(config)  # in no file

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.outline.parameters()

    def dtype_of(self, name: str) -> torch.dtype:
        placed = self._placed(name)
        lies = PLAIN_DTYPES.get(placed.kind, self.dtype) if placed else self.dtype
        return lies if torch.promote_types(lies, self.dtype) == self.dtype else self.dtype

    def find(self, name: str) -> Held | None:
        """Return a tensor, or the blocks of a quantised matrix; None if there is none of that name.

        It lies in the file's mapping where its numbers do; parts of Phi-3's joined matrices are
        found by the names that they have alone in other networks.
        """
        placed = self._placed(name)
        if placed is not None:
            found = self.held(placed)
            return found if isinstance(found, Blocks) else found.to(self.dtype_of(name))
        for joined, parts in PARTS.items():
            for part in parts:
                if name.endswith((f".{part}.weight", f".{part}.bias")):
                    whole = self.find(name.replace(part, joined))
                    return None if whole is None else self._part(whole, parts, part)
        return None

    def plain(self, name: str) -> Tensor | None:
        """Return a tensor in float32 and in transformers' order and convention, in its own memory.

        None if there is none of that name.
        """
        found = self.find(name)
        if found is None:
            return None
        numbers: Tensor = dequantised(found) if isinstance(found, Blocks) else found.float()
        if self.gains_hold_one and name.endswith("norm.weight"):
            return numbers - 1
        heads = HEADS.get(name.split(".")[-2])
        if self.neighbours and heads:
            pairs: Tensor = numbers.unflatten(0, (getattr(self.config, heads), -1, 2))
            return pairs.transpose(1, 2).flatten(0, 2)
        return numbers.clone()

    def whole(self) -> PreTrainedModel:
        """Return the transformers module with its weights, dequantised, in `dtype`.

        transformers' own conversion of such a file knows neither how its positions are scaled nor
        every architecture; where it does, the tests compare the two.
        """
        names = [name for name in self.outline.state_dict() if self._placed(name)]
        what = f"making a transformers module of {shown(self.header.path)}"
        with foreign(what, "free some memory, or --runtime native"):
            network: PreTrainedModel = type(self.outline).from_pretrained(
                None,
                config=self.config,
                state_dict={name: _Unread(self, name) for name in names},
                dtype=self.dtype,
            )
        network.config.name_or_path = str(self.header.path)
        return network

    def _placed(self, name: str) -> Placed | None:
        known_as = self._architecture.name_in_file(name)
        return None if known_as is None else self.header.tensors.get(known_as)

    def held(self, placed: Placed) -> Held:
        """Return what lies in a place of the file, in its mapping."""
        content, begin = self.header.content, placed.begin
        if hasattr(mmap, "MADV_DONTNEED"):  # what was read before is laid out by now
            content.madvise(mmap.MADV_DONTNEED)
        if placed.kind in PLAIN_DTYPES:
            dtype = PLAIN_DTYPES[placed.kind]
            size = math.prod(placed.shape)
            flat = torch.frombuffer(content, dtype=dtype, count=size, offset=begin)
            return flat.view(placed.shape)
        flat = torch.frombuffer(content, dtype=torch.uint8, count=placed.end - begin, offset=begin)
        rows = flat.view(math.prod(placed.shape[:-1]), -1)
        return Blocks(placed.kind, placed.shape[-1], rows)

    def _part(self, whole: Held, parts: tuple[str, ...], part: str) -> Held:
        config, place = self.config, parts.index(part)
        queries, keys = config.num_attention_heads, config.num_key_value_heads
        shares = (queries, keys, keys) if len(parts) == 3 else (1, 1)
        unit = whole.shape[0] // sum(shares)
        begin = unit * sum(shares[:place])
        end = begin + unit * shares[place]
        if isinstance(whole, Blocks):
            return Blocks(whole.kind, whole.columns, whole.rows[begin:end])
        return whole[begin:end]

    def _check_tensors(self) -> None:
        """Raise unless the file holds the tensors of the network, and no other."""
        held = dict(self.header.tensors)
        held.pop(ROPE_FACTORS, None)
        place = shown(self.header.path)
        for name, tensor in self.outline.state_dict().items():
            if name == "lm_head.weight" and self.config.tie_word_embeddings:
                continue
            known_as = self._architecture.name_in_file(name)
            placed = held.pop(str(known_as), None)
            wanted = list(tensor.shape)
            if placed is None:
                raise ModelError(
                    f"{place} has no {known_as} {wanted}, which its metadata call for; {ANOTHER}"
                )
            if list(placed.shape) != wanted:
                raise ModelError(
                    f"{place}: {known_as} has shape {list(placed.shape)}; legal by its metadata: "
                    f"{wanted}; {ANOTHER}"
                )
            if len(wanted) < 2 and placed.kind not in PLAIN_DTYPES:
                raise ModelError(
                    f"{place}: {known_as} is of kind {placed.kind}; legal for a vector: "
                    f"{', '.join(PLAIN)}; {ANOTHER}"
                )
        if held:
            raise ModelError(
                f"{place} holds {quoted(next(iter(held)), 100)}, which is not computed for "
                f"the architecture {self.header.architecture}; {ANOTHER}"
            )


class _Unread:
    """A tensor that is read when transformers takes it: by `[...]`, once."""

    def __init__(self, source: GgufWeights, name: str) -> None:
        self._source, self._name = source, name

    def __getitem__(self, everything: object) -> Tensor:
        """Return the tensor."""
        found = self._source.plain(self._name)
        assert found is not None
        return found


def dequantised(blocks: Blocks) -> Tensor:
    """Return a quantised matrix in float32, `[out, in]`, by gguf's own arithmetic."""
    kind = GGMLQuantizationType[blocks.kind]
    out = torch.empty(blocks.shape)
    step = max(1, NUMBERS_AT_ONCE // blocks.columns)
    for rows, into in zip(blocks.rows.split(step), out.split(step), strict=True):
        into.copy_(torch.from_numpy(gguf.quants.dequantize(rows.numpy(), kind)))
    return out


def row_bytes(kind: str, columns: int) -> int:
    """Return how many bytes a row of a quantised matrix takes."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return columns // block * size
