"""A name, a folder or `bundled` → an adapter with its tokenizer.

Whether a model is decoder-only or encoder–decoder, its own config says.
The files are read by ours first (`folder`), the weights by transformers' own; this file decides
where, in which precision, and turns whatever goes wrong into one sentence.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TorchAoConfig,
)
from transformers.utils import logging as transformers_logging

from foredraft.doors import one_of
from foredraft.errors import ConfigError, ModelError, foreign, quoted
from foredraft.loading.checkpoint import Loaded, Unmade, open_checkpoint, read_module
from foredraft.loading.device import resolve_device
from foredraft.loading.documents import shown
from foredraft.loading.folder import ModelFolder, check_folder_weights, read_folder
from foredraft.loading.gguf_model import ModelFile, read_model_file
from foredraft.loading.head import is_head
from foredraft.loading.hub import fetched, weight_files
from foredraft.loading.named import file_of, resolve_name, settings_of
from foredraft.loading.options import LoadOptions, resolve_dtype
from foredraft.loading.pairing import fit_target
from foredraft.loading.quantising import Quantised
from foredraft.loading.quantized import QUANTIZE_CHOICES, check_unquantised, torchao_config
from foredraft.loading.runtime import Runtime, can_fuse
from foredraft.loading.skeleton import check_loaded
from foredraft.models.base import Network
from foredraft.native.fused import CompiledModel
from foredraft.native.weights import is_in_family
from foredraft.phases import begins
from foredraft.threads import threads_for, use_threads
from foredraft.zoo import HEADS_DIR as HEADS_DIR
from foredraft.zoo import bundled_path

BUNDLED, BUNDLED_SEQ2SEQ = "bundled", "bundled-seq2seq"
NO_DRAFTER, AUTO_DRAFTER = "none", "auto"
BUNDLED_FOLDERS = {BUNDLED: "{role}", BUNDLED_SEQ2SEQ: "seq2seq_{role}"}
LOG = logging.getLogger("foredraft")
# Whether native networks take a source whose matrices are `Blocks`; else they get its module.
REPAIR = "fetch the model again, or correct its files after its card"


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model with its tokenizer.

    Attributes:
        name: the name it was asked for by.
        model: the network.
        tokenizer: the Hugging Face tokenizer.
        eos_token_ids: every token that ends a generation.
        threads: of a CPU that its weights are worth, for `fit_threads`; 0: it lies elsewhere, or
            torch has the number that was asked for.
    """

    name: str
    model: Network
    tokenizer: PreTrainedTokenizerBase
    eos_token_ids: tuple[int, ...]
    threads: int = 0


Read: TypeAlias = tuple[ModelFolder | ModelFile, Loaded, PreTrainedTokenizerBase, Runtime]


def load(name: str, role: str, options: LoadOptions) -> LoadedModel:
    """Load one model.

    Args:
        name: `bundled`, `bundled-seq2seq`, a folder, a .gguf file or a folder that holds one, a
            name on the Hugging Face hub or `owner/name:file.gguf`, or the short name of a model in
            the folder FOREDRAFT_MODELS.
        role: `target` or `drafter`; decides which bundled model is meant.
        options: device, precision and trust.

    Raises:
        ModelError: missing, corrupt, unreachable or of an unknown kind.
        ConfigError: an option is illegal here.
    """
    folder, network, tokenizer, runtime = load_network(name, role, options)
    begins(f"laying out the {role}'s weights")
    with fitting(folder):
        model = fit_target(network, runtime)
    on_cpu, asked = network.device.type == "cpu", options.threads
    if on_cpu and asked:
        use_threads(asked, were_asked_for=True)
        give_threads(model, options)
    end_tokens = folder.end_tokens(tokenizer.eos_token_id)
    for note in folder.notes() if role == "target" else ():  # a drafter decides no token
        LOG.warning("%s: %s", quoted(name, 300), note)
    worth = threads_for(network) if on_cpu and not asked else 0
    return LoadedModel(name, model, tokenizer, end_tokens, worth)


def has_encoder(name: str) -> bool:
    """Whether a target is an encoder–decoder, by its settings; errors as for `load`."""
    source = resolve_source(name, "target")
    if file_of(source) is not None:
        return False
    return bool(read_folder(settings_of(source), trusted=False).config.is_encoder_decoder)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a decoder-only target, without its weights; errors as for `load`."""
    source = resolve_source(name, "target")
    file = file_of(source)
    if file is not None:
        return read_model_file(file).tokenizer
    path = settings_of(source)
    if read_folder(path, trusted=False).config.is_encoder_decoder:
        raise ModelError(f"{name!r} is an encoder–decoder model; name a decoder-only one")
    return _read_tokenizer(path, trusted=False)


def _read_tokenizer(path: Path, *, trusted: bool) -> PreTrainedTokenizerBase:
    what = f"reading the tokenizer of {shown(path)} (tokenizer.json, tokenizer_config.json)"
    with foreign(what, REPAIR):
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=trusted, local_files_only=True
        )
        return found


def load_network(name: str, role: str, options: LoadOptions) -> Read:
    """Return what a folder or a file says, its network, its tokenizer and the runtime for them.

    The network is a transformers module, or an `Unmade` source for the native runtime on a CPU.
    """
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    source = resolve_source(name, role)
    file = file_of(source)
    if file is not None:
        return _load_file(name, read_model_file(file), options)
    path = settings_of(source)
    if is_head(path):
        raise ModelError(
            f"{shown(path)} is a head, which drafts for its target: --target NAME --drafter {name}"
        )
    folder = read_folder(path, trusted=options.trust_remote_code)
    if path != Path(source):
        fetched(source, weight_files(path))
    check_folder_weights(folder)
    begins(f"reading the {role}'s tokenizer")
    tokenizer = _read_tokenizer(path, trusted=options.trust_remote_code)
    begins(f"reading the {role}'s weights")
    runtime = options.runtime_for(folder.config)
    one_of("quantization", options.quantize, QUANTIZE_CHOICES)
    ours = options.quantize != "none" and _is_compiled(runtime, folder.config, device)
    quantization = None if ours else torchao_config(options.quantize, device)
    # Code that comes with a model may take its weights as it likes.
    known = not (options.trust_remote_code and "auto_map" in folder.fields)
    by_tensor = known and device.type == "cpu" and quantization is None
    read_as = dtype if by_tensor and isinstance(dtype, torch.dtype) else None

    def whole() -> PreTrainedModel:
        return _load_module(name, folder, options, quantization, read_as)

    network: Unmade | None = None
    if read_as and runtime.is_native_for(folder.config) and is_in_family(folder.config):
        network = open_checkpoint(folder, read_as, whole)
    if ours and network is None:
        raise ConfigError(
            f"--quantize {options.quantize}: the tensors of {folder.place} are not named as those "
            "of its network; save it once with transformers' save_pretrained, or leave it out"
        )
    if ours and network:
        network = Quantised(network, options.quantize)
    return folder, network or whole(), tokenizer, runtime


def _is_compiled(runtime: Runtime, config: PreTrainedConfig, device: torch.device) -> bool:
    """Whether compiled passes compute a network, which read blocks as they lie in a file."""
    native = runtime.is_native_for(config) and is_in_family(config)
    return native and device.type == "cpu" and can_fuse()


def _load_file(name: str, file: ModelFile, options: LoadOptions) -> Read:
    """Do the same for a GGUF file."""
    device = resolve_device(options.device)
    one_of("quantization", options.quantize, QUANTIZE_CHOICES)
    weights = file.weights(resolve_dtype(options.dtype, device), options.quantize)
    runtime = options.runtime_for(file.config)
    if _is_compiled(runtime, file.config, device):
        rounded = options.quantize != "none"
        network = Quantised(weights, options.quantize) if rounded else weights
        return file, network, file.tokenizer, runtime
    check_unquantised(options.quantize, file.place)
    module = weights.whole()
    _move(name, module, device)
    return file, module, file.tokenizer, runtime


def _load_module(
    name: str,
    folder: ModelFolder,
    options: LoadOptions,
    quantization: TorchAoConfig | None,
    read_as: torch.dtype | None,
) -> PreTrainedModel:
    """Return a transformers module with its weights, read by us in a precision, if there is one."""
    device = resolve_device(options.device)
    with foreign(f"reading the weights of {shown(folder.path)}", f"{REPAIR}, or free some memory"):
        found = read_module(folder, read_as) if read_as else None
        network, info = found or folder.loader.from_pretrained(
            folder.path,
            dtype=resolve_dtype(options.dtype, device),
            quantization_config=quantization,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused by name
            trust_remote_code=options.trust_remote_code,
            local_files_only=True,
        )
    check_loaded(name, network, info)
    _move(name, network, device)
    return network


def _move(name: str, module: nn.Module, device: torch.device) -> None:
    what = f"moving {quoted(name, 300)} to {device}"
    with foreign(what, "free some of its memory, or --device cpu"):
        module.to(device)


def fitting(described: ModelFolder | ModelFile) -> AbstractContextManager[None]:
    """Return the border round what reads a network and its config once more."""
    what = f"setting up the network of {described.place}"
    return foreign(what, "free some memory, or correct the file after the model's card")


def give_threads(model: Network, options: LoadOptions) -> None:
    """Let compiled passes have as many threads as were asked for."""
    if options.threads and isinstance(model, CompiledModel):
        model.threads = options.threads


def silence_transformers() -> None:
    """Let transformers show errors only, and no bars.

    For programs, which say what happens themselves: it holds for the whole process, so that
    loading a model does not do it.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def resolve_source(name: str, role: str) -> str:
    """Return what a name leads to: a folder, a GGUF file, a hub name; errors as for `load`."""
    if name in BUNDLED_FOLDERS:
        recipe = BUNDLED_FOLDERS[name].format(role=role)
        folder = bundled_path(recipe)
        if not (folder / "model.safetensors").is_file():
            raise ModelError(
                f"{name!r} has no weights here yet ({recipe}); make them with: "
                f"foredraft train {recipe} --data FOLDER --out {folder}"
            )
        return str(folder)
    return resolve_name(name)
