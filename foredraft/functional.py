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
from foredraft.drafting import DraftModelDrafter, INgramStorage, NgramDrafter
from foredraft.errors import ConfigError, foreign, quoted
from foredraft.gamma import EntropyGamma, FixedGamma, GammaPolicy
from foredraft.gamma.entropy import Ema
from foredraft.inputs import (
    Decoder,
    EosIds,
    Model,
    as_sampler,
    as_storage,
    as_tokenizer,
    as_verifier,
    begin,
    check_columns,
    draft_model,
)
from foredraft.ownership import holding
from foredraft.ranges import Count, DraftLength, Fillers, Length, Seed, TokenId
from foredraft.sampling import GreedySampler, Rng, Sampler, fresh_seed, rng_for
from foredraft.sampling.processors import GivenControls
from foredraft.tracing import print_step, summarize
from foredraft.verification import (
    Verifier,
)

GREEDY = GreedySampler()


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
    """Decode one token a pass.

    Args:
        inputs: prompt ids, at least one.
        model: a Hugging Face causal LM, or a `Network`.
        max_gen_len: most tokens to generate.
        logits_processor: a sampler.
        controls: that bend the distribution before it, in order: `foredraft.sampling.Control`
            objects, or a `LogitsProcessorList` of transformers.
        eos_tokens_id: end token, or several; None ends at the length alone.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        debug: print every step.
        seed: None takes a fresh one, which `torch.manual_seed` governs.
        verifier: nothing is verified here; `coupled` makes the text the one that coupled
            speculation gives with the same seed.
        runtime: what computes a module: transformers, native or auto, see `foredraft.adapters`.

    Returns:
        Generated ids.

    Raises:
        RequestError: no prompt ids.
        ContextOverflow: the prompt does not fit.
    """
    sampler, rule = as_sampler(logits_processor), as_verifier(verifier)
    rng = _rng(seed, rule)
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
        min_length: constant of the length penalty, in tokens.
        alpha: exponent of the length penalty.
        controls: that bend the distribution, as for `autoregressive_generate`.
        eos_tokens_id: end token, or several; None ends at the length alone.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        debug: print the live beams after every step.
        tokenizer: for `debug`; without it ids are printed.
        runtime: what computes a module: transformers, native or auto, see `foredraft.adapters`.

    Returns:
        Generated ids.
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
    """Speculative decoding (Leviathan et al., 2023, algorithm 1): the same text, sooner.

    Args:
        inputs: prompt ids, at least one.
        drafter: the draft model, a Hugging Face causal LM or a `Network`.
        target: the model whose distribution is preserved, likewise.
        tokenizer: for `debug` only; without it ids are printed.
        gamma: tokens drafted in a step.
        use_egag: let the drafter's entropy decide gamma.
        gamma_min: lower bound for EGAG.
        gamma_max: upper bound for EGAG; None means `gamma`.
        egag_ema_beta: smoothing for EGAG, 0 none.
        logits_processor: a sampler, used for both models.
        controls: as for `autoregressive_generate`.
        max_gen_len: most tokens to generate, never overshot.
        eos_tokens_id: end token, or several; None ends at the length alone.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        skip_sample_adjustment: LOSSY: after a rejection draw from p; `rejection` verifier only.
        first_target: decode the first token with the target alone.
        debug: print every step with accepted, rejected, recovered and bonus tokens.
        seed: None takes a fresh one, which `torch.manual_seed` governs.
        verifier: accept/reject rule, by name or object: rejection, block, exact_match, coupled.
        runtime: what computes modules: transformers, native or auto, see `foredraft.adapters`.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).
    """
    egag = EntropyGamma(gamma_min, gamma_max or gamma, egag_ema_beta)  # checked while off, too
    rule, sampler = as_verifier(verifier, skip_sample_adjustment), as_sampler(logits_processor)
    rng = _rng(seed, rule)
    request = begin(inputs, target, rng, max_gen_len, eos_tokens_id, use_cache, runtime, controls)
    drafting = DraftModelDrafter(draft_model(drafter, request, use_cache, runtime), sampler)
    policy: GammaPolicy = egag if use_egag else FixedGamma(gamma)
    parts = Speculation(request.context.network, drafting, policy, rule, sampler, first_target)
    return _speculate(parts, request, as_tokenizer(tokenizer), debug)


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
    """N-gram assisted speculative decoding (NASD): counts take the place of the draft model.

    Args:
        inputs: prompt ids, at least one; their n-grams are added to the storage.
        ngramstorage: kept as it is between calls; call its `reset` to forget.
        target: the model whose distribution is preserved.
        tokenizer: for `debug` only; without it ids are printed.
        gamma: most tokens drafted in a step.
        filler_top_k: target tokens counted at each position; 1 counts the emitted one alone.
        logits_processor: a sampler.
        controls: as for `autoregressive_generate`.
        max_gen_len: most tokens to generate, never overshot.
        eos_tokens_id: end token, or several; None ends at the length alone.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        first_target: decode the first token with the target alone.
        stop_if_unknown: end a draft at an unknown context; False guesses a random token there, as
            the original does, and is then slower than plain decoding where little repeats.
        debug: print every step.
        seed: None takes a fresh one, which `torch.manual_seed` governs.
        verifier: accept/reject rule, by name or object: rejection, block, exact_match, coupled.
        runtime: what computes modules: transformers, native or auto, see `foredraft.adapters`.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).
    """
    drafting = NgramDrafter(
        as_storage(ngramstorage),
        filler_top_k=filler_top_k,
        stop_if_unknown=stop_if_unknown,
        reset_in_between=False,
    )
    rule, sampler = as_verifier(verifier), as_sampler(logits_processor)
    rng = _rng(seed, rule)
    request = begin(inputs, target, rng, max_gen_len, eos_tokens_id, use_cache, runtime, controls)
    network = request.context.network
    check_columns("the storage", getattr(ngramstorage, "vocab_size", network.vocab_size), network)
    parts = Speculation(network, drafting, FixedGamma(gamma), rule, sampler, first_target)
    return _speculate(parts, request, as_tokenizer(tokenizer), debug)


def max_fn(x: Tensor) -> Tensor:
    """Return max(0, x) normalised along the last dimension; all zeros where nothing is positive.

    Leviathan et al. (2023): norm(max(0, p − q)), the residual distribution. Shape is kept.
    """
    if not isinstance(x, Tensor) or x.dtype == torch.bool or x.is_complex():
        raise ConfigError(
            f"x must be a tensor of real numbers, not {quoted(x)}; give torch.tensor([…])"
        )
    positive = x.clamp(min=0)
    total = positive.sum(-1, keepdim=True)
    return torch.where(total > 0, positive / total, positive)


def _speculate(
    parts: Speculation, request: Request, tokenizer: Decoder | None, debug: bool
) -> tuple[list[int], float]:
    rate = _run(speculative_steps(parts, request), tokenizer, debug)
    return request.output, rate


def _rng(seed: int | None, verifier: Verifier) -> Rng:
    return rng_for(fresh_seed() if seed is None else seed, keyed=verifier.is_coupled)


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
