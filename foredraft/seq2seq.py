"""The documented functions for encoder–decoder models: the same ones, behind an encoder.

Each takes everything its namesake in `functional` takes, and `decoder_start_token_id` besides. The
inputs are what the encoder reads: token ids, or features `[features, frames]`. No function has a
loop of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foredraft import functional
from foredraft.core import Prompt
from foredraft.drafting import INgramStorage
from foredraft.errors import ConfigError, ModelError
from foredraft.inputs import as_ids
from foredraft.models import EncoderDecoderModel, Network
from foredraft.models.base import check_is_network

StartIds = int | Sequence[int] | None


def autoregressive_generate_encoder_decoder(
    inputs: Prompt,
    model: Any,
    *,
    decoder_start_token_id: StartIds = None,
    **settings: Any,
) -> list[int]:
    """Decode one token a pass.

    Args:
        inputs: what the encoder reads.
        model: a Hugging Face encoder–decoder model, or an `EncoderDecoderModel`.
        decoder_start_token_id: token, or tokens, the decoder begins with; None takes the model's
            own, and what it forces after it.
        settings: as for `autoregressive_generate`.

    Returns:
        Generated ids, without the start tokens.

    Raises:
        ModelError: the model is not an encoder–decoder, or names no start token.
        RequestError: no inputs, or of a kind the encoder does not read.
        ContextOverflow: the inputs do not fit.
    """
    target = _as_target("model", model, decoder_start_token_id)
    return functional.autoregressive_generate(inputs, target, **settings)


def beam_search_generate_encoder_decoder(
    inputs: Prompt,
    model: Any,
    *,
    decoder_start_token_id: StartIds = None,
    **settings: Any,
) -> list[int]:
    """Return the best hypothesis of a beam search.

    Args:
        inputs: what the encoder reads.
        model: a Hugging Face encoder–decoder model, or an `EncoderDecoderModel`.
        decoder_start_token_id: as for `autoregressive_generate_encoder_decoder`.
        settings: as for `beam_search_generate`.

    Returns:
        Generated ids, without the start tokens.
    """
    target = _as_target("model", model, decoder_start_token_id)
    return functional.beam_search_generate(inputs, target, **settings)


def speculative_generate_encoder_decoder(
    inputs: Prompt,
    drafter: Any,
    target: Any,
    tokenizer: Any = None,
    gamma: int = 5,
    *,
    decoder_start_token_id: StartIds = None,
    **settings: Any,
) -> tuple[list[int], float]:
    """Speculative decoding (Leviathan et al., 2023, algorithm 1): the same text, sooner.

    Args:
        inputs: what the encoder reads.
        drafter: an encoder–decoder model; one with the target's own encoder, weight for weight, or
            a decoder with cross-attention and no encoder, reads what the target's encoder made of
            the inputs (the Distil-Whisper pattern).
        target: the model whose distribution is preserved.
        tokenizer: for `debug` only; without it ids are printed.
        gamma: most tokens drafted in a step.
        decoder_start_token_id: as for `autoregressive_generate_encoder_decoder`.
        settings: as for `speculative_generate`.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).
    """
    model = _as_target("target", target, decoder_start_token_id)
    return functional.speculative_generate(inputs, drafter, model, tokenizer, gamma, **settings)


def ngram_assisted_speculative_generate_encoder_decoder(
    inputs: Prompt,
    ngramstorage: INgramStorage,
    target: Any,
    tokenizer: Any = None,
    gamma: int = 5,
    *,
    decoder_start_token_id: StartIds = None,
    **settings: Any,
) -> tuple[list[int], float]:
    """N-gram assisted speculative decoding (NASD): counts take the place of the draft model.

    The encoder's input is counted as well as the output: what is copied from it is drafted.

    Args:
        inputs: what the encoder reads.
        ngramstorage: kept as it is between calls; call its `reset` to forget.
        target: the model whose distribution is preserved.
        tokenizer: for `debug` only; without it ids are printed.
        gamma: most tokens drafted in a step.
        decoder_start_token_id: as for `autoregressive_generate_encoder_decoder`.
        settings: as for `ngram_assisted_speculative_generate`.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).
    """
    model = _as_target("target", target, decoder_start_token_id)
    return functional.ngram_assisted_speculative_generate(
        inputs, ngramstorage, model, tokenizer, gamma, **settings
    )


def _as_target(name: str, model: Any, start: StartIds) -> Network:
    if isinstance(model, Network):
        if start is not None:
            raise ModelError("an adapter has its start tokens already; leave one of the two out")
        return model
    ids = None if start is None else list(as_ids("decoder_start_token_id", start))
    if ids == []:
        raise ConfigError("decoder_start_token_id is empty; give at least one id, or None")
    if not getattr(check_is_network(name, model).config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(model).__name__} is not an encoder–decoder model; call the function without "
            "_encoder_decoder"
        )
    return EncoderDecoderModel(model, decoder_start=ids)
