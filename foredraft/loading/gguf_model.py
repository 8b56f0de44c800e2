"""A GGUF file as a model: what its header says, its tokenizer, and its weights when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from foredraft.errors import ConfigError, quoted
from foredraft.files import Document, Json
from foredraft.loading.documents import shown
from foredraft.loading.generation import end_tokens
from foredraft.loading.gguf_config import read_config
from foredraft.loading.gguf_header import PLAIN, GgufHeader, read_gguf_header
from foredraft.loading.gguf_tokenizer import end_ids, odd_pieces, read_tokenizer
from foredraft.loading.gguf_weights import GgufWeights


@dataclass(frozen=True)
class ModelFile:
    """What a GGUF file says of a model; the counterpart of a `ModelFolder`.

    Attributes:
        header: of the file.
        fields: of the config.json that it would have.
        config: of transformers.
        tokenizer: that it describes.
    """

    header: GgufHeader
    fields: Document
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.header.path

    @property
    def place(self) -> str:
        """What describes the network, as messages name it."""
        return shown(self.path)

    @property
    def vocab_size(self) -> int:
        """Tokens that the model has embeddings for."""
        return int(self.config.vocab_size)

    def end_tokens(self, spoken: Json) -> tuple[int, ...]:
        """Return every token that ends a text; `spoken` is the tokenizer's."""
        ids = end_ids(self.header, self.tokenizer)
        return end_tokens({f"{self.place}: eos_token_id": ids}, spoken, None, self.vocab_size)

    def notes(self) -> Iterator[str]:
        """Yield a sentence on all that the file asks for and does not get."""
        name = odd_pieces(self.header)
        if name is not None:
            yield (
                f"tokenizer.ggml.pre is {quoted(name)}, which is not known here; texts are cut as "
                "GPT-2's are, so that some tokens may differ from those that it was trained with"
            )

    def weights(self, dtype: torch.dtype | str, quantize: str) -> GgufWeights:
        """Return its weights, not read yet.

        Args:
            dtype: what is not quantised is rounded to; `auto` is the file's own.
            quantize: as for `LoadOptions`.

        Raises:
            ModelError: its tensors are not those that its metadata describe.
            ConfigError: it is to be quantised again.
        """
        kinds = self.kinds
        odd = [kind for kind in kinds if kind not in PLAIN]
        if quantize != "none" and odd:
            raise ConfigError(
                f"--quantize {quantize}: {self.place} is quantised already ({', '.join(odd)}); "
                "leave it out, or give the unquantised model"
            )
        own = torch.float32 if set(kinds) == {"F32"} else torch.bfloat16
        own = torch.float16 if "F16" in kinds and not odd else own
        return GgufWeights(self.header, self.config, own if isinstance(dtype, str) else dtype)

    @property
    def kinds(self) -> list[str]:
        """The kinds of its tensors, sorted."""
        return sorted({tensor.kind for tensor in self.header.tensors.values()})


def read_model_file(path: Path) -> ModelFile:
    """Read all but the weights of a GGUF file.

    Raises:
        ModelError: naming the file and what is legal.
    """
    header = read_gguf_header(path)
    fields, config = read_config(header)
    return ModelFile(header, fields, config, read_tokenizer(header, int(config.vocab_size)))
