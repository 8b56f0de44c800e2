"""A checkpoint's tensors, read one by one from safetensors files when they are asked for.

So no module with all weights is made first, in float32 or otherwise. What is read goes into memory
of its own, not through a mapping of the file, whose pages would count until all is loaded.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from foredraft.errors import ModelError, foreign, quoted
from foredraft.files import Document
from foredraft.loading.documents import shown
from foredraft.loading.folder import ModelFolder
from foredraft.loading.headers import AGAIN, Stored, stored_tensors
from foredraft.loading.skeleton import skeleton
from foredraft.native.weights import Source

HEAD = "lm_head.weight"
FREQUENCIES = "rotary_emb.inv_freq"  # in old checkpoints; they follow from the config
STORED_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
}


class Unmade(Source):
    """A source in files, of which no transformers module has been made."""

    @abstractmethod
    def whole(self) -> PreTrainedModel:
        """Return the transformers module with its weights."""


class Checkpoint(Unmade):
    """A causal LM whose weights are still in their files; for the rest like its module.

    Args:
        outline: its transformers module without weights, on the device `meta`.
        tensors: by their names in the module.
        dtype: what the weights are rounded to; those that it holds exactly stay as they lie.
        whole: makes the transformers module with its weights.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        outline: PreTrainedModel,
        tensors: dict[str, Stored],
        dtype: torch.dtype,
        whole: Callable[[], PreTrainedModel],
    ) -> None:
        self.outline, self.config, self._tensors = outline, outline.config, tensors
        self.dtype, self._whole = dtype, whole

    def whole(self) -> PreTrainedModel:
        return self._whole()

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.outline.parameters()

    def dtype_of(self, name: str) -> torch.dtype:
        lies = STORED_DTYPES[self._tensors[name].dtype]
        return lies if torch.promote_types(lies, self.dtype) == self.dtype else self.dtype

    def holds(self, name: str) -> bool:
        return name in self._tensors

    def find(self, name: str) -> Tensor | None:
        """Read a tensor.

        Raises:
            ModelError: the file cannot be read, or is shorter than it was.
        """
        stored = self._tensors.get(name)
        return None if stored is None else read_tensor(name, stored).to(self.dtype_of(name))


def open_checkpoint(
    folder: ModelFolder, dtype: torch.dtype, whole: Callable[[], PreTrainedModel]
) -> Checkpoint | None:
    """Return a causal LM whose weights are read later.

    Returns:
        None where the files do not hold exactly the tensors of the network, under their names in
        it; what to make of those, transformers knows.
    """
    tensors = readable_tensors(folder)
    if tensors is None:
        return None
    outline = skeleton(folder.path, folder.config, folder.loader)
    with foreign(f"laying out {shown(folder.path)}", "free some memory"):
        nn.Module.to(outline, dtype)
    expected = {name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()}
    held = {name: one.shape for name, one in tensors.items() if not name.endswith(FREQUENCIES)}
    if folder.config.tie_word_embeddings:
        held.setdefault(HEAD, expected.get(HEAD, ()))
    if held != expected:
        return None
    outline.model.rotary_emb = type(outline.model.rotary_emb)(folder.config)  # in no file
    return Checkpoint(outline, tensors, dtype, whole)


Loaded: TypeAlias = PreTrainedModel | Unmade  # with its weights, or before they are read


class Unread:
    """A tensor in its file, which is read when transformers takes it: by `[...]`, once."""

    def __init__(self, name: str, stored: Stored) -> None:
        self._name, self._stored = name, stored

    def __getitem__(self, everything: object) -> Tensor:
        """Return the tensor."""
        return read_tensor(self._name, self._stored)


def read_module(folder: ModelFolder, dtype: torch.dtype) -> tuple[PreTrainedModel, Document] | None:
    """Return a transformers module on the CPU, and what transformers says of its weights.

    Its own reader would map the files until all is loaded: 1.5 times what stays.

    Returns:
        None where the tensors are not plain numbers; what to make of those, transformers knows.
    """
    tensors = readable_tensors(folder)
    if tensors is None:
        return None
    kind = folder.loader._model_mapping[type(folder.config)]
    network, info = kind.from_pretrained(
        None,
        config=folder.config,
        state_dict={name: Unread(name, stored) for name, stored in tensors.items()},
        dtype=dtype,
        ignore_mismatched_sizes=True,  # they are refused by name
        output_loading_info=True,
    )
    network.config.name_or_path = str(folder.path)
    network.generation_config = _generation_config(folder)
    return network, info


def readable_tensors(folder: ModelFolder) -> dict[str, Stored] | None:
    """Return what the files of a folder hold; None if that is not numbers as they lie in memory."""
    tensors = stored_tensors(folder.path, folder.fields.get("transformers_weights"))
    plain = all(stored.dtype in STORED_DTYPES for stored in tensors.values())
    return tensors if plain and sys.byteorder == "little" else None


def read_tensor(name: str, stored: Stored) -> Tensor:
    """Read a tensor into memory of its own, in the precision in which it lies.

    Raises:
        ModelError: the file cannot be read, or is shorter than its header says.
    """
    with foreign(f"reading {quoted(name, 100)} from {shown(stored.file)}", AGAIN):
        tensor = torch.empty(stored.shape, dtype=STORED_DTYPES[stored.dtype])
        content = tensor.flatten().view(torch.uint8).numpy().data
        with stored.file.open("rb") as opened:
            opened.seek(stored.begin)
            count = opened.readinto(content)
        if count != len(content):
            raise ModelError(
                f"{shown(stored.file)} ends inside {quoted(name, 100)}, after {count:,} of its "
                f"{len(content):,} bytes; {AGAIN}"
            )
        return tensor


def _generation_config(folder: ModelFolder) -> GenerationConfig:
    """Return what transformers would."""
    silent = folder.generation is None
    return GenerationConfig.from_pretrained(
        folder.path,
        config_file_name="config.json" if silent else None,
        _from_model_config=silent,
        local_files_only=True,
    )
