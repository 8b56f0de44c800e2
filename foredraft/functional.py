"""The documented functions: token ids in, token ids out. A few lines each over `decoding`.

Models are Hugging Face modules or our adapters; the ids returned are the generated ones only, an
end token included, never more than `max_gen_len`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from foredraft.core import Prompt, StepRecord
from foredraft.decoding import (
    BeamSettings,
    Request,
    Speculation,
    autoregressive_steps,
    beam_search,
    speculative_steps,
)
from foredraft.decoding.beam import Hypothesis
from foredraft.doors import checks_arguments
from foredraft.drafting import Drafter, DraftModelDrafter, INgramStorage, NgramDrafter
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.gamma import EntropyGamma, FixedGamma, GammaPolicy
from foredraft.gamma.entropy import Ema
from foredraft.inputs import (
    Decoder,
    EosIds,
    Model,
    as_storage,
    as_tokenizer,
    begin,
    check_columns,
    draft_model,
    judging,
)
from foredraft.ownership import holding
from foredraft.ranges import Count, DraftLength, Fillers, Length, Seed, TokenId
from foredraft.sampling import GreedySampler, Rng, Sampler
from foredraft.sampling.processors import GivenControls
from foredraft.tracing import print_step, summarize
from foredraft.verification import Verifier

GREEDY = GreedySampler()
Parts = tuple[Drafter, GammaPolicy, Verifier, Sampler, bool]  # of `Speculation`, after the target


@checks_arguments
@holding
def autoregressive_generate(
    inputs: Prompt,
    model: Model,
    *,
    max_gen_len: Length = 40,
    logits_processor: Sampler = GREEDY,
    controls: GivenControls = (),
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    debug: bool = False,
    seed: Seed | None = None,
    verifier: str | Verifier = "rejection",
    runtime: str = "transformers",
) -> list[int]:
    """Decode with the target alone, one token in each forward pass.

    Args:
        inputs: prompt ids, at least one.
        model: a Hugging Face causal LM, or a `Network`.
        max_gen_len: most tokens to generate.
        logits_processor: a sampler, which turns logits into the distribution that is drawn from.
        controls: what changes the logits before the sampler, in this order:
            `foredraft.sampling.Control` objects, or a `LogitsProcessorList` of transformers.
        eos_tokens_id: end token, or several; None: only the length ends the text.
        pad_token_id: has no effect: a single sequence holds no padding.
        use_cache: False computes the whole prefix anew in every forward pass.
        debug: print every step.
        seed: of every random draw; None takes a fresh one, which `torch.manual_seed` governs.
        verifier: nothing is verified here, but `coupled` draws as coupled speculation does, so
            that both give the same text for the same seed.
        runtime: what computes a module: transformers, native or auto.

    Returns:
        Generated ids.

    Raises:
        ConfigError: an argument is of another type, or out of its range.
        RequestError: the inputs are empty, a batch, or hold ids that the model does not have.
        ContextOverflow: the inputs leave no position for a new token.
        ModelError: the model cannot decode token by token, or its logits are no numbers.
    """
    _, sampler, rng = judging(verifier, logits_processor, seed)
    request = begin(
        inputs, model, rng, max_gen_len, eos_tokens_id, use_cache, runtime, controls, "model"
    )
    _run(autoregressive_steps(request, sampler), None, debug)
    return request.output


@checks_arguments
@holding
def beam_search_generate(
    inputs: Prompt,
    model: Model,
    *,
    max_gen_len: Length = 40,
    num_beams: Count = 4,
    top_k: Count = 3,
    min_length: float = 5.0,
    alpha: float = 1.2,
    controls: GivenControls = (),
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    debug: bool = False,
    tokenizer: Decoder | None = None,
    runtime: str = "transformers",
) -> list[int]:
    """Return the best hypothesis of a beam search (Wu et al., 2016, equation 14).

    Args:
        inputs: prompt ids, at least one.
        model: a Hugging Face causal LM, or a `Network`.
        max_gen_len: most tokens to generate.
        num_beams: hypotheses kept at each step.
        top_k: continuations considered for each.
        min_length: the constant m of the length penalty ((m + length) / (m + 1))^alpha, in tokens;
            5 in the paper. It is no minimum: a text may end sooner.
        alpha: exponent of the length penalty; 0 does not reward length.
        controls: as for `autoregressive_generate`.
        eos_tokens_id: end token, or several; None: only the length ends the text.
        pad_token_id: has no effect: a single sequence holds no padding.
        use_cache: False computes the whole prefix anew in every forward pass.
        debug: print the live beams after every step.
        tokenizer: for `debug` only; without it ids are printed.
        runtime: what computes a module: transformers, native or auto.

    Returns:
        Generated ids.

    Raises:
        Errors as for `autoregressive_generate`.
    """
    settings = BeamSettings(num_beams, top_k, min_length, alpha)
    decodes = as_tokenizer(tokenizer)
    request = begin(
        inputs, model, Rng(0), max_gen_len, eos_tokens_id, use_cache, runtime, controls, "model"
    )

    def show(beams: list[Hypothesis]) -> None:
        for beam in beams:
            print(f"{beam.score(settings):8.3f}  {_decode(decodes, beam.tokens)!r}")
        print()

    beam_search(request, settings, on_step=show if debug else None)
    return request.output


@checks_arguments
@holding
def speculative_generate(
    inputs: Prompt,
    drafter: Model,
    target: Model,
    tokenizer: Decoder | None = None,
    gamma: DraftLength = 5,
    *,
    use_egag: bool = False,
    gamma_min: DraftLength = 1,
    gamma_max: DraftLength | None = None,
    egag_ema_beta: Ema = 0.0,
    logits_processor: Sampler = GREEDY,
    controls: GivenControls = (),
    max_gen_len: Length = 40,
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    skip_sample_adjustment: bool = False,
    first_target: bool = True,
    debug: bool = False,
    seed: Seed | None = None,
    verifier: str | Verifier = "rejection",
    runtime: str = "transformers",
) -> tuple[list[int], float]:
    """Decode speculatively (Leviathan et al., 2023): the target's distribution, in fewer passes.

    Args:
        inputs: prompt ids, at least one.
        drafter: the draft model, a Hugging Face causal LM or a `Network`.
        target: the model whose distribution is preserved, likewise.
        tokenizer: for `debug` only; without it ids are printed.
        gamma: tokens drafted in a step.
        use_egag: let the drafter's entropy decide the draft length (EGAG).
        gamma_min: EGAG: lower bound of the draft length.
        gamma_max: EGAG: upper bound, which is itself hardly reached; None means `gamma`.
        egag_ema_beta: EGAG: weight of the past in its moving average; 0 is no smoothing.
        logits_processor: a sampler, used for both models.
        controls: as for `autoregressive_generate`.
        max_gen_len: most tokens to generate, never overshot.
        eos_tokens_id: end token, or several; None: only the length ends the text.
        pad_token_id: has no effect: a single sequence holds no padding.
        use_cache: False computes the whole prefix anew in every forward pass.
        skip_sample_adjustment: LOSSY: after a rejection draw from p; only with `rejection`.
        first_target: decode the first token with the target alone.
        debug: print every step with accepted, rejected, recovered and bonus tokens.
        seed: of every random draw; None takes a fresh one, which `torch.manual_seed` governs.
        verifier: accept/reject rule, by name or object: rejection, block, exact_match, coupled.
        runtime: what computes modules: transformers, native or auto.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).

    Raises:
        Errors as for `autoregressive_generate`; `VocabularyMismatch`: the models' tokens differ.
    """
    policy = _policy(use_egag, gamma, gamma_min, gamma_max, egag_ema_beta)
    rule, sampler, rng = judging(verifier, logits_processor, seed, skip_sample_adjustment)
    request = begin(inputs, target, rng, max_gen_len, eos_tokens_id, use_cache, runtime, controls)
    drafting = DraftModelDrafter(draft_model(drafter, request, use_cache, runtime), sampler)
    return _speculate((drafting, policy, rule, sampler, first_target), request, tokenizer, debug)


@checks_arguments
@holding
def ngram_assisted_speculative_generate(
    inputs: Prompt,
    ngramstorage: INgramStorage,
    target: Model,
    tokenizer: Decoder | None = None,
    gamma: DraftLength = 5,
    *,
    filler_top_k: Fillers = 3,
    logits_processor: Sampler = GREEDY,
    controls: GivenControls = (),
    max_gen_len: Length = 40,
    eos_tokens_id: EosIds = 1,
    pad_token_id: TokenId | None = 0,
    use_cache: bool = True,
    first_target: bool = True,
    stop_if_unknown: bool = True,
    debug: bool = False,
    seed: Seed | None = None,
    verifier: str | Verifier = "rejection",
    runtime: str = "transformers",
) -> tuple[list[int], float]:
    """Decode by n-gram assisted speculation (NASD): counts take the place of the draft model.

    Args:
        inputs: prompt ids, at least one; their n-grams are added to the storage.
        ngramstorage: keeps its counts between calls; call its `reset` to forget them.
        target: the model whose distribution is preserved.
        tokenizer: for `debug` only; without it ids are printed.
        gamma: most tokens drafted in a step.
        filler_top_k: target tokens counted at each position; 1 counts the emitted one alone.
        logits_processor: a sampler, as for `autoregressive_generate`.
        controls: as for `autoregressive_generate`.
        max_gen_len: most tokens to generate, never overshot.
        eos_tokens_id: end token, or several; None: only the length ends the text.
        pad_token_id: has no effect: a single sequence holds no padding.
        use_cache: False computes the whole prefix anew in every forward pass.
        first_target: decode the first token with the target alone.
        stop_if_unknown: end a draft at an unknown context; False guesses a random token there.
        debug: print every step.
        seed: of every random draw; None takes a fresh one, which `torch.manual_seed` governs.
        verifier: accept/reject rule, by name or object: rejection, block, exact_match, coupled.
        runtime: what computes modules: transformers, native or auto.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).

    Raises:
        Errors as for `autoregressive_generate`; `VocabularyMismatch`: the storage's tokens differ.
    """
    drafting = NgramDrafter(
        as_storage(ngramstorage),
        filler_top_k=filler_top_k,
        stop_if_unknown=stop_if_unknown,
        reset_in_between=False,
    )
    rule, sampler, rng = judging(verifier, logits_processor, seed)
    request = begin(inputs, target, rng, max_gen_len, eos_tokens_id, use_cache, runtime, controls)
    check_columns("the storage", getattr(ngramstorage, "vocab_size", None), request.context.network)
    parts = drafting, FixedGamma(gamma), rule, sampler, first_target
    return _speculate(parts, request, tokenizer, debug)


def max_fn(x: Tensor) -> Tensor:
    """Return max(0, x) normalised along the last dimension; all zeros where nothing is positive.

    Of p − q it is the residual distribution norm(max(0, p − q)) of Leviathan et al. (2023).

    Args:
        x: real numbers, shape `[..., vocab]`.

    Returns:
        Probabilities, of the same shape and dtype.

    Raises:
        ConfigError: x is no tensor of real numbers.
    """
    if not isinstance(x, Tensor) or x.dtype == torch.bool or x.is_complex():
        raise ConfigError(
            f"x must be a tensor of real numbers, not {quoted(x)}; give torch.tensor([…])"
        )
    positive = x.clamp(min=0)
    total = positive.sum(-1, keepdim=True)
    return torch.where(total > 0, positive / total, positive)


def _speculate(
    parts: Parts, request: Request, tokenizer: Decoder | None, debug: bool
) -> tuple[list[int], float]:
    decodes, every = as_tokenizer(tokenizer), Speculation(request.context.network, *parts)
    rate = _run(speculative_steps(every, request), decodes, debug)
    return request.output, rate


def _policy(
    use_egag: bool, gamma: int, gamma_min: int, gamma_max: int | None, ema: float
) -> GammaPolicy:
    egag = EntropyGamma(gamma_min, gamma_max or gamma, ema)  # checked while off, too
    return egag if use_egag else FixedGamma(gamma)


def _run(steps: Iterator[StepRecord], tokenizer: Decoder | None, debug: bool) -> float:
    records = []
    for number, record in enumerate(steps, start=1):
        records.append(record)
        if debug:
            print_step(number, record, lambda tokens: _decode(tokenizer, tokens))
    return summarize(records).acceptance_rate or 0.0


def _decode(tokenizer: Decoder | None, tokens: Sequence[int]) -> str:
    if tokenizer is None:
        return str(list(tokens))
    with foreign("the tokenizer", "leave it out to print ids"):
        return str(tokenizer.decode(list(tokens)))
