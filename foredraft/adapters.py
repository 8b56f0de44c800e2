"""A caller's module → its adapter; what the native runtime makes of one is kept for the next call.

To convert a module takes longer than many a text, so it is done once, and anew after its weights
have changed. What torch counts is noticed: optimisers, `load_state_dict`, `to`, new parameters, any
change in place. What passes its counters by (`.data`, numpy) is noticed where it changes most of a
tensor, as merging an adapter does; a few weights written in that way are not, so copy the module
afterwards. What was made of a module goes when the module goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from foredraft.errors import ModelError
from foredraft.loading.checkpoint import Loaded, Unmade
from foredraft.loading.runtime import TRANSFORMERS, Runtime
from foredraft.models.decoder_only import CausalModel
from foredraft.native.seq2seq import Decoder
from foredraft.ownership import Owned, held

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OWN = ("transformers.", "torch.nn.")  # whose parts a module has that nobody altered
LISTENERS = "transformers.utils.output_capturing"  # whose hooks note hidden states, and stay
SAMPLE = 64  # numbers of a tensor that are looked at


class ModuleRuntime(Runtime):
    """What computes the modules of a caller, who may have altered them and may go on to."""

    def adapt(self, network: Loaded, *, vocab_size: int | None = None) -> CausalModel:
        if isinstance(network, Unmade) or not self.is_native_for(network.config):
            return super().adapt(network, vocab_size=vocab_size)
        if not self._takes(network):
            return TRANSFORMERS.adapt(network, vocab_size=vocab_size)
        columns = vocab_size or int(network.config.vocab_size)
        with held(CONVERTED):
            models = CONVERTED.of(network).models
            if columns not in models:
                models[columns] = super().adapt(network, vocab_size=columns)
            return models[columns]

    def decoder_of(self, network: PreTrainedModel, vocab_size: int | None) -> Decoder | None:
        if not (self.is_native_for_seq2seq(network) and self._takes(network)):
            return None
        with held(CONVERTED):
            decoders = CONVERTED.of(network).decoders
            columns = vocab_size or int(network.config.vocab_size)
            if columns not in decoders:
                decoder = super().decoder_of(network, columns)
                if decoder is None:
                    return None
                decoders[columns] = decoder
            return decoders[columns]

    def _takes(self, network: nn.Module) -> bool:
        """Whether a module may be converted; raise `ModelError` if not, but it is asked for."""
        if is_unaltered(network):
            return True
        if self.name == "auto":
            return False
        raise ModelError(
            f"the native runtime computes {type(network).__name__} as transformers makes it, "
            "and this one holds hooks or parts of others; use the runtime auto or transformers"
        )


def is_unaltered(network: nn.Module) -> bool:
    """Whether a module is what transformers makes of its config, with weights of its own.

    Adapters, quantisation and offloading put in parts, hooks or tensors of another type, and what
    is computed then is more than the weights say.
    """
    if any(type(weight) is not nn.Parameter for weight in network.parameters()):
        return False
    for part in network.modules():
        if not type(part).__module__.startswith(OWN) or "forward" in vars(part):
            return False
        hooks = (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
        if any(getattr(hook, "__module__", "") != LISTENERS for hook in hooks):
            return False
    return True


@dataclass(frozen=True)
class Conversion:
    """What was made of a module while its weights were as they are here.

    Attributes:
        weights: held, lest others come to lie where they lay.
        versions: address and number of changes of each.
        sample: a few numbers of each.
        models: by their columns.
        decoders: of one with an encoder, likewise.
    """

    weights: list[Tensor]
    versions: list[tuple[int, int]]
    sample: Tensor
    models: dict[int, CausalModel] = field(default_factory=dict)
    decoders: dict[int, Decoder] = field(default_factory=dict)


class Conversions(Owned):
    """The newest conversion of each module; one thread at a time may ask."""

    def __init__(self) -> None:
        self._newest: WeakKeyDictionary[nn.Module, Conversion] = WeakKeyDictionary()

    def of(self, module: nn.Module) -> Conversion:
        """Return what was made of a module as it is now, to be added to."""
        weights = [weight.detach() for weight in (*module.parameters(), *module.buffers())]
        if any(weight.is_inference() or weight.is_meta for weight in weights):
            return Conversion([], [], torch.empty(0))  # nobody counts changes: nothing is kept
        versions = [(weight.data_ptr(), weight._version) for weight in weights]
        newest, sample = self._newest.get(module), _sample(weights)
        if newest is None or newest.versions != versions or not torch.equal(newest.sample, sample):
            newest = self._newest[module] = Conversion(weights, versions, sample)
        return newest


CONVERTED = Conversions()


def _sample(weights: Sequence[Tensor]) -> Tensor:
    """Return numbers that lie evenly over each tensor."""
    spread = [w.flatten()[:: max(1, w.numel() // SAMPLE)] for w in weights]
    return torch.cat([few.to("cpu", torch.float64) for few in spread])
