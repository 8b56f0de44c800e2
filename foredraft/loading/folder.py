"""The one reader of a model folder: types, ranges and sizes, before anything is built.

Every refusal names the file and the field. Code that comes with a model is not run, pickles are not
opened, and no weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedConfig,
)

from foredraft.errors import ModelError, foreign, quoted
from foredraft.files import Document, Json
from foredraft.loading.documents import read_document, shown
from foredraft.loading.generation import (
    check_generation,
    end_ids,
    end_tokens,
    no_tokens,
    unheard,
)
from foredraft.loading.headers import stored_tensors
from foredraft.loading.quantized import check_quantization
from foredraft.loading.settings import check_config
from foredraft.loading.skeleton import Loader, check_weights_fit, skeleton
from foredraft.loading.vocabulary import check_vocabulary_files
from foredraft.models.cache import check_can_roll_back, check_layers_can_roll_back

CONFIG, GENERATION = "config.json", "generation_config.json"


@dataclass(frozen=True)
class ModelFolder:
    """What the files of a folder say of a model.

    Attributes:
        path: of the folder.
        fields: of its config.json.
        generation: the fields of its generation_config.json; None without one.
        config: of transformers.
        loader: the transformers class that loads such a network.
    """

    path: Path
    fields: Document
    generation: Document | None
    config: PreTrainedConfig
    loader: Loader

    @property
    def place(self) -> str:
        """What describes the network, as messages name it."""
        return shown(self.path / CONFIG)

    @property
    def vocab_size(self) -> int:
        """Tokens that the model has embeddings for."""
        return int(self.config.get_text_config(decoder=True).vocab_size)

    def end_tokens(self, spoken: Json) -> tuple[int, ...]:
        """Return every token that ends a text; `spoken` is the tokenizer's.

        Raises:
            ModelError: one of them is no token.
        """
        place = shown(self.path / CONFIG)
        sources = {
            f"{where}eos_token_id": fields["eos_token_id"]
            for where, fields in (
                (f"{shown(self.path / GENERATION)}: ", self.generation),
                (f"{place}: ", self.fields),
                (f"{place}: text_config.", self.fields.get("text_config")),
            )
            if isinstance(fields, dict) and fields.get("eos_token_id") is not None
        }
        default = getattr(self.config.get_text_config(decoder=True), "eos_token_id", None)
        return end_tokens(sources, spoken, default, self.vocab_size)

    def notes(self) -> Iterator[str]:
        """Yield a sentence on all that the files ask for and do not get."""
        for name, fields in ((GENERATION, self.generation), (CONFIG, self.fields)):
            for field, token in no_tokens(fields or {}, self.vocab_size):
                yield f"{name}: {field} {token} is no token of the model and is left out"
        found = self.fields if self.generation is None else self.generation
        asked = unheard(found, is_encoder_decoder=bool(self.config.is_encoder_decoder))
        if asked:
            yield asked


def read_folder(path: Path, *, trusted: bool) -> ModelFolder:
    """Read the settings of a model folder; if it is `trusted`, its code may be run.

    Raises:
        ModelError: naming the file, the field and what is legal.
        RollbackUnsupported: the model keeps a state that cannot forget.
    """
    fields = read_document(path / CONFIG)
    if fields is None:
        raise ModelError(f"folder {shown(path)} holds no model: {CONFIG} is missing")
    check_config(path / CONFIG, fields, trusted=trusted)
    place = shown(path / CONFIG)
    end_ids(f"{place}: eos_token_id", fields.get("eos_token_id"))
    with foreign(f"reading {place}", "correct it after the model's card"):
        config = AutoConfig.from_pretrained(path, trust_remote_code=trusted)
        has_vocabulary = hasattr(config.get_text_config(decoder=True), "vocab_size")
    loader = _loader(place, config)
    if not has_vocabulary:
        raise ModelError(f"{place}: vocab_size is missing; fetch the model again")
    generation = read_document(path / GENERATION)
    found = ModelFolder(path, fields, generation, config, loader)
    check_generation(path / GENERATION, generation or {}, found.vocab_size)
    with foreign(f"reading {shown(path / GENERATION)}", "correct it after the model's card"):
        GenerationConfig.from_dict(dict(generation or {}))
    if generation is None and config.is_encoder_decoder:
        check_generation(path / CONFIG, fields, found.vocab_size)
    check_vocabulary_files(path, found.vocab_size)
    return found


def check_folder_weights(folder: ModelFolder) -> None:
    """Raise unless the weights in a folder are plain, and those that its config describes.

    Raises:
        ModelError: naming file and tensor.
        RollbackUnsupported: the network has layers that cannot forget.
    """
    tensors = stored_tensors(folder.path, folder.fields.get("transformers_weights"))
    is_quantized = check_quantization(folder.path, folder.fields, tensors)
    adapter = folder.path / "adapter_config.json"
    if adapter.exists():
        raise ModelError(
            f"{shown(adapter)} belongs to an adapter, which is not applied here; merge it "
            "into the weights (peft: merge_and_unload), or remove it"
        )
    if _is_foreign(folder.config):
        return  # its code may not bear to be built without memory
    network = skeleton(folder.path, folder.config, folder.loader)
    check_can_roll_back(network, is_decoder=bool(folder.config.is_encoder_decoder))
    if not is_quantized:  # else a weight is packed, or lies beside its scales
        check_weights_fit(folder.path, folder.fields, network, tensors)


def _is_foreign(config: PreTrainedConfig) -> bool:
    return not type(config).__module__.startswith("transformers.")


def _loader(place: str, config: PreTrainedConfig) -> Loader:
    """Return what loads a network of this config; refuses what does not speak, or cannot forget."""
    kind, seq2seq = type(config), bool(config.is_encoder_decoder)
    loader: Loader = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    networks = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING if seq2seq else MODEL_FOR_CAUSAL_LM_MAPPING
    if _is_foreign(config):
        return loader
    found = networks.get(kind, None)
    network = found[0] if isinstance(found, list | tuple) else found
    if network is not None:
        check_layers_can_roll_back(network, config)
        return loader
    if kind in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
        raise ModelError(
            f"{place}: the model listens ({kind.__name__}) and prompts are text; give its features "
            "to the functions that end in _encoder_decoder"
        )
    wanted = "an encoder–decoder (is_encoder_decoder is true)" if seq2seq else "a causal decoder"
    raise ModelError(
        f"{place}: model_type {quoted(config.model_type)} is not {wanted} that says text; choose a "
        "causal or an encoder–decoder language model"
    )
