"""A model → a GGUF file of rounded matrices that llama.cpp reads.

What is written is read back by our own reader and compared before it takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType, GGUFValueType, LlamaFileType
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from foredraft.errors import ConfigError, ModelError, quoted
from foredraft.files import Document, Json, whole_file, writing
from foredraft.loading.checkpoint import open_checkpoint
from foredraft.loading.documents import shown
from foredraft.loading.folder import check_folder_weights, read_folder
from foredraft.loading.gguf_config import read_config
from foredraft.loading.gguf_cursor import ARRAY, Texts
from foredraft.loading.gguf_header import PLAIN, GgufHeader, read_gguf_header
from foredraft.loading.gguf_metadata import CONVERT, Described, name_in_gguf, tensor_in_gguf
from foredraft.loading.gguf_weights import PLAIN_DTYPES, GgufWeights, row_bytes
from foredraft.loading.named import ENDING, file_of, settings_of
from foredraft.loading.quantising import kind_of
from foredraft.native.blocks import quantised

FILE_TYPES = {"int8": LlamaFileType.MOSTLY_Q8_0, "int4": LlamaFileType.MOSTLY_Q4_1}
BLOCKS_VERSION = 2  # of the layout of blocks
REPLACED = (
    *("general.architecture", "general.alignment"),
    *("general.file_type", "general.quantization_version"),
)
KIND_OF_DTYPE = {dtype: kind for kind, dtype in PLAIN_DTYPES.items()}
END_TENSORS = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight"}
# What decides a token though no key says it, and what is said in other words.
TOLD = ("hidden_act", "hidden_activation", "layer_types", "no_rope_layers", "use_sliding_window")
UNTOLD = {"model_type", *(f"{name}_token_id" for name in ("bos", "eos", "pad"))}
OVERWRITE = "to write over it, say --overwrite"
Shown = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """What goes into a file: its metadata, its tensors by their names there, and what it means."""

    writer: gguf.GGUFWriter
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]]
    read: Callable[[str], Tensor]
    config: PreTrainedConfig


def quantize_to(
    source: str, quantize: str, out: Path, show: Shown, *, overwrite: bool = False
) -> None:
    """Write a GGUF file with the matrices of a model rounded.

    Args:
        source: what `resolve_source` returns for a decoder-only model that is not quantised.
        quantize: `int8` or `int4`.
        out: the file; moved into place whole.
        show: told how many tensors are written, and of how many.
        overwrite: what is there already.

    Raises:
        ModelError: the model cannot be read, is quantised, or cannot be said in such a file.
        ConfigError: the file cannot be written, or is there already.
    """
    _check_place(out, overwrite)
    file = file_of(source)
    with writing(out, "choose another file, or make room"), whole_file(out) as beside:
        if file is not None:
            written = _of_file(read_gguf_header(file), beside)
        else:
            written = _of_folder(settings_of(source), beside)
        written.writer.add_file_type(FILE_TYPES[quantize])
        written.writer.add_quantization_version(BLOCKS_VERSION)
        _write(written, quantize, show)
        _check_same(written.config, read_gguf_header(beside))


def _check_place(out: Path, overwrite: bool) -> None:
    if out.suffix != ENDING:
        raise ConfigError(f"{quoted(str(out), 300)} must end in {ENDING}, or it is not found again")
    if out.exists() and not (overwrite and out.is_file()):
        remedy = OVERWRITE if out.is_file() else "choose another name"
        raise ConfigError(f"{quoted(str(out), 300)} is there already; {remedy}")
    if not out.parent.is_dir():
        raise ConfigError(f"there is no folder {quoted(str(out.parent), 300)}; make it first")


def _of_file(header: GgufHeader, beside: Path) -> Written:
    """Copy a file's metadata, the tokenizer among them."""
    config = read_config(header)[1]
    source = GgufWeights(header, config, torch.float32)
    for name, placed in header.tensors.items():
        if placed.kind not in PLAIN:
            raise ModelError(
                f"{shown(header.path)} is quantised already ({name} is {placed.kind}), and "
                "rounding twice loses twice; give the unquantised model"
            )
    writer = gguf.GGUFWriter(beside, header.architecture)
    for name, value in header.metadata.items():
        if name not in REPLACED:
            _copy(header, writer, name, value)
    shapes = {name: (one.shape, PLAIN_DTYPES[one.kind]) for name, one in header.tensors.items()}

    def numbers(name: str) -> Tensor:
        held = source.held(header.tensors[name])
        assert isinstance(held, Tensor)  # what is quantised was refused
        return held

    return Written(writer, shapes, numbers, config)


def _copy(header: GgufHeader, writer: gguf.GGUFWriter, name: str, value: Json) -> None:
    kind, *inner = map(GGUFValueType, header.kinds[name])
    if kind != ARRAY:
        writer.add_key_value(name, value, kind)
        return
    items = header.texts(name) if isinstance(value, Texts) else value.tolist()
    if items:  # an empty array cannot be written, and says nothing
        writer.add_key_value(name, items, kind, inner[0])


def _of_folder(path: Path, beside: Path) -> Written:
    """Say a folder's config and tokenizer as such a file does."""
    folder = read_folder(path, trusted=False)
    described = Described(folder)
    check_folder_weights(folder)
    if folder.fields.get("quantization_config") is not None:
        raise ModelError(
            f"{folder.place}: the weights are quantised already, and rounding twice loses twice; "
            "give the unquantised model"
        )
    source = open_checkpoint(folder, torch.float32, _not_needed)
    if source is None:
        raise ModelError(
            f"the tensors of {shown(path)} have other names than those of a "
            f"{type(folder.config).__name__}; {CONVERT}"
        )
    names, shapes = dict[str, str](), dict[str, tuple[tuple[int, ...], torch.dtype]]()
    for name, tensor in source.outline.state_dict().items():
        if name == "lm_head.weight" and folder.config.tie_word_embeddings:
            continue
        known_as = name_in_gguf(described.architecture, name)
        dtype = source.dtype_of(name) if tensor.ndim > 1 else torch.float32
        names[known_as], shapes[known_as] = name, (tuple(tensor.shape), dtype)
    factors = described.factors()
    shapes |= {name: (tuple(one.shape), one.dtype) for name, one in factors.items()}
    writer = gguf.GGUFWriter(beside, described.name)
    described.add_to(writer)

    def read(known_as: str) -> Tensor:
        if known_as in factors:
            return factors[known_as]
        found: Tensor | None = source.find(names[known_as])
        assert found is not None
        turned = tensor_in_gguf(described.architecture, folder.config, names[known_as], found)
        return turned.to(shapes[known_as][1])

    return Written(writer, shapes, read, folder.config)


def _not_needed() -> PreTrainedModel:
    raise AssertionError("no module is made")


def _write(written: Written, quantize: str, show: Shown) -> None:
    """Write the header, then one tensor after another, each rounded where it is to be."""
    writer, kinds = written.writer, dict[str, str]()
    for name, (shape, dtype) in written.shapes.items():
        rounded = kind_of(END_TENSORS.get(name, name), shape, quantize)
        kinds[name] = kind = rounded or KIND_OF_DTYPE[dtype]
        width = row_bytes(kind, shape[-1])
        size = math.prod(shape[:-1]) * width
        lies = (*shape[:-1], width)
        writer.add_tensor_info(name, lies, np.dtype(np.uint8), size, GGMLQuantizationType[kind])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for place, name in enumerate(written.shapes):
            tensor = written.read(name)
            is_plain = kinds[name] in PLAIN_DTYPES
            numbers = tensor.contiguous() if is_plain else quantised(tensor, kinds[name]).rows
            writer.write_tensor_data(numbers.view(torch.uint8).numpy())
            show(place + 1, len(written.shapes))
    finally:
        writer.close()


def _check_same(config: PreTrainedConfig, header: GgufHeader) -> None:
    """Raise unless what was written means what the model's config says."""
    fields, read = read_config(header)
    names = {*fields, *TOLD} - UNTOLD
    theirs, ours = (dict(_flat(one.to_dict())) for one in (config, read))
    for name, value in ours.items():
        said = theirs.get(name, value)
        if name.split(".")[0] in names and not _equal(said, value):
            raise ModelError(
                f"{name} is {quoted(said)}, and a GGUF file of this architecture says "
                f"{quoted(value)}; {CONVERT}"
            )


def _flat(fields: Document) -> Iterator[tuple[str, Json]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", one) for inner, one in _flat(value))
        else:
            yield name, value


def _equal(one: Json, other: Json) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)
