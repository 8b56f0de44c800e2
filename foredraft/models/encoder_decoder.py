"""Adapter for Hugging Face encoder–decoder models.

The prompt is read by the encoder, once; the sequence that grows is the decoder's, and begins with
the model's own start tokens. A draft model may read what the target's encoder has made of the
prompt instead of encoding it again (Gandhi, von Platen and Rush, "Distil-Whisper", 2023).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from foredraft.core import Prompt
from foredraft.doors import checks_arguments, listed, of_type
from foredraft.errors import ContextOverflow, ModelError, RequestError
from foredraft.models.base import Context, Network, check_is_network
from foredraft.models.cache import (
    CrossRollbackCache,
    cache_argument,
    check_can_roll_back,
    check_takes_blocks,
)
from foredraft.models.decoder_only import foreign_pass
from foredraft.models.positions import positions_of
from foredraft.models.views import in_evaluation
from foredraft.ownership import Owned
from foredraft.ranges import Count, TokenId, checked
from foredraft.threads import check_device_survives


@dataclass
class EncoderOutput(BaseModelOutput):
    """What a decoder is handed in place of its encoder; Switch Transformers asks for the last."""

    router_logits: tuple[Tensor, ...] | None = None


class Encoder(Owned):
    """Prompt → what the decoders read; remembers the newest, so that two decoders may share it.

    Args:
        model: the encoder–decoder model it belongs to.

    Attributes:
        vocab_size: rows of its embedding table; 0 if it reads features instead of tokens.
        hidden_size: of what it returns.
    """

    def __init__(self, model: Any) -> None:
        self.module = model.get_encoder()
        config = model.config
        self._device, self._dtype = model.device, model.dtype
        self._reads_features = model.main_input_name != "input_ids"
        embeddings = None if self._reads_features else model.get_input_embeddings()
        self.vocab_size = embeddings.num_embeddings if embeddings is not None else 0
        self.max_length = positions_of(
            config, self.module, ("max_encoder_position_embeddings", "max_source_positions")
        )
        encoder_config = getattr(config, "encoder", None) or config.get_text_config(encoder=True)
        self.hidden_size = int(encoder_config.hidden_size)
        self._prompt: Prompt | None = None
        self._hidden: Tensor | None = None

    def check(self, prompt: Prompt) -> None:
        """Raise what `encode` would raise for a prompt, computing nothing.

        Raises:
            RequestError: tokens where features are read, or the other way round.
            ContextOverflow: more tokens than the encoder has positions.
        """
        self._inputs(prompt)

    def forget(self) -> None:
        """Read the next prompt anew, even if it is the same: each generation pays for its own."""
        with self.owner.lock:
            self._prompt = self._hidden = None

    @torch.inference_mode()
    def encode(self, prompt: Prompt) -> Tensor:
        """Return the hidden states of a prompt, shape `[1, source, hidden]`.

        Args:
            prompt: token ids; or, for a model that reads them, features of shape
                `[features, frames]`.
        """
        with self.owner.lock:  # two decoders, in two threads, may share it
            if self._hidden is None or not _same(prompt, self._prompt):
                inputs = self._inputs(prompt)
                with foreign_pass(self.module):
                    self._hidden = self.module(inputs).last_hidden_state
                self._prompt = prompt.clone() if isinstance(prompt, Tensor) else list(prompt)
            return self._hidden

    def _inputs(self, prompt: Prompt) -> Tensor:
        if self._reads_features != isinstance(prompt, Tensor):
            wanted = "features of shape [features, frames]" if self._reads_features else "token ids"
            raise RequestError(f"this model's encoder reads {wanted}, not {type(prompt).__name__}")
        if isinstance(prompt, Tensor):
            if prompt.ndim != 2:
                raise RequestError(
                    f"features must have shape [features, frames], not {list(prompt.shape)}; "
                    "batches are not supported, call it for each"
                )
            return prompt[None].to(self._device, self._dtype)  # [1, features, frames]
        if len(prompt) > self.max_length:
            raise ContextOverflow(
                f"the prompt has {len(prompt)} tokens but the encoder has {self.max_length} "
                f"positions; shorten the prompt to {self.max_length} tokens"
            )
        return torch.tensor([prompt], device=self._device)  # [1, source]


def _same(one: Prompt, other: Prompt | None) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return other is not None and list(one) == list(other)


class Reading:
    """What is remembered of one text: what was read, and the decoder's cache.

    Args:
        cache: of the decoder.

    Attributes:
        hidden: of the encoder, `[1, source, hidden]`; None until it has been asked for.
    """

    def __init__(self, cache: CrossRollbackCache, hidden: Tensor | None = None) -> None:
        self.cache, self.hidden = cache, hidden

    @property
    def length(self) -> int:
        """Tokens of the decoder held."""
        return self.cache.length

    def restart(self) -> None:
        """Forget everything, what was read as well."""
        self.cache.restart()
        self.hidden = None

    def rollback_to(self, length: int) -> None:
        """Forget what was said at positions `length` and later."""
        self.cache.rollback_to(length)

    def copy(self) -> Reading:
        """Return a memory of its own that holds the same; what was read is never written again."""
        return Reading(self.cache.copy(), self.hidden)


class EncoderDecoderModel(Network):
    """A transformers encoder–decoder (T5, BART, mBART, Marian, Whisper, …) behind our door.

    Tokens that its generation config forbids (`suppress_tokens`, single `bad_words_ids`, and
    `begin_suppress_tokens` at the first place) have probability 0, as in its own `generate`;
    Marian, for one, needs that. Nothing else of that config is taken over, not even
    `forced_eos_token_id`: an output cut at its length limit says so instead of ending properly.

    Args:
        model: in evaluation mode: an encoder–decoder model, or the decoder of one alone
            (`BartForCausalLM`, `WhisperForCausalLM`) if `encoder` is given.
        vocab_size: columns wanted, as for `DecoderOnlyModel`.
        decoder_start: tokens the decoder begins with; None takes the model's start token and the
            tokens it forces after it (mBART's language, Whisper's task).
        encoder: another model's, whose output this decoder reads; None takes the model's own.

    Attributes:
        encoder: reads the prompt; another decoder may share it.
        start_tokens: what every sequence begins with.

    Raises:
        RollbackUnsupported: the decoder has layers that cannot forget.
        ModelError: no start token is known; the encoder's hidden size is not this decoder's; or
            the decoder takes one token a pass only.
    """

    @checks_arguments
    def __init__(
        self,
        model: Any,
        *,
        vocab_size: Count | None = None,
        decoder_start: Sequence[int] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        check_can_roll_back(check_is_network("model", model), is_decoder=True)
        if decoder_start is not None:
            start = listed("decoder_start", decoder_start, "give token ids, or None")
            decoder_start = [checked("decoder_start", token, TokenId) for token in start]
        if encoder is not None:
            of_type("encoder", encoder, Encoder, "give that of another model")
        check_takes_blocks(model)
        config = model.config.get_text_config(decoder=True)
        self.model = in_evaluation(model)
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        if encoder is not None:
            _check_shape(model, config, encoder)
        self.encoder, self._owns_encoder = encoder or Encoder(model), encoder is None
        self._num_embeddings = int(model.get_output_embeddings().weight.shape[0])
        self.vocab_size = vocab_size or self._num_embeddings
        names = ("max_target_positions", "max_decoder_position_embeddings")
        self.max_length = positions_of(model.config, _decoder_of(model), names)
        self.start_tokens = _start_tokens(model) if decoder_start is None else list(decoder_start)
        self._forbidden, self._forbidden_first = _forbidden_tokens(model, self._num_embeddings)
        self._num_layers = _num_decoder_layers(model.config)
        self._cache_argument = cache_argument(model)
        self._is_whole = bool(model.config.is_encoder_decoder)
        self._reads_outputs = "encoder_outputs" in inspect.signature(model.forward).parameters

    @property
    def prompt_vocab_size(self) -> int:
        return self.encoder.vocab_size

    def open(self, prompt: Prompt) -> Context:
        check_device_survives(self.device)
        self.encoder.check(prompt)
        if self._owns_encoder:
            self.encoder.forget()
        # The prompt is read by the first pass, so that the time of reading is the first step's.
        return Context(self, prompt, list(self.start_tokens), self._free_memory())

    def weights(self) -> Iterator[Tensor]:
        yield from (tensor for _, tensor in sorted(self.model.state_dict().items()))

    def _new_memory(self) -> Reading:
        return Reading(CrossRollbackCache(self._num_layers))

    @torch.inference_mode()
    def logits(self, context: Context, tokens: Sequence[int], keep: int) -> Tensor:
        input_ids = torch.tensor([list(tokens)], device=self.device)  # [1, time]
        if self.vocab_size > self._num_embeddings:
            input_ids.clamp_(max=self._num_embeddings - 1)  # see DecoderOnlyModel
        memory: Reading = context.memory
        if memory.hidden is None:
            memory.hidden = self.encoder.encode(context.prompt).to(self.device, self.dtype)
        read: dict[str, Any] = {"encoder_hidden_states": memory.hidden}
        if self._reads_outputs:
            read = {"encoder_outputs": EncoderOutput(memory.hidden)}
        read[self._cache_argument] = memory.cache
        fed = "decoder_input_ids" if self._is_whole else "input_ids"
        held = memory.length
        with foreign_pass(self.model):
            said = self.model(**{fed: input_ids}, **read, use_cache=True)
            logits: Tensor = said.logits[0, -keep:]  # [keep, vocab]
        if memory.length != held + input_ids.shape[1]:
            raise ModelError(
                f"{type(self.model).__name__} was fed {held + input_ids.shape[1]} tokens and "
                f"remembers {memory.length}, so its texts would be wrong; choose another model"
            )
        self._forbid(logits, memory.length - keep)
        missing = self.vocab_size - logits.shape[-1]
        return F.pad(logits, (0, missing), value=float("-inf")) if missing else logits

    def _forbid(self, logits: Tensor, oldest: int) -> None:
        """Set what must not be said to −∞ in logits `[keep, vocab]`; `oldest` tokens were held."""
        if self._forbidden:
            logits[:, self._forbidden] = float("-inf")
        first = len(self.start_tokens) - 1 - oldest  # the row that says the first token
        if self._forbidden_first and 0 <= first < len(logits):
            logits[first, self._forbidden_first] = float("-inf")


def _check_shape(model: Any, config: Any, encoder: Encoder) -> None:
    if config.hidden_size != encoder.hidden_size:
        raise ModelError(
            f"{type(model).__name__} has hidden size {config.hidden_size} and cannot read an "
            f"encoder of hidden size {encoder.hidden_size}; choose a draft model of the target's "
            "hidden size, or one with an encoder of its own"
        )


def _decoder_of(model: Any) -> Any:
    """Return what holds the decoder's table of positions, and not the encoder's."""
    return model.get_decoder() if model.config.is_encoder_decoder else model


def _num_decoder_layers(config: Any) -> int:
    """Return the decoder's layers; `num_hidden_layers` often means the encoder's."""
    own = (getattr(config, name, None) for name in ("num_decoder_layers", "decoder_layers"))
    return int(
        next(filter(None, own), None) or config.get_text_config(decoder=True).num_hidden_layers
    )


def _start_tokens(model: Any) -> list[int]:
    """Return the start token and what is forced after it, from the generation config or config."""
    start = _setting(model, "decoder_start_token_id")
    if start is None:
        start = _setting(model, "bos_token_id")
    if start is None:
        raise ModelError(
            f"{type(model).__name__} names no decoder_start_token_id; give decoder_start=…"
        )
    tokens = [int(start)]
    forced = dict(_setting(model, "forced_decoder_ids") or ())
    first = _setting(model, "forced_bos_token_id")
    if first is not None:
        forced.setdefault(1, first)
    while forced.get(len(tokens)) is not None:
        tokens.append(int(forced[len(tokens)]))
    return tokens


def _forbidden_tokens(model: Any, num_embeddings: int) -> tuple[list[int], list[int]]:
    """Return tokens that are never said, and those never said first."""
    never = {t for t in _setting(model, "suppress_tokens") or () if 0 <= t < num_embeddings}
    never |= {words[0] for words in _setting(model, "bad_words_ids") or () if len(words) == 1}
    first = {t for t in _setting(model, "begin_suppress_tokens") or () if 0 <= t < num_embeddings}
    return sorted(never), sorted(first)


def _setting(model: Any, name: str) -> Any:
    for config in (getattr(model, "generation_config", None), model.config):
        found = getattr(config, name, None)
        if found is not None:
            return found
    return None
