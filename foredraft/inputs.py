"""What a caller of the documented functions gives → what decoding takes; bad input ends here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Protocol, TypeGuard

import numpy as np
from torch import Tensor, nn

from foredraft.adapters import ModuleRuntime
from foredraft.core import Prompt
from foredraft.decoding import Request
from foredraft.doors import of_type
from foredraft.drafting import INgramStorage
from foredraft.errors import ConfigError, RequestError, VocabularyMismatch, quoted
from foredraft.loading import fit_drafter, fit_target
from foredraft.loading.runtime import TRANSFORMERS, Runtime
from foredraft.method import verifier_named
from foredraft.models import Network, Recomputing
from foredraft.models.refusals import check_is_network, check_vocabulary_holds
from foredraft.ranges import TokenId, checked
from foredraft.sampling import ControlledText, Controls, Rng, Sampler, fresh_seed, rng_for
from foredraft.sampling.processors import GivenControls, as_controls
from foredraft.verification import (
    VERIFIERS,
    RejectionVerifier,
    RejectionWithoutResidual,
    Verifier,
)

Model = nn.Module | Network  # a Hugging Face module, or an adapter of one
EosIds = int | Sequence[int] | None
NO_DRAFTER = "to decode without one call autoregressive_generate"


class Decoder(Protocol):
    """What tokens are shown with: a Hugging Face tokenizer is one."""

    def decode(self, token_ids: list[int], /) -> object:
        """Return the text of tokens."""


def begin(
    inputs: Prompt,
    model: Model,
    rng: Rng,
    max_gen_len: int,
    eos_tokens_id: EosIds,
    use_cache: bool,
    runtime: str,
    controls: GivenControls = (),
    name: str = "target",
) -> Request:
    """Return the request that a call makes of its target.

    Args:
        inputs: as the caller gave them, like all that follow.
        model: the target.
        rng: source of randomness.
        max_gen_len: most tokens to generate.
        eos_tokens_id: end tokens.
        use_cache: whether passes build on what was computed before.
        runtime: what computes it, if it is a module.
        controls: that bend its distribution.
        name: what the function calls its target.

    Raises:
        ConfigError: one of the settings is of another type, or out of range.
        RequestError: the inputs are empty, a batch, or not of the model's vocabulary.
        ContextOverflow: the inputs do not fit.
    """
    ends = as_ids("eos_tokens_id", eos_tokens_id)
    chosen = as_runtime(runtime, name, model)
    if isinstance(model, Network):
        target = model
    else:
        target = fit_target(check_is_network(name, model), chosen)
    prompt = as_prompt(inputs, target.prompt_vocab_size)
    every = as_controls(controls)
    context = (target if use_cache else Recomputing(target)).open(prompt)
    text = ControlledText(context.begin, frozenset(ends), target.vocab_size)
    return Request(
        context,
        rng,
        max_new_tokens=max_gen_len,
        eos_token_ids=ends,
        controls=Controls(every, text) if every else None,
    )


def draft_model(drafter: Model, request: Request, use_cache: bool, runtime: str) -> Network:
    """Return the draft model, fitted to its target.

    Args:
        drafter: as the caller gave it.
        request: of the target whose vocabulary it needs.
        use_cache: as the caller gave it.
        runtime: likewise.
    """
    target, chosen = request.context.network, as_runtime(runtime, "drafter", drafter)
    if isinstance(drafter, Network):
        check_columns("the drafter", drafter.vocab_size, target)
        model = drafter
    else:
        uncached = target.inner if isinstance(target, Recomputing) else target
        model = fit_drafter(check_is_network("drafter", drafter, NO_DRAFTER), uncached, chosen)
    return model if use_cache else Recomputing(model)


def as_runtime(runtime: str, name: str, model: Model) -> Runtime:
    """Return what computes a model that is a module.

    Args:
        runtime: as the caller gave it.
        name: of the parameter that holds the model.
        model: a module or an adapter.

    Raises:
        ConfigError: there is no such runtime, or the model is an adapter, which is computed by
            itself.
    """
    chosen = ModuleRuntime(checked("runtime", runtime, str))
    if isinstance(model, Network) and chosen.name != TRANSFORMERS.name:
        raise ConfigError(
            f"runtime {runtime!r} is for modules of transformers, and the {name} is an adapter "
            f"({type(model).__name__}), which computes by itself; give the module, or leave "
            "runtime out"
        )
    return chosen


def check_columns(who: str, vocab_size: int | None, target: Network) -> None:
    """Raise unless a draft fits the target; None: nobody knows how many tokens there are."""
    if vocab_size not in (None, target.vocab_size):
        raise VocabularyMismatch(
            f"{who} has {vocab_size} tokens but the target {target.vocab_size}; make it with "
            f"vocab_size={target.vocab_size}, or let Engine.load load both: it knows their "
            "tokenizers and translates"
        )


def as_prompt(inputs: Prompt, vocab_size: int) -> Prompt:
    """Return what `Network.open` takes."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        return inputs  # features, for a model whose encoder reads them
    rows = inputs.tolist() if isinstance(inputs, Tensor | np.ndarray) else inputs
    try:
        if not _is_listed(rows):
            raise ConfigError
        tokens = [checked("inputs", t, int) for t in rows]
    except ConfigError:
        raise RequestError(
            f"inputs must be the ids of one sequence, not {quoted(inputs)}; give a list of whole "
            "numbers; batches are not supported, call it for each: of one row in a tensor inputs[0]"
        ) from None
    if not tokens:
        raise RequestError("inputs is empty; give at least one prompt id")
    check_vocabulary_holds(tokens, vocab_size)
    return tokens


def _is_listed(value: object) -> TypeGuard[Sequence[object]]:
    """Whether the value holds others in an order of its own, and is no text."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def as_ids(name: str, ids: EosIds) -> tuple[int, ...]:
    """Return one token, several or None as a tuple.

    Raises:
        ConfigError: they are no token ids.
    """
    if ids is None:
        return ()
    several: Iterable[object] = (ids,)
    if _is_listed(ids) or isinstance(ids, Set):
        several = ids
    try:
        return tuple(checked(name, token, TokenId) for token in several)
    except ConfigError:
        raise ConfigError(
            f"{name} must be a token id, several, or None, not {quoted(ids)}; "
            "ids are whole numbers ≥ 0"
        ) from None


def as_tokenizer(tokenizer: Decoder | None) -> Decoder | None:
    """Return what `debug` decodes with."""
    if tokenizer is not None and not callable(getattr(tokenizer, "decode", None)):
        raise ConfigError(
            f"tokenizer must have a method decode, not be {quoted(tokenizer)}; "
            "give a Hugging Face tokenizer, or None to print ids"
        )
    return tokenizer


def as_storage(storage: INgramStorage) -> INgramStorage:
    """Return the storage of n-grams."""
    remedy = "give e.g. NGramStorage(n=3, vocab_size=…)"
    return of_type("ngramstorage", storage, INgramStorage, remedy)  # type: ignore[type-abstract]


def judging(
    verifier: str | Verifier, sampler: Sampler, seed: int | None, is_lossy: bool = False
) -> tuple[Verifier, Sampler, Rng]:
    """Return the rule of verification, the sampler, and the source of randomness they need."""
    rule = as_verifier(verifier, is_lossy)
    rng = rng_for(fresh_seed() if seed is None else seed, keyed=rule.is_coupled)
    return rule, as_sampler(sampler), rng


def as_verifier(verifier: str | Verifier, skip_sample_adjustment: bool = False) -> Verifier:
    """Return the accept/reject rule of a name, or the rule itself; without residual if asked."""
    rule = verifier_named(verifier) if isinstance(verifier, str) else verifier
    if not isinstance(rule, Verifier):
        raise ConfigError(
            f"verifier must be a name or a Verifier object, not {quoted(verifier)}; "
            f"legal names: {', '.join(VERIFIERS.names)}"
        )
    return _without_residual(rule) if skip_sample_adjustment else rule


def as_sampler(logits_processor: Sampler) -> Sampler:
    """Return the sampler; a name is not enough, since these functions take objects."""
    if not isinstance(logits_processor, Sampler):
        raise ConfigError(
            f"logits_processor must be a Sampler object, not {quoted(logits_processor)}; "
            "give e.g. GreedyProcessor() or NucleusProcessor(temperature=1.0, top_p=0.9)"
        )
    return logits_processor


def _without_residual(verifier: Verifier) -> Verifier:
    """Return the lossy variant of the rejection verifier."""
    if not isinstance(verifier, RejectionVerifier):
        raise ConfigError(
            "skip_sample_adjustment changes the rejection verifier, not "
            f"{type(verifier).__name__}; leave one of the two out"
        )
    return RejectionWithoutResidual()
