"""Adapters for encoder–decoder models: what all share, and the one for Hugging Face modules.

The prompt is read by the encoder, once; the sequence that grows is the decoder's, and begins with
the model's own start tokens. A draft model may read what the target's encoder has made of the
prompt instead of encoding it again (Gandhi, von Platen and Rush, "Distil-Whisper", 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from foredraft.core import Prompt
from foredraft.doors import checks_arguments, listed, of_type
from foredraft.errors import ModelError
from foredraft.files import Json
from foredraft.models.base import Context
from foredraft.models.cache import (
    CrossRollbackCache,
    RollbackCache,
    check_can_roll_back,
    check_takes_blocks,
)
from foredraft.models.decoder_only import CausalModel, ModuleModel
from foredraft.models.encoder import Encoder
from foredraft.models.positions import positions_of
from foredraft.models.refusals import check_is_network
from foredraft.ranges import Count, TokenId, checked
from foredraft.threads import check_device_survives

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass
class EncoderOutput(BaseModelOutput):
    """What a decoder is handed in place of its encoder; Switch Transformers asks for the last."""

    router_logits: tuple[Tensor, ...] | None = None


class Seq2SeqModel(CausalModel):
    """What every adapter of an encoder–decoder does.

    Tokens that its generation config forbids (`suppress_tokens`, single `bad_words_ids`, and
    `begin_suppress_tokens` at the first place) have probability 0, as in its own `generate`;
    Marian, for one, needs that. Nothing else of that config is taken over, not even
    `forced_eos_token_id`: an output cut at its length limit says so instead of ending properly.

    Attributes:
        encoder: reads the prompt; another decoder may share it.
        start_tokens: what every sequence begins with.
    """

    encoder: Encoder
    start_tokens: list[int]

    def _begin_with(
        self, network: PreTrainedModel, start: Sequence[int] | None, encoder: Encoder | None
    ) -> None:
        """Take over what a module says of beginnings and encoder, see `EncoderDecoderModel`."""
        if start is not None:
            start = listed("decoder_start", start, "give token ids, or None")
            start = [checked("decoder_start", token, TokenId) for token in start]
        if encoder is not None:
            of_type("encoder", encoder, Encoder, "give that of another model")
            _check_shape(network, encoder)
        self.encoder, self._owns_encoder = encoder or Encoder(network), encoder is None
        self.start_tokens = _start_tokens(network) if start is None else list(start)
        self._forbidden, self._forbidden_first = _forbidden_tokens(network, self._num_embeddings)

    @property
    def prompt_vocab_size(self) -> int:
        return self.encoder.vocab_size

    @property
    def forbids(self) -> bool:
        """Whether some token must not be said."""
        return bool(self._forbidden or self._forbidden_first)

    def open(self, prompt: Prompt) -> Context:
        check_device_survives(self.device)
        self.encoder.check(prompt)
        if self._owns_encoder:
            self.encoder.forget()
        # The prompt is read by the first pass, so that the time of reading is the first step's.
        return Context(self, prompt, list(self.start_tokens), self._free_memory())

    def _read(self, prompt: Prompt) -> Tensor:
        """Return what the encoder makes of a prompt, shape `[1, source, hidden]`."""
        return self.encoder.encode(prompt).to(self.device, self.dtype)

    def _forbid(self, logits: Tensor, oldest: int) -> None:
        """Set what must not be said to −∞ in logits `[keep, vocab]`; `oldest` tokens were held."""
        if self._forbidden:
            logits[:, self._forbidden] = float("-inf")
        first = len(self.start_tokens) - 1 - oldest  # the row that says the first token
        if self._forbidden_first and 0 <= first < len(logits):
            logits[first, self._forbidden_first] = float("-inf")


class EncoderDecoderModel(Seq2SeqModel, ModuleModel):
    """An encoder–decoder of transformers (T5, BART, mBART, Marian, Whisper, …) as a `Network`.

    Args:
        model: in evaluation mode: an encoder–decoder model, or the decoder of one alone
            (`BartForCausalLM`, `WhisperForCausalLM`) if `encoder` is given.
        vocab_size: columns of the logits, as for `DecoderOnlyModel`.
        decoder_start: tokens the decoder begins with; None takes the model's start token and the
            tokens it forces after it (mBART's language, Whisper's task).
        encoder: another model's, whose output this decoder reads; None takes the model's own.

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
        check_takes_blocks(network)
        self._is_whole = bool(network.config.is_encoder_decoder)
        num_embeddings = int(network.get_output_embeddings().weight.shape[0])
        super().__init__(network, num_embeddings, vocab_size, decoder_positions(network))
        self._begin_with(network, decoder_start, encoder)
        self._num_layers = _num_decoder_layers(network.config)

    def _new_memory(self) -> CrossRollbackCache:
        return CrossRollbackCache(RollbackCache(self._num_layers))

    def _pass(self, context: Context, input_ids: Tensor, keep: int) -> Tensor:
        memory: CrossRollbackCache = context.memory
        if memory.read is None:
            memory.read = self._read(context.prompt)
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


def decoder_positions(network: PreTrainedModel) -> int:
    """Return the positions of the decoder alone: the encoder's table is the encoder's affair."""
    decoder = network.get_decoder() if network.config.is_encoder_decoder else network
    names = ("max_target_positions", "max_decoder_position_embeddings")
    return positions_of(network.config, decoder, names)


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
