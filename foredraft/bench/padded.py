"""A larger stand-in: the bundled target with the cost of a model of N parameters.

The bundled target is too small to show what a large model costs beside a small drafter. Layers are
added whose output projections (`o_proj`, `down_proj`) are zero: they are computed in full and add
nothing, so the distribution stays that of the bundled target. Where layers alone would make a model
deeper than models of that size are, its MLPs grow wider instead, with zero columns in `down_proj`.
It is a measuring instrument, not a better model, and says so in its name.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from foredraft.errors import ConfigError
from foredraft.loading import LoadedModel, LoadOptions, fit_target, load
from foredraft.loading.loader import BUNDLED, give_threads
from foredraft.threads import threads_for

MOST_LAYERS = 24  # a model of 0.5 to 3 billion parameters has 16 to 36
WIDTH_STEP = 32  # the MLP's width stays a multiple of this, as matrix products like it
SILENT = ("o_proj.weight", "down_proj.weight")
SEED = 0  # of the weights that are computed and then multiplied by zero


@dataclass(frozen=True)
class Shape:
    """How large a padded network is."""

    layers: int  # all of them, the original ones included
    intermediate: int  # width of every MLP


def padded_target(parameters: int, *, options: LoadOptions | None = None) -> LoadedModel:
    """Return the bundled target, padded to a count of parameters, which is met within 5 %.

    Raises:
        ConfigError: fewer parameters than the bundled target has, or a quantization.
    """
    options = options or LoadOptions()
    theirs = replace(options, runtime="transformers", invariant=False, check_runtime=False)
    plain = load(BUNDLED, "target", replace(theirs, quantize="none"))
    network = padded_network(module_of(plain), parameters)
    runtime = options.runtime_for(network.config)
    if options.quantize != "none":
        raise ConfigError(
            f"a padded target takes no quantize ({options.quantize!r}); use --quantize none"
        )
    model, worth = fit_target(network, runtime), plain.threads and threads_for(network)
    give_threads(model, options)
    return replace(plain, name=padded_name(network), model=model, threads=worth)


def padded_name(network: PreTrainedModel) -> str:
    """Return how a padded network is called wherever it appears."""
    millions = network.num_parameters() / 1e6
    return f"bundled target, padded to {millions:.0f}M parameters"


def padded_network(network: PreTrainedModel, parameters: int) -> PreTrainedModel:
    """Return a copy of a Llama module with more layers and wider MLPs that add nothing.

    Its projections have no biases; of the count wanted, tied weights are counted once.

    Raises:
        ConfigError: the network has more already.
    """
    shape = shape_for(network, parameters)
    config = copy.deepcopy(network.config)
    config.num_hidden_layers, config.intermediate_size = shape.layers, shape.intermediate
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[0]] * shape.layers
    with torch.random.fork_rng(), torch.device(network.device):
        torch.manual_seed(SEED)
        # Random weights, written to memory: pages nobody has written would all be the same one.
        padded: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=network.dtype)
    _fill(padded, network)
    padded.generation_config = copy.deepcopy(network.generation_config)
    padded.eval()
    return padded


def shape_for(network: PreTrainedModel, parameters: int) -> Shape:
    """Return the layers and the width that come nearest to a count; errors as above."""
    config = network.config
    layers, width = int(config.num_hidden_layers), int(config.intermediate_size)
    has = network.num_parameters()
    if parameters < has:
        raise ConfigError(
            f"a padded target has at least the {has} parameters of the bundled one, "
            f"not {parameters}; give more"
        )
    a_layer = sum(p.numel() for name, p in network.named_parameters() if ".layers.0." in name)
    wanted = layers + round((parameters - has) / a_layer)
    if wanted <= MOST_LAYERS:
        return Shape(wanted, width)
    a_column = 3 * int(config.hidden_size)  # gate, up and down
    room = parameters - (has - layers * a_layer)
    wider = (room / MOST_LAYERS - (a_layer - a_column * width)) / a_column
    return Shape(MOST_LAYERS, max(width, round(wider / WIDTH_STEP) * WIDTH_STEP))


@torch.no_grad()
def _fill(padded: PreTrainedModel, network: PreTrainedModel) -> None:
    """Copy the network's weights and silence everything beyond them.

    What is beyond them is rounded as a checkpoint in bfloat16 would be; the bundled weights are.
    """
    own = dict(padded.named_parameters())
    for name, weight in own.items():
        weight.copy_(weight.bfloat16())
        if name.endswith(SILENT):
            weight.zero_()
    for name, weight in network.named_parameters():
        own[name][tuple(slice(size) for size in weight.shape)] = weight


def module_of(loaded: LoadedModel) -> PreTrainedModel:
    """Return the Hugging Face module of a model that was loaded for the transformers runtime."""
    module: PreTrainedModel = loaded.model.model  # type: ignore[attr-defined]
    return module
