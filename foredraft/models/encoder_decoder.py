"""Adapter for Hugging Face encoder–decoder models.

The prompt is read by the encoder, once; the sequence that grows is the decoder's, and begins with
the model's own start tokens. A draft model may read what the target's encoder has made of the
prompt instead of encoding it again (Gandhi, von Platen and Rush, "Distil-Whisper", 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from foredraft.core import Prompt
from foredraft.doors import checks_arguments, listed, of_type
from foredraft.errors import ContextOverflow, ModelError, RequestError
from foredraft.files import Json
from foredraft.models.base import Context
from foredraft.models.cache import (
    CrossRollbackCache,
    RollbackCache,
    check_can_roll_back,
    check_takes_blocks,
)
from foredraft.models.decoder_only import ModuleModel, foreign_pass
from foredraft.models.positions import positions_of
from foredraft.models.refusals import check_is_network
from foredraft.ownership import Owned
from foredraft.ranges import Count, TokenId, checked
from foredraft.threads import check_device_survives

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass
class EncoderOutput(BaseModelOutput):
    """What a decoder is handed in place of its encoder; Switch Transformers asks for the last."""

    router_logits: tuple[Tensor, ...] | None = None


class Encoder(Owned):
    """Prompt → what the decoders read; remembers the newest, so that two decoders may share it.

    Attributes:
        vocab_size: rows of its embedding table; 0 if it reads features instead of tokens.
        hidden_size: of what it returns.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.module: nn.Module = model.get_encoder()
        config = model.config
        self._device, self._dtype = model.device, model.dtype
        self._reads_features = model.main_input_name != "input_ids"
        embeddings = None if self._reads_features else model.get_input_embeddings()
        self.vocab_size: int = getattr(embeddings, "num_embeddings", 0)
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


class EncoderDecoderModel(ModuleModel):
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
        model: nn.Module,
        *,
        vocab_size: Count | None = None,
        decoder_start: Sequence[int] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        network = check_is_network("model", model)
        check_can_roll_back(network, is_decoder=True)
        if decoder_start is not None:
            start = listed("decoder_start", decoder_start, "give token ids, or None")
            decoder_start = [checked("decoder_start", token, TokenId) for token in start]
        check_takes_blocks(network)
        if encoder is not None:
            of_type("encoder", encoder, Encoder, "give that of another model")
            _check_shape(network, encoder)
        self.encoder, self._owns_encoder = encoder or Encoder(network), encoder is None
        self._is_whole = bool(network.config.is_encoder_decoder)
        num_embeddings = int(network.get_output_embeddings().weight.shape[0])
        # Of the decoder alone: the encoder's table of positions is the encoder's affair.
        decoder = network.get_decoder() if self._is_whole else network
        names = ("max_target_positions", "max_decoder_position_embeddings")
        positions = positions_of(network.config, decoder, names)
        super().__init__(network, num_embeddings, vocab_size, positions)
        self.start_tokens = _start_tokens(network) if decoder_start is None else list(decoder_start)
        self._forbidden, self._forbidden_first = _forbidden_tokens(network, num_embeddings)
        self._num_layers = _num_decoder_layers(network.config)

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

    def _new_memory(self) -> CrossRollbackCache:
        return CrossRollbackCache(RollbackCache(self._num_layers))

    def _pass(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        memory: CrossRollbackCache = context.memory
        if memory.read is None:
            memory.read = self.encoder.encode(context.prompt).to(self.device, self.dtype)
        inputs: dict[str, object] = {self._cache_argument: memory, "use_cache": True}
        inputs["decoder_input_ids" if self._is_whole else "input_ids"] = input_ids
        if "encoder_outputs" in self._takes:
            inputs["encoder_outputs"] = EncoderOutput(memory.read)
        else:
            inputs["encoder_hidden_states"] = memory.read
        fed = memory.length + input_ids.shape[1]
        logits = self._run(keep, **inputs)
        if memory.length != fed:
            raise ModelError(
                f"{type(self.model).__name__} was fed {fed} tokens and remembers {memory.length}, "
                "so its texts would be wrong; choose another model"
            )
        self._forbid(logits, memory.length - keep)
        return logits

    def _forbid(self, logits: Tensor, oldest: int) -> None:
        """Set what must not be said to −∞ in logits `[keep, vocab]`; `oldest` tokens were held."""
        if self._forbidden:
            logits[:, self._forbidden] = float("-inf")
        first = len(self.start_tokens) - 1 - oldest  # the row that says the first token
        if self._forbidden_first and 0 <= first < len(logits):
            logits[first, self._forbidden_first] = float("-inf")


def _check_shape(model: PreTrainedModel, encoder: Encoder) -> None:
    size = model.config.get_text_config(decoder=True).hidden_size
    if size != encoder.hidden_size:
        raise ModelError(
            f"{type(model).__name__} has hidden size {size} and cannot read an encoder of hidden "
            f"size {encoder.hidden_size}; choose a draft model of the target's hidden size, or one "
            "with an encoder of its own"
        )


def _num_decoder_layers(config: PreTrainedConfig) -> int:
    """Return the decoder's layers; `num_hidden_layers` often means the encoder's."""
    own = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
    return int(own or config.get_text_config(decoder=True).num_hidden_layers)


def _start_tokens(model: PreTrainedModel) -> list[int]:
    """Return the start token and what is forced after it, from the generation config or config."""
    start = _setting(model, "decoder_start_token_id", "bos_token_id")
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


def _forbidden_tokens(model: PreTrainedModel, num_embeddings: int) -> tuple[list[int], list[int]]:
    """Return tokens that are never said, and those never said first."""
    never = {t for t in _setting(model, "suppress_tokens") or () if 0 <= t < num_embeddings}
    never |= {words[0] for words in _setting(model, "bad_words_ids") or () if len(words) == 1}
    first = {t for t in _setting(model, "begin_suppress_tokens") or () if 0 <= t < num_embeddings}
    return sorted(never), sorted(first)


def _setting(model: PreTrainedModel, *names: str) -> Json:
    """Return the first of these settings that the generation config states, or the config."""
    places = (getattr(model, "generation_config", None), model.config)
    found = (getattr(place, name, None) for name in names for place in places)
    return next((value for value in found if value is not None), None)
