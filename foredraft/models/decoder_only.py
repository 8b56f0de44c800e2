"""Adapters for causal language models: what all share, and the one for Hugging Face modules."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foredraft.core import Prompt
from foredraft.doors import checks_arguments
from foredraft.errors import ModelError, foreign
from foredraft.models.base import Context, Network
from foredraft.models.cache import (
    RollbackCache,
    cache_argument,
    check_can_roll_back,
    check_takes_blocks,
)
from foredraft.models.features import stacked
from foredraft.models.memory import Memory, TokenMemory
from foredraft.models.positions import positions_of
from foredraft.models.refusals import check_is_network
from foredraft.models.views import in_evaluation
from foredraft.ranges import Count
from foredraft.threads import check_device_survives

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNCACHED = {"use_cache": False}


class CausalModel(Network):
    """What every adapter of a causal language model does.

    Args:
        num_embeddings: tokens that it knows.
        vocab_size: columns wanted; a drafter gets the target's, so that paddings of different size
            inside one family do not matter: surplus columns are cut, missing ones are −∞ (never
            drafted). None keeps the model's own.
        max_length: positions of a text.
        device: where the network is.

    A model whose rotary embedding changes with the length of its text (`longrope`, `dynamic`) is
    held to the positions before the change: what is cached before it would be wrong after it.
    """

    def __init__(
        self, num_embeddings: int, vocab_size: int | None, max_length: int, device: torch.device
    ) -> None:
        self.device, self._num_embeddings = device, num_embeddings
        self.vocab_size, self.max_length = vocab_size or num_embeddings, max_length

    def open(self, prompt: Prompt) -> Context:
        check_device_survives(self.device)
        return super().open(prompt)

    def _fitted(self, logits: Tensor) -> Tensor:
        """Return logits with `vocab_size` columns."""
        missing = self.vocab_size - logits.shape[-1]
        return F.pad(logits, (0, missing), value=float("-inf")) if missing else logits


class TensorModel(CausalModel):
    """A causal language model that computes with PyTorch's tensors; `_pass` is the network."""

    @abstractmethod
    def _pass(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        """Feed ids `[1, time]`, all known; return logits `[keep, vocab]`."""

    @torch.inference_mode()
    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        input_ids = torch.tensor([list(tokens)], device=self.device)  # [1, time]
        if self.vocab_size > self._num_embeddings:
            # A drafter may be handed a token it has never heard of; any other will do in its place,
            # since what it proposes is verified.
            input_ids.clamp_(max=self._num_embeddings - 1)
        return self._fitted(self._pass(context, input_ids, keep))


class ModuleModel(TensorModel):
    """An adapter of a transformers module: what decoders with and without encoder share."""

    def __init__(
        self,
        model: PreTrainedModel,
        num_embeddings: int,
        vocab_size: int | None,
        max_length: int,
    ) -> None:
        super().__init__(num_embeddings, vocab_size, max_length, model.device)
        self.model = in_evaluation(model)
        self.dtype: torch.dtype = model.dtype
        self._cache_argument = cache_argument(model)
        self._takes = inspect.signature(model.forward).parameters

    def weights(self) -> Iterator[Tensor]:
        yield from (tensor for _, tensor in sorted(self.model.state_dict().items()))

    def _run(self, keep: int, **inputs: object) -> Tensor:
        """Return the module's logits after the last `keep` tokens, shape `[keep, vocab]`."""
        with foreign_pass(self.model):
            logits: Tensor = self.model(**inputs).logits
            return logits[0, -keep:]


class DecoderOnlyModel(ModuleModel):
    """A causal language model of transformers (Llama, Qwen, Mistral, GPT-2, …) as a `Network`.

    A model with a memory of another kind (GPT-1, XLNet, CPM-Ant) is found out by its first forward
    pass, and reads its whole text anew in every pass from then on.

    Args:
        model: in evaluation mode, on any device, of any dtype.
        vocab_size: columns of the logits: surplus ones are cut, missing ones are −∞. A draft model
            gets the target's number; None keeps the model's own.

    Raises:
        RollbackUnsupported: the model has layers that cannot forget.
    """

    @checks_arguments
    def __init__(self, model: nn.Module, *, vocab_size: Count | None = None) -> None:
        network = check_is_network("model", model)
        check_can_roll_back(network)
        check_takes_blocks(network)
        config = network.config.get_text_config(decoder=True)
        positions = positions_of(config, network)
        super().__init__(network, int(config.vocab_size), vocab_size, positions)
        self._num_layers = config.num_hidden_layers
        self._layers = _layers_of(network, self._num_layers)
        self.num_watchable = len(self._layers)
        self.state_size = int(getattr(config, "hidden_size", 0)) if self._layers else 0
        self._takes_cache = True  # as far as is known

    def embedding(self) -> Tensor:
        return self._part(self.model.get_input_embeddings()).float()

    def output_rows(self, tokens: Tensor) -> Tensor:
        return self._part(self.model.get_output_embeddings())[tokens.to(self.device)].float()

    def last_norm(self) -> tuple[Tensor, float]:
        norm = getattr(self.model.get_decoder(), "norm", None)
        epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        if epsilon is None or norm is None:
            raise self._tells_nothing()
        # Of ones it makes its gain, whether that is its weight or, in Gemma's, one more.
        with torch.inference_mode():
            gain: Tensor = norm(torch.ones_like(self._part(norm)))
        return gain.float().clone(), float(epsilon)

    @torch.inference_mode()
    def states_of(self, input_ids: Tensor, layers: Sequence[int]) -> Tensor:
        """Return what layers make of whole texts, none of which is kept.

        Args:
            input_ids: shape `[batch, time]`.
            layers: see `Features.layers`.

        Returns:
            Shape `[batch, time, layers · hidden]`.
        """
        self.check_watchable(layers)
        with _watching(self._layers, layers) as states, foreign_pass(self.model):
            self.model.get_decoder()(input_ids=input_ids, **UNCACHED)
        return stacked([states[layer] for layer in layers])

    def _part(self, module: nn.Module | None) -> Tensor:
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise self._tells_nothing()
        return weight.detach()

    def _new_memory(self) -> Memory:
        return RollbackCache(self._num_layers) if self._takes_cache else TokenMemory()

    def take_back(self, memory: Memory) -> None:
        if self._takes_cache:
            super().take_back(memory)

    def _pass(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        features, begin, time = context.features, context.length, input_ids.shape[1]
        if features is None:
            return self._fed(context, input_ids, keep)
        with _watching(self._layers, features.layers) as states:
            logits = self._fed(context, input_ids, keep)
        features.write(begin, stacked([states[i][0, -time:] for i in features.layers]))
        return logits

    def _fed(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        """Feed ids `[1, time]`, with a memory where the network has one."""
        if self._takes_cache:
            held, fed = context.length, context.length + input_ids.shape[1]
            cached = {self._cache_argument: context.memory, "use_cache": True}
            logits = self._read(input_ids, keep, cached)
            if context.length == fed:
                return logits
            if held:
                raise ModelError(
                    f"{type(self.model).__name__} was fed {fed} tokens and remembers "
                    f"{context.length}, so its texts would be wrong; switch the cache off, or "
                    "choose another model"
                )
            self._check_is_causal(input_ids)
            self._takes_cache = False
            self._free.clear()
        if not isinstance(context.memory, TokenMemory):
            context.memory = TokenMemory()
        context.memory.tokens += input_ids[0].tolist()
        whole = torch.tensor([context.memory.tokens], device=self.device)
        return self._read(whole, keep, UNCACHED)

    def _check_is_causal(self, input_ids: Tensor) -> None:
        """Raise if what follows a token changes its logits (XLNet): no draft could be verified."""
        first = input_ids[:, :1]
        followed = (first + torch.arange(5, device=self.device)) % self._num_embeddings
        short, long = self._read(first, 1, UNCACHED)[0], self._read(followed, 5, UNCACHED)[0]
        if float((short - long).abs().max()) > self.rounding(short):
            raise ModelError(
                f"{type(self.model).__name__} looks ahead: a token's logits change with what "
                "follows it, so no draft can be verified; choose a causal language model"
            )

    def _read(self, input_ids: Tensor, keep: int, cached: Mapping[str, object]) -> Tensor:
        """Return the network's logits of ids `[1, time]`, shape `[keep, vocab]`."""
        kept = {"logits_to_keep": keep} if "logits_to_keep" in self._takes else {}
        return self._run(keep, input_ids=input_ids, **cached, **kept)


def _layers_of(network: nn.Module, count: int) -> list[nn.Module]:
    """Return the layers of a decoder; none where no list in it has as many."""
    for part in network.modules():
        if isinstance(part, nn.ModuleList) and len(part) == count:
            return list(part)
    return []


@contextmanager
def _watching(layers: Sequence[nn.Module], wanted: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Take down what goes into layers, and out of the last one, `[batch, time, hidden]` each."""
    states: dict[int, Tensor] = {}

    def before(place: int) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            states[place] = given[0] if given else named["hidden_states"]

        return hook

    def after(_: nn.Module, __: object, made: Tensor | tuple[Tensor, ...]) -> None:
        states[len(layers)] = made if isinstance(made, Tensor) else made[0]

    hooks = [
        layers[place].register_forward_pre_hook(before(place), with_kwargs=True)
        for place in wanted
        if place < len(layers)
    ]
    hooks.append(layers[-1].register_forward_hook(after))
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def foreign_pass(network: nn.Module) -> AbstractContextManager[None]:
    """Return the border round a pass of a network, whose code is not ours."""
    return foreign(
        f"a pass of {type(network).__name__}",
        "give fewer tokens if memory ran out; else check the model's config.json after its card",
    )
