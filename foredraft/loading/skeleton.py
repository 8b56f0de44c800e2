"""The network that a config describes, built without memory and compared with the weights' headers.

So what does not fit is refused by the name of its tensor before a weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from foredraft.errors import ModelError, foreign, quoted
from foredraft.files import Document
from foredraft.loading.documents import shown
from foredraft.loading.headers import Stored

Loader: TypeAlias = Any  # `AutoModelForCausalLM` or its like; transformers states no types
NUMBERED = re.compile(r"(.*?)\.(\d+)\..*")
FACTOR, SLACK = 4, 1 << 20  # a network may be that much larger than its weights before it is built
MOST_TABLES = 1 << 31  # bytes of what a network computes for itself when it is built
HARMLESS = re.compile(
    r".*(rotary_emb\..*|rotary_pos_emb\..*|inv_freq|masked_bias|attn\.bias|attention\.bias"
    r"|position_ids|num_batches_tracked|embed_positions\.weights?|_float_tensor|causal_mask)"
)
SHOWN = 3  # tensors that a message names
AMEND = "fetch the model again, or correct config.json"


def skeleton(folder: Path, config: PreTrainedConfig, loader: Loader) -> PreTrainedModel:
    """Return the network that a config describes, of tensors without memory.

    Raises:
        ModelError: it cannot be built.
    """
    what = f"building the network that {shown(folder / 'config.json')} describes"
    with foreign(what, "correct it after the model's card"), torch.device("meta"):
        network: PreTrainedModel = loader.from_config(config)
        return network


def check_weights_fit(
    folder: Path, fields: Document, network: PreTrainedModel, tensors: Mapping[str, Stored]
) -> None:
    """Raise unless the weights of a folder are those of the network that its config describes.

    Raises:
        ModelError: naming file, tensor and, where it can be told, the field.
    """
    place = shown(folder / "config.json")
    expected: dict[str, Tensor] = network.state_dict()
    surplus = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()
    held = {
        name: one
        for name, one in tensors.items()
        if not any(re.search(pattern, name) for pattern in surplus)
    }
    prefix = f"{network.base_model_prefix}."
    _check_layers(place, fields, _depths(expected), _depths(held), prefix)
    for name, one in held.items():
        wanted = next((expected[n] for n in _names(name, prefix) if n in expected), None)
        if wanted is not None and wanted.numel() != one.size:
            blamed = _to_blame(fields, wanted.shape, one.shape)
            raise ModelError(
                f"{place} describes {quoted(name, 100)} as {list(wanted.shape)}{blamed}, and "
                f"{shown(one.file)} holds it as {list(one.shape)}; {AMEND}"
            )
    have = sum(one.size for one in tensors.values())
    size = sum(weight.numel() for weight in network.parameters())
    if size > FACTOR * have + SLACK:
        raise ModelError(
            f"{place} describes a network of {size:,} weights, and its files hold {have:,}; {AMEND}"
        )
    tables = sum(one.numel() * one.element_size() for one in network.buffers())
    if tables > MOST_TABLES:
        raise ModelError(
            f"{place} describes a network whose tables of positions would take {tables:,} bytes; "
            "lower max_position_embeddings (n_positions, n_ctx) to the model's own"
        )


def _check_layers(
    place: str, fields: Document, wanted: Mapping[str, int], held: Mapping[str, int], prefix: str
) -> None:
    """Raise if any list of layers is longer or shorter in the weights than in the network."""
    for name, depth in wanted.items():
        stored = next((held[one] for one in _names(name, prefix) if one in held), depth)
        if stored == depth:
            continue
        blamed = [k for k, v in fields.items() if v == depth and "layer" in k and type(v) is int]
        field = f"{blamed[0]} is" if blamed else "it describes"
        raise ModelError(
            f"{place}: {field} {depth}, and the weights hold {stored} layers "
            f"({name}.0 … {name}.{stored - 1}); {AMEND}"
        )


def _depths(names: Iterable[str]) -> dict[str, int]:
    """Return how many numbered modules stand under each first numbered name."""
    found: dict[str, int] = {}
    for name in names:
        parts = NUMBERED.fullmatch(name)
        if parts and len(parts[2]) < 9:
            found[parts[1]] = max(found.get(parts[1], 0), int(parts[2]) + 1)
    return found


def _names(name: str, prefix: str) -> tuple[str, str, str]:
    """Return what a tensor may be called: with the prefix of the base model, or without it."""
    return name, prefix + name, name.removeprefix(prefix)


def _to_blame(fields: Document, wanted: Iterable[int], held: Iterable[int]) -> str:
    odd = [w for w, h in zip(wanted, held, strict=False) if w != h]
    names = [name for name, value in fields.items() if type(value) is int and value in odd]
    return f" ({names[0]} is {fields[names[0]]})" if names else ""


def check_loaded(name: str, network: PreTrainedModel, info: Document) -> None:
    """Raise unless every weight that matters was found, and found a place.

    Raises:
        ModelError: tensors are missing, of another shape, or belong into the network and would be
            left out.
    """
    weights = f"the weights of {quoted(name, 300)}"
    missing, odd = sorted(info.get("missing_keys", ())), info.get("mismatched_keys", ())
    if missing:
        raise ModelError(
            f"{weights} are incomplete: {len(missing)} tensors are missing, "
            f"{quoted(missing[0], 100)} among them; {AMEND}"
        )
    for key, *shapes in sorted(odd, key=str):
        told = " instead of ".join(str(list(shape)) for shape in shapes)
        raise ModelError(f"{weights} do not fit config.json: {quoted(key, 100)} is {told}; {AMEND}")
    surplus = sorted(_homeless(network, info.get("unexpected_keys", ())))
    if surplus:
        raise ModelError(
            f"{weights} hold {len(surplus)} tensors that the network of its config.json leaves out "
            f"({', '.join(surplus[:SHOWN])}), so its texts would be wrong; {AMEND}"
        )


def _homeless(network: PreTrainedModel, names: Iterable[str]) -> Iterator[str]:
    """Yield tensors that belong into a module that the network has, yet were not asked for.

    Heads of another trade (a reward model's, a drafting head's) lie outside of it and are no part
    of the text.
    """
    modules = {name for name, _ in network.named_modules() if name}
    own = {name.rpartition(".")[0] for name, _ in network.named_parameters()}
    prefix = f"{network.base_model_prefix}."
    for name in names:
        numbered = NUMBERED.fullmatch(name)
        lists = _names(numbered[1], prefix) if numbered else ()
        inside = _names(name.rpartition(".")[0], prefix)
        belongs = not own.isdisjoint(inside) or not modules.isdisjoint(lists)
        if belongs and not HARMLESS.fullmatch(name):
            yield name
