"""A folder with a head → the head beside its target.

The format is that of the `speculators` library (EAGLE-3). A head that is trained here leaves the
output layer out, since it is its target's, and says by a fingerprint which target that is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from foredraft.errors import ModelError, foreign, quoted
from foredraft.files import Document, Json
from foredraft.loading.documents import read_document, shown
from foredraft.loading.folder import CONFIG
from foredraft.models.base import Network
from foredraft.models.head import HeadModel, TorchHead
from foredraft.models.head_module import HeadConfig, HeadModule, rotary_of
from foredraft.native.fused import FusedModel
from foredraft.native.head import CompiledHead
from foredraft.native.weights import FULL
from foredraft.threads import threads_for

WEIGHTS = "model.safetensors"
KIND, ALGORITHM = "speculators_model_type", "eagle3"
LAYER_KINDS = ("llama", "qwen3")
NORMS = ("norm_before_fc", "fc_norm", "norm_output")  # of later variants
BESIDE = ("lm_head.weight", "embed_tokens.weight", "d2t", "t2d")  # tensors that are no parameters
FINGERPRINT, BITS = "target_fingerprint", 256
MOST_DIFFERENT = 24  # bits of a fingerprint that rounding to 4 bits may turn; half differ by chance
LARGEST = 1 << 24  # of any size in a config
HEAD_SIZES = (
    *("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "max_position_embeddings"),
)
BY_LENGTH = ("dynamic", "longrope")  # rotary embeddings that change while a text grows
FETCH_HEAD = "fetch the head again, or correct its files after its card"


@dataclass(frozen=True)
class HeadFolder:
    """What the files of a folder say of a head.

    Attributes:
        path: of the folder.
        fields: of its config.json.
        layer: transformers' config of its layer.
    """

    path: Path
    fields: Document
    layer: PreTrainedConfig

    @property
    def name(self) -> str:
        """Of a head that comes with this package."""
        return f"{self.path.name}-head"

    @property
    def fingerprint(self) -> str | None:
        """Of the target's output layer; None: the head does not say."""
        found = self.fields.get(FINGERPRINT)
        return found if isinstance(found, str) else None

    def number(self, name: str, otherwise: int) -> int:
        """Return a field that is a size.

        Raises:
            ModelError: it is none.
        """
        found = self.fields.get(name)
        found = otherwise if found is None else found
        if type(found) is not int or not 0 < found < LARGEST:
            raise self.odd(name, found, f"an integer, 1 … {LARGEST - 1}")
        return found

    def odd(self, name: str, found: Json, legal: str) -> ModelError:
        """Return what is said of a field that is not legal."""
        return ModelError(
            f"{shown(self.path / CONFIG)}: {name} is {quoted(found)}; legal: {legal}; {FETCH_HEAD}"
        )


def is_head(folder: Path) -> bool:
    """Whether a folder holds a head, by its config.json; what that says may still be wrong."""
    config = folder / CONFIG
    return KIND in (read_document(config) or {})


def read_head_folder(path: Path) -> HeadFolder:
    """Return what a folder says of a head.

    Raises:
        ModelError: it is no head of a kind that is computed here.
    """
    fields = read_document(path / CONFIG) or {}
    described = fields.get("transformer_layer_config")
    head = HeadFolder(path, fields, PreTrainedConfig())
    if fields.get(KIND) != ALGORITHM:
        raise head.odd(KIND, fields.get(KIND), quoted(ALGORITHM))
    if not isinstance(described, dict) or described.get("model_type", "llama") not in LAYER_KINDS:
        raise head.odd(
            "transformer_layer_config", described, f"a model_type of {', '.join(LAYER_KINDS)}"
        )
    for name in NORMS:
        if fields.get(name):
            raise head.odd(name, fields[name], "false: such a norm is not computed here")
    if described.get("num_hidden_layers", 1) != 1:
        raise head.odd("num_hidden_layers", described["num_hidden_layers"], "1")
    named = {"model_type": "llama"} | described
    with foreign(f"reading {shown(path / CONFIG)}", FETCH_HEAD):
        layer = AutoConfig.for_model(**named)
    head = HeadFolder(path, fields, layer)
    if getattr(layer, "hidden_act", None) != "silu":
        raise head.odd("hidden_act", getattr(layer, "hidden_act", None), quoted("silu"))
    _check_layer(head)
    return head


def _check_layer(head: HeadFolder) -> None:
    """Raise `ModelError` unless the config of a head's layer says what can be computed."""
    layer = head.layer
    for name in HEAD_SIZES:
        found = getattr(layer, name, None)
        if type(found) is not int or not 0 < found < LARGEST:
            raise head.odd(name, found, f"an integer, 1 … {LARGEST - 1}")
    if set(getattr(layer, "layer_types", None) or (FULL,)) != {FULL}:
        raise head.odd("layer_types", layer.layer_types, f"[{FULL!r}]")
    if layer.num_attention_heads % layer.num_key_value_heads:
        raise head.odd("num_key_value_heads", layer.num_key_value_heads, "a divisor of the heads")
    if layer.head_dim % 2:
        raise head.odd("head_dim", layer.head_dim, "an even number")
    epsilon = layer.rms_norm_eps
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise head.odd("rms_norm_eps", epsilon, "a number between 0 and 1")
    is_first = head.fields.get("norm_before_residual", False)
    if not isinstance(is_first, bool):
        raise head.odd("norm_before_residual", is_first, "true or false")
    with foreign(f"reading rope_parameters of {shown(head.path / CONFIG)}", FETCH_HEAD):
        kind = rotary_of(layer).rope_type
    if kind in BY_LENGTH:
        raise head.odd("rope_type", kind, "one that stays as it is while a text grows")


def load_head(folder: HeadFolder, target: Network, target_name: str) -> HeadModel:
    """Return a head, laid out beside its target.

    Raises:
        ModelError: its files are corrupt or of another kind, or it is another target's.
    """
    check_fits(folder, target, target_name)
    with foreign(f"reading {shown(folder.path / WEIGHTS)}", FETCH_HEAD):
        tensors = safetensors.torch.load_file(folder.path / WEIGHTS)
    config, tokens = _config_of(folder, target), _tokens_of(folder, tensors, target)
    order, hidden = tokens.argsort(), config.layer.hidden_size
    tokens = tokens[order]
    embedding, output = tensors.get("embed_tokens.weight"), tensors.get("lm_head.weight")
    theirs = target.output_rows(tokens[:1]).shape[1]
    if hidden != theirs and (embedding is None or output is None):
        legal = f"{theirs}, since it uses its target's embedding or output layer"
        raise folder.odd("hidden_size", hidden, legal)
    if embedding is not None:
        _check(folder, "embed_tokens.weight", embedding, (target.vocab_size, hidden))
    if output is None:
        output = target.output_rows(tokens)
    else:
        _check(folder, "lm_head.weight", output, (len(tokens), hidden))
        output = output[order]
    with torch.device("meta"):
        module = HeadModule(config, tokens, output)
    parameters = {name: t for name, t in tensors.items() if name not in BESIDE}
    with foreign(f"the tensors of {shown(folder.path / WEIGHTS)}", FETCH_HEAD):
        module.load_state_dict(parameters, assign=True)
    every = (*parameters.values(), output, *([] if embedding is None else [embedding]))
    if not all(tensor.is_floating_point() and bool(tensor.isfinite().all()) for tensor in every):
        raise ModelError(
            f"{shown(folder.path / WEIGHTS)} holds numbers that are not finite; {FETCH_HEAD}"
        )
    module.tokens, module.output = tokens, output
    module.rotary_emb = rotary_of(config.layer)
    return laid_out(module, target, embedding)


def laid_out(module: HeadModule, target: Network, embedding: Tensor | None = None) -> HeadModel:
    """Return a head in the runtime that suits its target.

    Args:
        module: the head.
        target: whose states it reads.
        embedding: its own; None: the target's.
    """
    if isinstance(target, FusedModel):
        return CompiledHead(module.float(), target, embedding, threads_for(module))
    known = target.embedding() if embedding is None else embedding
    device = next(target.weights()).device
    dtype = target.dtype
    module = module.to(device, dtype)
    module.rotary_emb = rotary_of(module.config.layer).to(device)  # its angles stay in float32
    return TorchHead(module, target, known.to(device, dtype))


def _config_of(folder: HeadFolder, target: Network) -> HeadConfig:
    depth = target.num_watchable
    layers = folder.fields.get("eagle_aux_hidden_state_layer_ids")
    if layers is None:
        layers = [2, depth // 2, depth - 3]  # as they are where nobody has chosen
    legal = isinstance(layers, list) and 0 < len(layers) < LARGEST
    if not legal or not all(type(layer) is int and 0 <= layer <= depth for layer in layers):
        raise folder.odd("eagle_aux_hidden_state_layer_ids", layers, f"a list of 0 … {depth}")
    return HeadConfig(
        folder.layer,
        tuple(layers),
        folder.number("target_hidden_size", folder.layer.hidden_size),
        folder.number("draft_vocab_size", target.vocab_size),
        bool(folder.fields.get("norm_before_residual")),
    )


def _tokens_of(folder: HeadFolder, tensors: dict[str, Tensor], target: Network) -> Tensor:
    """Return the target's tokens that the head's columns stand for."""
    count = folder.number("draft_vocab_size", target.vocab_size)
    offsets = tensors.get("d2t", torch.zeros(count, dtype=torch.int64))
    _check(folder, "d2t", offsets, (count,))
    tokens = torch.arange(count) + offsets.to(torch.int64)
    if len(tokens.unique()) < count or not 0 <= int(tokens.min()) <= int(tokens.max()) < (
        target.vocab_size
    ):
        raise ModelError(
            f"{shown(folder.path / WEIGHTS)}: d2t names tokens twice, or such as the target's "
            f"{target.vocab_size} columns do not have; {FETCH_HEAD}"
        )
    return tokens


def _check(folder: HeadFolder, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ModelError(
            f"{shown(folder.path / WEIGHTS)}: {name} has shape {list(tensor.shape)}; legal: "
            f"{list(shape)}; {FETCH_HEAD}"
        )


def check_fits(folder: HeadFolder, target: Network, target_name: str) -> None:
    """Raise `ModelError` unless a head is this target's, as far as it says whose it is."""
    size = folder.number("target_hidden_size", folder.layer.hidden_size)
    what = f"the head in {shown(folder.path)}"
    if not target.num_watchable:
        raise ModelError(
            f"{what} reads the layers of its target, and {type(target).__name__} tells nothing of "
            "them; choose a decoder-only target"
        )
    if size != target.state_size:
        raise ModelError(
            f"{what} reads states of {size} numbers, and those of {quoted(target_name, 300)} have "
            f"{target.state_size}; choose the head of this target"
        )
    if folder.fingerprint is not None and not _is_of(folder.fingerprint, target):
        raise ModelError(
            f"{what} was trained for another target than {quoted(target_name, 300)}: the output "
            "layers differ; choose the head of this target"
        )


def heads_in(folder: Path) -> Iterator[HeadFolder]:
    """Yield the heads in the folders of a folder."""
    for config in sorted(folder.glob(f"*/{CONFIG}")):
        if config.with_name(WEIGHTS).is_file():
            yield read_head_folder(config.parent)


def head_for(target: Network, folder: Path) -> HeadFolder | None:
    """Return the head of a target among those in a folder; None if there is none."""
    return next((head for head in heads_in(folder) if _may_be_of(head, target)), None)


def _may_be_of(head: HeadFolder, target: Network) -> bool:
    size = head.number("target_hidden_size", head.layer.hidden_size)
    fits = target.num_watchable and size == target.state_size
    return bool(fits and head.fingerprint and _is_of(head.fingerprint, target))


def _is_of(fingerprint: str, target: Network) -> bool:
    ours = fingerprint_of(target)
    if len(ours) != len(fingerprint):
        return False
    try:
        return (int(ours, 16) ^ int(fingerprint, 16)).bit_count() <= MOST_DIFFERENT
    except ValueError:
        return False


def fingerprint_of(target: Network) -> str:
    """Return what tells a target's output layer from others', however its weights are rounded.

    One bit for each of 256 rows: on which side of a plane it lies (Charikar, 2002, SimHash). The
    plane is the same for all.

    Returns:
        64 hexadecimal digits.
    """
    tokens = torch.arange(BITS) * target.vocab_size // BITS
    rows = target.output_rows(tokens).double().cpu()
    digests = (hashlib.sha256(str(i).encode()).digest()[0] & 1 for i in range(rows.shape[1]))
    plane = torch.tensor([2.0 * bit - 1 for bit in digests], dtype=torch.float64)
    bits = "".join("1" if side > 0 else "0" for side in (rows @ plane).tolist())
    return f"{int(bits, 2):0{BITS // 4}x}"
