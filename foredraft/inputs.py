"""What a caller of the documented functions gives → what decoding takes; bad input ends here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from foredraft.core import Prompt
from foredraft.decoding import Sequence as TokenSequence
from foredraft.errors import ConfigError, RequestError, VocabularyMismatch, quoted
from foredraft.models import LanguageModel, Recomputing, fit_drafter, fit_target
from foredraft.models.base import check_vocabulary_holds
from foredraft.sampling import Sampler
from foredraft.verification import (
    VERIFIERS,
    RejectionVerifier,
    RejectionWithoutResidual,
    Verifier,
)

EosIds = int | Sequence[int]


def begin(
    inputs: Prompt,
    model: Any,
    max_gen_len: int,
    eos_tokens_id: EosIds,
    use_cache: bool,
) -> tuple[LanguageModel, TokenSequence]:
    """Return the target, with or without its cache, and the sequence it begins.

    Raises:
        RequestError: the inputs are empty, a batch, or not of the model's vocabulary.
        ContextOverflow: the inputs do not fit.
    """
    target = model if isinstance(model, LanguageModel) else fit_target(model)
    prompt = as_prompt(inputs, target.prompt_vocab_size)
    sequence = TokenSequence(
        target.start(prompt),
        prompt=prompt,
        max_new_tokens=max_gen_len,
        max_length=target.max_length,
        eos_token_ids=as_ids(eos_tokens_id),
    )
    return target if use_cache else Recomputing(target), sequence


def draft_model(
    drafter: Any, target: Any, target_model: LanguageModel, use_cache: bool
) -> LanguageModel:
    """Return the draft model, fitted to its target.

    Args:
        drafter: as the caller gave it.
        target: likewise.
        target_model: the target's adapter.
        use_cache: as the caller gave it.
    """
    if isinstance(drafter, LanguageModel):
        if drafter is target:
            raise RequestError(
                "drafter and target are one adapter, which holds one sequence; make two adapters"
            )
        check_columns("the drafter", drafter.vocab_size, target_model)
        model = drafter
    else:
        uncached = target_model.inner if isinstance(target_model, Recomputing) else target_model
        model = fit_drafter(drafter, uncached)
    return model if use_cache else Recomputing(model)


def check_columns(who: str, vocab_size: int, target: LanguageModel) -> None:
    """Raise unless drafted tokens and the target's are of one vocabulary."""
    if vocab_size != target.vocab_size:
        raise VocabularyMismatch(
            f"{who} has {vocab_size} tokens but the target {target.vocab_size}; make it with "
            f"vocab_size={target.vocab_size}"
        )


def as_prompt(inputs: Prompt, vocab_size: int) -> Prompt:
    """Return what `LanguageModel.start` takes."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        return inputs  # features, for a model whose encoder reads them
    tokens = inputs.tolist() if isinstance(inputs, Tensor) else list(inputs)
    if not all(isinstance(t, int) for t in tokens):
        raise RequestError(
            "inputs must be the ids of one sequence; batches are not supported, call it for each"
        )
    if not tokens:
        raise RequestError("inputs is empty; give at least one prompt id")
    check_vocabulary_holds(tokens, vocab_size)
    return tokens


def as_ids(eos_tokens_id: EosIds) -> tuple[int, ...]:
    """Return end tokens as a tuple."""
    return (eos_tokens_id,) if isinstance(eos_tokens_id, int) else tuple(eos_tokens_id)


def as_verifier(verifier: str | Verifier) -> Verifier:
    """Return the accept/reject rule of a name, or the rule itself."""
    rule = VERIFIERS.create(verifier) if isinstance(verifier, str) else verifier
    if not isinstance(rule, Verifier):
        raise ConfigError(
            f"verifier must be a name or a Verifier object, not {quoted(verifier)}; "
            f"legal names: {', '.join(VERIFIERS.names)}"
        )
    return rule


def as_sampler(logits_processor: Sampler) -> Sampler:
    """Return the sampler; a name is not enough, since these functions take objects."""
    if not isinstance(logits_processor, Sampler):
        raise ConfigError(
            f"logits_processor must be a Sampler object, not {quoted(logits_processor)}; "
            "give e.g. GreedyProcessor() or NucleusProcessor(temperature=1.0, top_p=0.9)"
        )
    return logits_processor


def without_residual(verifier: Verifier) -> Verifier:
    """Return the lossy variant of the rejection verifier."""
    if not isinstance(verifier, RejectionVerifier):
        raise ConfigError(
            "skip_sample_adjustment changes the rejection verifier, not "
            f"{type(verifier).__name__}; leave one of the two out"
        )
    return RejectionWithoutResidual()
