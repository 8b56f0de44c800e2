"""The only file that touches a transformers cache.

One preallocated buffer a layer: new keys and values are written in place and attention gets views,
so a step copies nothing and rollback moves a pointer. (The stock `DynamicCache` concatenates, that
is copies, everything at every step; the meaning of its `crop` has changed between releases.)
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache

from foredraft.doors import of_type
from foredraft.errors import ModelError, RollbackUnsupported, quoted
from foredraft.ranges import checked

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

BLOCK = 256  # buffers grow by doubling, in multiples of this many positions


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one attention layer, shape `[1, heads, capacity, head_dim]`.

    Positions beyond `length` are garbage that the next write covers. Sliding-window layers use it
    too: all positions are kept and the attention mask, made by transformers, hides the old ones.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0
        self._buffers: tuple[Tensor, ...] = ()  # of keys and of values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write `[1, heads, time, head_dim]` after the held positions; return views of all."""
        self.is_initialized = True
        end = self.length + key_states.shape[-2]
        keys, values = self._reserve(end, key_states, value_states)
        keys[:, :, self.length : end] = key_states
        values[:, :, self.length : end] = value_states
        self.length = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def _reserve(self, end: int, *like: Tensor) -> tuple[Tensor, ...]:
        """Return room for `end` positions of keys and values that look like these."""
        held = self._buffers[0].shape[-2] if self._buffers else 0
        if held < end:
            capacity = -(-max(end, 2 * held) // BLOCK) * BLOCK
            grown = [one.new_empty(*one.shape[:2], capacity, one.shape[-1]) for one in like]
            for new, old in zip(grown, self._buffers, strict=False):
                new[:, :, : self.length] = old[:, :, : self.length]
            self._buffers = tuple(grown)
        return self._buffers

    def copy(self) -> PreallocatedLayer:
        other = PreallocatedLayer()
        other._buffers = tuple(held.clone() for held in self._buffers)
        other.length, other.is_initialized = self.length, self.is_initialized
        return other

    def get_seq_length(self, *args: object) -> int:
        return self.length

    def crop(self, tokens_to_remove: int) -> None:
        self.length -= abs(tokens_to_remove)


class RollbackCache(Cache):
    """A transformers cache whose newest positions can be forgotten in O(layers)."""

    def __init__(self, num_layers: int = 0, layers: list[PreallocatedLayer] | None = None) -> None:
        self._preallocated = layers or [PreallocatedLayer() for _ in range(num_layers)]
        super().__init__(layers=list(self._preallocated))

    @property
    def length(self) -> int:
        return self._preallocated[0].length

    def rollback_to(self, length: int) -> None:
        for layer in self._preallocated:
            layer.length = length

    def restart(self) -> None:
        self.rollback_to(0)

    def copy(self) -> RollbackCache:
        return RollbackCache(layers=[layer.copy() for layer in self._preallocated])


class CrossRollbackCache(EncoderDecoderCache):
    """The memory of an encoder–decoder's decoder: what it says can be forgotten, the rest stays.

    Cross-attention keys and values are computed by the first pass after `restart`.

    Attributes:
        read: hidden states of the encoder, `[1, source, hidden]`; None until they are asked for.
    """

    def __init__(self, said: RollbackCache) -> None:
        self._said = said
        self.read: Tensor | None = None
        super().__init__(self._said, DynamicCache())

    @property
    def length(self) -> int:
        return self._said.length

    def rollback_to(self, length: int) -> None:
        self._said.rollback_to(length)

    def restart(self) -> None:
        """Forget everything, what was read as well."""
        self._said.restart()
        self.cross_attention_cache, self.is_updated, self.read = DynamicCache(), {}, None

    def copy(self) -> CrossRollbackCache:
        """Return a cache of its own that holds the same; what was read is never written again."""
        other = CrossRollbackCache(self._said.copy())
        other.read = self.read
        if self.is_updated:  # else it is still to be written
            other.cross_attention_cache = self.cross_attention_cache
            other.is_updated = dict(self.is_updated)
        return other


def cache_argument(model: PreTrainedModel) -> str:
    """Return the name of a forward pass's cache argument, which transformers 5.24 has changed."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


# Their modules mask, or count positions of, a block beside a cache wrongly; a test tries them all.
ONE_TOKEN_A_PASS = ("prophetnet", "xlm-prophetnet", "fsmt", "xlm")
ATTENTION_LAYERS = ("full_attention", "sliding_attention", "chunked_attention")


def check_can_roll_back(model: PreTrainedModel, *, is_decoder: bool = False) -> None:
    """Raise unless every layer's memory is plain causal attention, which can forget.

    Args:
        model: whose newest tokens are to be forgotten.
        is_decoder: it is the decoder of an encoder–decoder, whatever its config says.

    Raises:
        RollbackUnsupported: recurrent or otherwise stateful layers.
        ModelError: an encoder, in which a new token changes the past.
    """
    config = model.config.get_text_config(decoder=True)
    name = type(model).__name__
    layers_look_ahead = any(getattr(layer, "is_causal", True) is False for layer in model.modules())
    is_decoder = is_decoder or getattr(config, "is_decoder", True)
    if not is_decoder and layers_look_ahead:
        raise ModelError(
            f"{name} looks ahead (its config says is_decoder=False), so it cannot decode token by "
            "token; choose a causal language model, or set is_decoder=True if it was trained as one"
        )
    check_layers_can_roll_back(type(model), model.config)


def check_layers_can_roll_back(kind: type, config: PreTrainedConfig) -> None:
    """Raise unless a class of networks, set up so, has layers that can forget; no weight is needed.

    Raises:
        RollbackUnsupported: recurrent or otherwise stateful layers.
    """
    config, name = config.get_text_config(decoder=True), kind.__name__
    if getattr(kind, "_is_stateful", False):
        raise RollbackUnsupported(
            f"{name} keeps a recurrent state, which cannot forget rejected tokens; "
            "choose a model whose layers are all attention"
        )
    odd = sorted(set(getattr(config, "layer_types", None) or ()) - set(ATTENTION_LAYERS))
    if odd:
        raise RollbackUnsupported(
            f"{name} has {odd[0]} layers, whose memory cannot forget rejected tokens; "
            f"legal layer types: {', '.join(ATTENTION_LAYERS)}"
        )


def check_takes_blocks(model: PreTrainedModel) -> None:
    """Raise unless a pass beside the cache may have several tokens: a draft is verified in one.

    Raises:
        ModelError: naming the model.
    """
    if model.config.model_type in ONE_TOKEN_A_PASS:
        raise ModelError(
            f"{type(model).__name__} takes one token a pass beside its cache, so a draft cannot be "
            "verified in one; choose another architecture, e.g. Llama or T5"
        )


def prune_cache(cache: Cache, num_tokens_to_discard: int) -> Cache:
    """Forget the newest tokens of any transformers cache.

    Args:
        cache: of a decoder, or of an encoder–decoder (the encoder's part stays).
        num_tokens_to_discard: ≥ 0; 0 changes nothing.

    Returns:
        The same cache, shorter.

    Raises:
        RollbackUnsupported: more than is held, or a layer that cannot forget.
    """
    of_type("cache", cache, Cache, "give the past_key_values of a transformers model")
    num_tokens_to_discard = checked("num_tokens_to_discard", num_tokens_to_discard, int)
    held = int(cache.get_seq_length())
    if not 0 <= num_tokens_to_discard <= held:
        raise RollbackUnsupported(
            f"num_tokens_to_discard: cannot forget {quoted(num_tokens_to_discard)} tokens of a "
            f"cache that holds {held}; legal: 0 … {held}"
        )
    if num_tokens_to_discard == 0:
        return cache
    part = getattr(cache, "self_attention_cache", cache)
    try:
        if not all(getattr(layer, "is_croppable", True) for layer in part.layers):
            raise RuntimeError("what its window has passed over is gone")
        part.crop(-num_tokens_to_discard)  # negative: the only form every release reads alike
    except (AttributeError, RuntimeError, ValueError) as error:  # static; sliding, window passed
        raise RollbackUnsupported(
            f"{type(part).__name__} cannot forget its newest tokens ({error}); use a DynamicCache "
            "without sliding layers"
        ) from error
    return cache
