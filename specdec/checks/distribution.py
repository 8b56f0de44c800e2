"""The distribution test: many short generations, counted and compared with the target's own law.

A sample is one generation of gamma + 1 tokens through the real loop: a whole block, its bonus token
included. For each prompt the likeliest texts are a cell each and all others are one; the counts are
compared with the target's probabilities by a chi-square test over all prompts. What the target
cannot say at all must never come.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from specdec.checks.remembered import Remembered, Tokens
from specdec.checks.report import METHODS, SAMPLED_PROMPTS, Finding, Plan, Progress
from specdec.checks.statistics import chi_square, detectable_total_variation, p_value
from specdec.decoding import Sequence, Speculation, speculative_steps
from specdec.engine import Engine
from specdec.sampling import Sampler, rng_for
from specdec.text import encode_prompt

CELLS = 12  # a prompt, the one of all other texts included: fewer find smaller biases
LEAST_EXPECTED = 10.0  # samples in a cell; below it the chi-square law is a poor approximation
REPORT_EVERY = 100  # samples
SHOWN = 3  # cells named when a test fails


@dataclass(frozen=True)
class Cells:
    """The law of one prompt's texts, cut into cells.

    Attributes:
        texts: texts that are a cell of their own.
        chances: their probabilities under the target.
    """

    texts: tuple[Tokens, ...]
    chances: tuple[float, ...]

    def counts(self, counted: Counter[Tokens]) -> tuple[list[int], list[float]]:
        """Return observed and expected counts; the last cell holds all other texts."""
        samples = counted.total()
        observed = [counted[text] for text in self.texts]
        expected = [samples * chance for chance in self.chances]
        observed.append(samples - sum(observed))
        expected.append(samples - sum(expected))
        while len(expected) > 1 and min(expected[-2:]) < LEAST_EXPECTED:  # texts descend
            observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
        return observed, expected


class Law:
    """What the target says after each prefix, under the sampler.

    Args:
        target: remembers the logits that the generations have seen.
        sampler: decides the distribution.
    """

    def __init__(self, target: Remembered, sampler: Sampler) -> None:
        self._target, self._sampler = target, sampler

    def cells(self, begin: Tokens, length: int) -> Cells:
        """Return the likeliest texts of `length` tokens after `begin`, best first."""
        found: list[tuple[Tokens, float]] = []
        heap: list[tuple[float, Tokens]] = [(-1.0, ())]
        while heap and len(found) < CELLS - 1:
            chance, text = heapq.heappop(heap)
            if len(text) == length:
                found.append((text, -chance))
                continue
            probs = self._probs(begin + text)
            values, tokens = probs.topk(min(CELLS, len(probs)))
            for p, token in zip(values.tolist(), tokens.tolist(), strict=True):
                if p > 0:
                    heapq.heappush(heap, (chance * p, (*text, token)))
        return Cells(tuple(t for t, _ in found), tuple(chance for _, chance in found))

    def forbids(self, begin: Tokens, text: Tokens) -> bool:
        """Whether the target never says `text`; judged only where its logits were remembered."""
        for i, token in enumerate(text):
            prefix = begin + text[:i]
            if self._target.remembers(prefix) and float(self._probs(prefix)[token]) == 0:
                return True
        return False

    def _probs(self, tokens: Tokens) -> Tensor:
        return self._sampler.probs(self._target.rows(tokens, 1))[0].double()  # [vocab]


def check_distribution(engine: Engine, plan: Plan, progress: Progress) -> Iterator[Finding]:
    """Sampled output must have the target's distribution, with every method and verifier.

    Interrupted, it yields what the samples so far can say.
    """
    remembering = Engine(
        replace(engine.target, model=Remembered(engine.target.model)),
        engine.drafter and replace(engine.drafter, model=Remembered(engine.drafter.model)),
    )
    level = plan.level / len(plan.pairs)
    for method, rule in plan.pairs:
        config = plan.config(method, sampler=plan.sampler, gamma=plan.gamma)
        parts = remembering.speculation(METHODS[method][0], config)
        run = Sampling(replace(parts, verifier=plan.verifier(rule)), engine, plan)
        subject, interrupted = f"{method} · {rule}", False
        try:
            for done in run.samples():
                progress(f"distribution, {subject}", done, plan.samples)
        except KeyboardInterrupt:
            interrupted = True
        if run.num_samples:
            yield run.finding(subject, level)
        if interrupted:
            raise KeyboardInterrupt


class Sampling:
    """The samples of one method and verifier.

    Args:
        parts: what decodes; its target is `Remembered`.
        engine: for its tokenizer.
        plan: how many samples, from which prompts.
    """

    def __init__(self, parts: Speculation, engine: Engine, plan: Plan) -> None:
        self.parts, self.plan = parts, plan
        self._tokenizer = engine.target.tokenizer
        prompts = plan.prompts[:SAMPLED_PROMPTS]
        self._prompts = [encode_prompt(self._tokenizer, prompt) for prompt in prompts]
        self._counted: list[Counter[Tokens]] = [Counter() for _ in self._prompts]

    @property
    def num_samples(self) -> int:
        """Samples so far."""
        return sum(counted.total() for counted in self._counted)

    def samples(self) -> Iterator[int]:
        """Draw all samples, the prompts in turn; yield now and then how many there are."""
        target, keyed = self.parts.target, self.parts.verifier.is_coupled
        for i in range(self.plan.samples):
            if i % REPORT_EVERY == 0:
                yield i
            which = i % len(self._prompts)
            sequence = Sequence(
                target.start(self._prompts[which]),
                max_new_tokens=self.plan.gamma + 1,
                max_length=target.max_length,
            )
            rng = rng_for(self.plan.seed + i, keyed=keyed)
            for _ in speculative_steps(self.parts, sequence, rng):
                pass
            self._counted[which][tuple(sequence.output)] += 1

    def finding(self, subject: str, level: float) -> Finding:
        """Return what the samples so far say, at this level."""
        target = self.parts.target
        assert isinstance(target, Remembered)
        law = Law(target, self.parts.sampler)
        statistic, dof, gap = 0.0, 0, 0.0
        surprises: list[tuple[float, str]] = []
        forbidden = 0
        for prompt, counted in zip(self._prompts, self._counted, strict=True):
            begin = tuple(target.start(prompt))
            length = min(self.plan.gamma + 1, target.max_length - len(begin))
            cells = law.cells(begin, length)
            observed, expected = cells.counts(counted)
            statistic += chi_square(observed, expected) if len(expected) > 1 else 0.0
            dof += len(expected) - 1
            gap += sum(abs(o - e) for o, e in zip(observed, expected, strict=True)) / 2
            surprises += self._surprises(cells, observed, expected)
            forbidden += sum(n for text, n in counted.items() if law.forbids(begin, text))
        figures = {
            "samples": self.num_samples,
            "statistic": statistic,
            "degrees_of_freedom": dof,
            "p_value": p_value(statistic, dof) if dof else None,
            "level": level,
            "observed_total_variation": gap / self.num_samples,
            "detectable_total_variation": detectable_total_variation(self.num_samples, dof, level),
            "impossible_texts": forbidden,
        }
        return _judged(subject, figures, [words for _, words in sorted(surprises)[-SHOWN:][::-1]])

    def _surprises(
        self, cells: Cells, observed: list[int], expected: list[float]
    ) -> list[tuple[float, str]]:
        """Return each text's share of the statistic, and a sentence about it."""
        found = []
        for text, o, e in zip(cells.texts, observed[:-1], expected[:-1], strict=False):
            shown = self._tokenizer.decode(list(text))
            found.append(((o - e) ** 2 / e, f"{shown!r} came {o} times instead of {e:.0f}"))
        return found


def _judged(subject: str, figures: dict[str, Any], surprises: list[str]) -> Finding:
    p, samples = figures["p_value"], figures["samples"]
    if figures["impossible_texts"]:
        sentence = f"{figures['impossible_texts']} of {samples} texts the target never says"
        return Finding("distribution", subject, False, sentence, figures)
    if p is None:
        sentence = f"{samples} samples are too few to compare anything"
        return Finding("distribution", subject, None, sentence, figures)
    passed = p >= figures["level"]
    if passed:
        sentence = (
            f"p = {p:.3g} with {samples} samples; a total variation of "
            f"{figures['detectable_total_variation']:.3f} would have been found"
        )
    else:
        sentence = (
            f"p = {p:.2g} < {figures['level']:.2g} with {samples} samples; total variation about "
            f"{figures['observed_total_variation']:.3f}: {'; '.join(surprises)}"
        )
    return Finding("distribution", subject, passed, sentence, figures)
