"""Which adapter a network gets, as a target and as a target's draft model."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from foredraft.errors import ModelError
from foredraft.loading.checkpoint import Loaded, Unmade
from foredraft.loading.runtime import TRANSFORMERS, Runtime
from foredraft.models.base import Network
from foredraft.models.encoder import Encoder
from foredraft.models.encoder_decoder import Seq2SeqModel

CROSS_ATTENTION = ("encoder_attn", "crossattention", "EncDecAttention")  # names of such modules


def fit_target(
    network: Loaded, runtime: Runtime = TRANSFORMERS, *, decoder_start: list[int] | None = None
) -> Network:
    """Return the adapter of a Hugging Face module, by what its config says it is.

    Args:
        network: a transformers module, or a checkpoint that is not read yet.
        runtime: which code computes it.
        decoder_start: tokens that the decoder behind an encoder begins with, if not its own.

    Raises:
        ModelError: an encoder, a decoder without its encoder, or what the native runtime does not
            know.
        RollbackUnsupported: it has layers that cannot forget.
    """
    module = _module_of(network)
    if network.config.is_encoder_decoder:
        return runtime.adapt_seq2seq(module, decoder_start=decoder_start)
    if _reads_an_encoder(module):
        raise ModelError(
            f"{type(module).__name__} is a decoder without its encoder; it can draft for an "
            "encoder–decoder model, but it cannot be a target"
        )
    return runtime.adapt(network)


def fit_drafter(
    network: Loaded,
    target: Network,
    runtime: Runtime = TRANSFORMERS,
    *,
    keeps_columns: bool = False,
) -> Network:
    """Return the adapter of a draft model, with the target's columns.

    One that `keeps_columns`, since its tokens are others, keeps its own where both models are
    decoder-only.

    For an encoder–decoder target: a draft model with the target's own encoder, weight for weight,
    or with none, reads what the target's encoder has made of the prompt; any other has its own.

    Raises:
        ModelError: a decoder-only model for an encoder–decoder target, or the other way round; or
            hidden sizes that do not fit.
        RollbackUnsupported: it has layers that cannot forget.
    """
    module, vocab_size = _module_of(network), target.vocab_size
    name = type(module).__name__
    if not isinstance(target, Seq2SeqModel):
        if network.config.is_encoder_decoder:
            raise ModelError(
                f"{name} is an encoder–decoder model and cannot draft for a decoder-only target; "
                "choose a decoder-only draft model"
            )
        return runtime.adapt(network, vocab_size=None if keeps_columns else vocab_size)
    has_encoder = network.config.is_encoder_decoder
    if not has_encoder and not _reads_an_encoder(module):
        raise ModelError(
            f"{name} is decoder-only and cannot see what an encoder–decoder target reads; choose "
            "an encoder–decoder draft model, or a decoder with cross-attention"
        )
    shared = not has_encoder or _is_encoder_of(module, target.encoder)
    return runtime.adapt_seq2seq(
        module,
        vocab_size=vocab_size,
        decoder_start=target.start_tokens,
        encoder=target.encoder if shared else None,
    )


def _module_of(network: Loaded) -> PreTrainedModel:
    return network.outline if isinstance(network, Unmade) else network


def _reads_an_encoder(module: PreTrainedModel) -> bool:
    return any(name.endswith(CROSS_ATTENTION) for name, _ in module.named_modules())


def _is_encoder_of(module: PreTrainedModel, encoder: Encoder) -> bool:
    """Whether a module has the same encoder, weight for weight."""
    ours, theirs = module.get_encoder().state_dict(), encoder.module.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[key].shape == theirs[key].shape and torch.equal(ours[key].cpu(), theirs[key].cpu())
        for key in ours
    )
