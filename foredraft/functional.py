"""The documented functions: token ids in, token ids out. A few lines each over `decoding`.

Models are Hugging Face modules or our adapters; the ids returned are the generated ones only, an
end token included, never more than `max_gen_len`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from foredraft.core import Prompt, StepRecord
from foredraft.decoding import (
    BeamSettings,
    Speculation,
    autoregressive_steps,
    beam_search,
    speculative_steps,
)
from foredraft.decoding import Sequence as TokenSequence
from foredraft.decoding.beam import Hypothesis
from foredraft.drafting import DraftModelDrafter, INgramStorage, NgramDrafter
from foredraft.gamma import EntropyGamma, FixedGamma, GammaPolicy
from foredraft.inputs import (
    EosIds,
    as_ids,
    as_sampler,
    as_verifier,
    begin,
    check_columns,
    draft_model,
    without_residual,
)
from foredraft.ownership import holding
from foredraft.sampling import GreedySampler, Sampler, rng_for
from foredraft.tracing import print_step, summarize
from foredraft.verification import (
    Verifier,
)

GREEDY = GreedySampler()


@holding
def autoregressive_generate(
    inputs: Prompt,
    model: Any,
    *,
    max_gen_len: int = 40,
    logits_processor: Sampler = GREEDY,
    eos_tokens_id: EosIds = 1,
    pad_token_id: int = 0,
    use_cache: bool = True,
    debug: bool = False,
    seed: int = 42,
    verifier: str | Verifier = "rejection",
) -> list[int]:
    """Decode one token a pass.

    Args:
        inputs: prompt ids, at least one.
        model: a Hugging Face causal LM, or a `LanguageModel`.
        max_gen_len: most tokens to generate.
        logits_processor: a sampler.
        eos_tokens_id: end token, or several.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        debug: print every step.
        seed: of the random decisions.
        verifier: nothing is verified here; `coupled` makes the text the one that coupled
            speculation gives with the same seed.

    Returns:
        Generated ids.

    Raises:
        RequestError: no prompt ids.
        ContextOverflow: the prompt does not fit.
    """
    target, sequence = begin(inputs, model, max_gen_len, eos_tokens_id, use_cache)
    rng = rng_for(seed, keyed=as_verifier(verifier).is_coupled)
    steps = autoregressive_steps(target, sequence, as_sampler(logits_processor), rng)
    _run(steps, None, debug)
    return sequence.output


@holding
def beam_search_generate(
    inputs: Prompt,
    model: Any,
    *,
    max_gen_len: int = 40,
    num_beams: int = 4,
    top_k: int = 3,
    min_length: float = 5.0,
    alpha: float = 1.2,
    eos_tokens_id: EosIds = 1,
    pad_token_id: int = 0,
    use_cache: bool = True,
    debug: bool = False,
    tokenizer: Any = None,
) -> list[int]:
    """Return the best hypothesis of a beam search (Wu et al., 2016, equation 14).

    Args:
        inputs: prompt ids, at least one.
        model: a Hugging Face causal LM, or a `LanguageModel`.
        max_gen_len: most tokens to generate.
        num_beams: hypotheses kept at each step.
        top_k: continuations considered for each.
        min_length: constant of the length penalty, in tokens.
        alpha: exponent of the length penalty.
        eos_tokens_id: end token, or several.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        debug: print the live beams after every step.
        tokenizer: for `debug`; without it ids are printed.

    Returns:
        Generated ids.
    """
    settings = BeamSettings(num_beams, top_k, min_length, alpha)
    target, sequence = begin(inputs, model, max_gen_len, eos_tokens_id, use_cache)

    def show(beams: list[Hypothesis]) -> None:
        for beam in beams:
            print(f"{beam.score(settings):8.3f}  {_decode(tokenizer, list(beam.tokens))!r}")
        print()

    best = beam_search(
        target,
        sequence.tokens,
        settings,
        max_new_tokens=max_gen_len,
        eos_token_ids=as_ids(eos_tokens_id),
        on_step=show if debug else None,
    )
    return list(best.tokens)


@holding
def speculative_generate(
    inputs: Prompt,
    drafter: Any,
    target: Any,
    tokenizer: Any = None,
    gamma: int = 5,
    *,
    use_egag: bool = False,
    gamma_min: int = 1,
    gamma_max: int | None = None,
    egag_ema_beta: float = 0.0,
    logits_processor: Sampler = GREEDY,
    max_gen_len: int = 40,
    eos_tokens_id: EosIds = 1,
    pad_token_id: int = 0,
    use_cache: bool = True,
    skip_sample_adjustment: bool = False,
    first_target: bool = True,
    debug: bool = False,
    seed: int = 42,
    verifier: str | Verifier = "rejection",
) -> tuple[list[int], float]:
    """Speculative decoding (Leviathan et al., 2023, algorithm 1): the same text, sooner.

    Args:
        inputs: prompt ids, at least one.
        drafter: the draft model, a Hugging Face causal LM or a `LanguageModel`.
        target: the model whose distribution is preserved, likewise.
        tokenizer: for `debug` only; without it ids are printed.
        gamma: tokens drafted in a step.
        use_egag: let the drafter's entropy decide gamma.
        gamma_min: lower bound for EGAG.
        gamma_max: upper bound for EGAG; None means `gamma`.
        egag_ema_beta: smoothing for EGAG, 0 none.
        logits_processor: a sampler, used for both models.
        max_gen_len: most tokens to generate, never overshot.
        eos_tokens_id: end token, or several.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        skip_sample_adjustment: LOSSY: draw from p instead of the residual after a rejection; a
            variant of the `rejection` verifier only.
        first_target: decode the first token with the target alone.
        debug: print every step with accepted, rejected, recovered and bonus tokens.
        seed: of the random decisions.
        verifier: accept/reject rule, by name or object: rejection, block, exact_match, coupled.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).
    """
    model, sequence = begin(inputs, target, max_gen_len, eos_tokens_id, use_cache)
    draft = draft_model(drafter, target, model, use_cache)
    policy: GammaPolicy = FixedGamma(gamma)
    if use_egag:
        policy = EntropyGamma(gamma_min, gamma if gamma_max is None else gamma_max, egag_ema_beta)
    rule = as_verifier(verifier)
    if skip_sample_adjustment:
        rule = without_residual(rule)
    drafting = DraftModelDrafter(draft, as_sampler(logits_processor))
    parts = Speculation(model, drafting, policy, rule, drafting.sampler, first_target)
    return _speculate(parts, sequence, seed, tokenizer, debug)


@holding
def ngram_assisted_speculative_generate(
    inputs: Prompt,
    ngramstorage: INgramStorage,
    target: Any,
    tokenizer: Any = None,
    gamma: int = 5,
    *,
    filler_top_k: int = 3,
    logits_processor: Sampler = GREEDY,
    max_gen_len: int = 40,
    eos_tokens_id: EosIds = 1,
    pad_token_id: int = 0,
    use_cache: bool = True,
    first_target: bool = True,
    stop_if_unknown: bool = False,
    debug: bool = False,
    seed: int = 42,
    verifier: str | Verifier = "rejection",
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
        max_gen_len: most tokens to generate, never overshot.
        eos_tokens_id: end token, or several.
        pad_token_id: plays no part: one sequence holds no padding, so no id is taken for it.
        use_cache: False computes the whole prefix at every pass.
        first_target: decode the first token with the target alone.
        stop_if_unknown: end a draft at an unknown context instead of guessing.
        debug: print every step.
        seed: of the random decisions.
        verifier: accept/reject rule, by name or object: rejection, block, exact_match, coupled.

    Returns:
        Generated ids, and the acceptance rate accepted / drafted (0.0 when nothing was drafted).
    """
    model, sequence = begin(inputs, target, max_gen_len, eos_tokens_id, use_cache)
    drafting = NgramDrafter(
        ngramstorage,
        filler_top_k=filler_top_k,
        stop_if_unknown=stop_if_unknown,
        reset_in_between=False,
    )
    check_columns("the storage", getattr(ngramstorage, "vocab_size", model.vocab_size), model)
    policy, rule, sampler = FixedGamma(gamma), as_verifier(verifier), as_sampler(logits_processor)
    parts = Speculation(model, drafting, policy, rule, sampler, first_target)
    return _speculate(parts, sequence, seed, tokenizer, debug)


def max_fn(x: Tensor) -> Tensor:
    """Return max(0, x) normalised along the last dimension; all zeros where nothing is positive.

    Leviathan et al. (2023): norm(max(0, p − q)), the residual distribution. Shape is kept.
    """
    positive = x.clamp(min=0)
    total = positive.sum(-1, keepdim=True)
    return torch.where(total > 0, positive / total, positive)


def _speculate(
    parts: Speculation, sequence: TokenSequence, seed: int, tokenizer: Any, debug: bool
) -> tuple[list[int], float]:
    rng = rng_for(seed, keyed=parts.verifier.is_coupled)
    rate = _run(speculative_steps(parts, sequence, rng), tokenizer, debug)
    return sequence.output, rate


def _run(steps: Iterator[StepRecord], tokenizer: Any, debug: bool) -> float:
    records = []
    for number, record in enumerate(steps, start=1):
        records.append(record)
        if debug:
            print_step(number, record, lambda tokens: _decode(tokenizer, tokens))
    return summarize(records).acceptance_rate or 0.0


def _decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(list(tokens)) if tokenizer is None else str(tokenizer.decode(list(tokens)))
