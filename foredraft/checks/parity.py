"""Checks that need no luck: one vocabulary, caches that forget, greedy output that is the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, isfinite

from foredraft.checks.remembered import Noted
from foredraft.checks.report import METHODS, Finding, Plan, Progress
from foredraft.decoding import (
    Difference,
    Request,
    Speculation,
    autoregressive_steps,
    first_difference,
    speculative_steps,
)
from foredraft.engine import Engine
from foredraft.models import HeadModel, Network, Seq2SeqModel
from foredraft.sampling import GreedySampler, Rng, rng_for
from foredraft.translation import Translation, difference


def check_vocabularies(engine: Engine, plan: Plan, progress: Progress) -> Iterator[Finding]:
    """Every id must mean the same text to both models, or the drafter speak by translation."""
    target, drafter = engine.target, engine.drafter
    columns = target.model.vocab_size
    largest, rows = max(target.tokenizer.get_vocab().values()), target.model.prompt_vocab_size
    if largest >= rows:
        sentence = f"the tokenizer knows ids up to {largest}, the model 0 … {rows - 1}"
        yield Finding("vocabulary", "target", False, sentence, is_final=True)
        return
    if drafter is None:
        yield Finding("vocabulary", "target", True, f"{columns} columns; no draft model to compare")
        return
    differs = difference(target.tokenizer, drafter.tokenizer, (target.name, drafter.name))
    figures = {"target_columns": columns}
    if differs is None:
        ours, theirs = target.tokenizer.get_vocab(), drafter.tokenizer.get_vocab()
        figures["shared_tokens"] = len(ours.items() & theirs.items())
        sentence = f"{figures['shared_tokens']} tokens alike, {columns} columns"
    elif isinstance(target.model, Seq2SeqModel):  # its encoder reads tokens of one kind
        yield Finding("vocabulary", "both models", False, differs, figures, is_final=True)
        return
    else:
        figures["shared_tokens"] = len(Translation(target.tokenizer, drafter.tokenizer).shared)
        sentence = (
            f"other tokenizers, {figures['shared_tokens']} tokens spelled alike: drafts are "
            f"translated; {columns} columns"
        )
    yield Finding("vocabulary", "both models", True, sentence, figures)


# --- cache parity ---------------------------------------------------------------------------------


def check_caches(engine: Engine, plan: Plan, progress: Progress) -> Iterator[Finding]:
    """After every round, cached logits must be those of a pass over the whole prefix."""
    method = "speculative" if plan.needs_drafter else "ngram"
    noted = {"target": Noted(engine.target.model, "target")}
    target = replace(engine.target, model=noted["target"])
    drafter = engine.drafter if plan.needs_drafter else None
    if drafter is not None and not isinstance(drafter.model, HeadModel):  # it has no text alone
        noted["drafter"] = Noted(drafter.model, "drafter")
        drafter = replace(drafter, model=noted["drafter"])
    config = plan.config(method, sampler=plan.sampler)
    parts = Engine(target, drafter).speculation(method, config)
    gaps: dict[str, list[tuple[float, float]]] = {role: [] for role in noted}
    prompts = plan.prompts_for(engine.target.model)
    try:
        for done, prompt in enumerate(prompts):
            progress("cache parity", done, len(prompts))
            for model in noted.values():
                model.notes = []
            _decode(parts, engine.encode(prompt), plan.length, plan.seed)
            for role, model in noted.items():
                gaps[role] += _gaps(model)
    except KeyboardInterrupt:
        yield from (_cache_finding(role, found) for role, found in gaps.items() if found)
        raise
    yield from (_cache_finding(role, found) for role, found in gaps.items())


def _cache_finding(role: str, found: list[tuple[float, float]]) -> Finding:
    if not found:
        return Finding(
            "cache parity", role, None, "no pass was made: no prompt was short enough for it"
        )
    share, gap = max(found)
    sentence = f"{len(found)} cached passes against whole ones: logits "
    if isfinite(share):
        sentence += f"differ by at most {gap:.2g}, {share:.2g} of what rounding explains"
    else:
        sentence += "are not finite; load the model in another precision, or repair its weights"
    figures = {
        "passes": len(found),
        "largest_difference": gap if isfinite(gap) else None,
        "share_of_rounding": share if isfinite(share) else None,
    }
    return Finding(
        "cache parity", role, share <= 1, sentence, figures, is_final=not isfinite(share)
    )


def _gaps(model: Noted) -> list[tuple[float, float]]:
    """Return each pass's largest difference, as a share of what rounding explains and in logits."""
    found = []
    for note in model.notes:
        cached = note.logits
        whole = model.inner.open(note.prompt).extend(note.tokens, len(cached))
        gap = (cached.double() - whole.double()).abs()
        gap[(cached == whole) & (cached < inf)] = 0.0  # −∞ on both sides
        largest, rounding = float(gap.max()), model.inner.rounding(whole)  # of NaN, NaN
        share = largest / rounding if rounding else inf
        found.append((share, largest) if isfinite(share) else (inf, inf))
    return found


# --- greedy parity --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """One prompt's greedy output beside that of plain decoding."""

    prompt: str
    difference: Difference | None
    num_drafted: int


def check_greedy(engine: Engine, plan: Plan, progress: Progress) -> Iterator[Finding]:
    """Greedy speculation must give the tokens of plain decoding, or differ by a near-tie."""
    target = engine.target.model
    texts = plan.prompts_for(target)
    prompts = [engine.encode(text) for text in texts]
    baselines = []
    for done, prompt in enumerate(prompts):
        progress("plain decoding", done, len(prompts))
        baselines.append(_plain(target, prompt, plan.length))
    near_tie = max(_near_tie_below(target, prompt) for prompt in prompts)
    for done, (method, rule) in enumerate(plan.pairs):
        parts = engine.speculation(METHODS[method][0], plan.config(method, sampler="greedy"))
        parts = replace(parts, verifier=plan.verifier(rule))
        subject, found = f"{method} · {rule}", list[Compared]()
        try:
            for text, prompt, baseline in zip(texts, prompts, baselines, strict=True):
                total = len(prompts) * len(plan.pairs)
                progress("greedy parity", done * len(prompts) + len(found), total)
                ours, num_drafted = _decode(parts, prompt, plan.length, plan.seed)
                difference = first_difference(target, prompt, ours, baseline)
                found.append(Compared(text, difference, num_drafted))
        except KeyboardInterrupt:
            if found:
                yield _greedy_finding(subject, plan, found, near_tie)
            raise
        yield _greedy_finding(subject, plan, found, near_tie)


def _greedy_finding(subject: str, plan: Plan, found: list[Compared], near_tie: float) -> Finding:
    differing = [(c.prompt, c.difference) for c in found if c.difference]
    bugs = [(p, d) for p, d in differing if not d.is_near_tie]
    undrafted = [c.prompt for c in found if not c.num_drafted]
    sentence = f"{len(found)} prompts, up to {plan.length} tokens each: "
    if differing:
        prompt, first = (bugs or differing)[0]
        sentence += f"{len(differing) - len(bugs)} near-ties, {len(bugs)} bugs; {prompt!r} differs "
        sentence += f"first at token {first.position}, " + _margin(first)
    elif undrafted:
        sentence += nothing_drafted(undrafted)
    else:
        sentence += "all equal to plain decoding "
        sentence += f"(a logit margin up to about {near_tie:.1g} would count as a near-tie)"
    figures = {
        "prompts": len(found),
        "drafted_tokens": sum(c.num_drafted for c in found),
        "near_tie_below": near_tie if isfinite(near_tie) else None,
        "differences": [{"prompt": prompt} | found.to_dict() for prompt, found in differing],
    }
    passed = False if bugs else None if undrafted else True
    return Finding("greedy parity", subject, passed, sentence, figures)


def nothing_drafted(prompts: list[str]) -> str:
    """Return a sentence about prompts at which there was nothing to verify."""
    return (
        f"nothing was drafted for {len(prompts)} of the prompts ({prompts[0]!r}), so nothing was "
        "verified there; give shorter prompts"
    )


def _margin(difference: Difference) -> str:
    if difference.logit_margin is None:
        return "where one output ends"
    return (
        f"logit margin {difference.logit_margin:.2g} "
        f"(a near-tie up to {difference.near_tie_below:.2g})"
    )


def _near_tie_below(target: Network, prompt: list[int]) -> float:
    """Return the margin up to which rounding may decide after this prompt."""
    context = target.open(prompt)
    return 2 * target.rounding(context.extend(context.begin))


def _plain(target: Network, prompt: list[int], length: int) -> list[int]:
    """Follow plain decoding to its length; no token ends it."""
    request = Request(target.open(prompt), Rng(0), max_new_tokens=length)
    for _ in autoregressive_steps(request, GreedySampler()):
        pass
    return request.output


def _decode(parts: Speculation, prompt: list[int], length: int, seed: int) -> tuple[list[int], int]:
    """Return the output, and how many tokens were drafted for it."""
    rng = rng_for(seed, keyed=parts.is_coupled)
    request = Request(parts.target.open(prompt), rng, max_new_tokens=length)
    drafted = sum(len(record.drafted) for record in speculative_steps(parts, request))
    return request.output, drafted
